"""The kinds of hypervisors that hosts may have, and what sizes of machines each takes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind without bounds takes whatever its host has room for."""

    name: str
    most_vcpus: int | None = None
    most_memory_mib: int | None = None

    def takes(self, *, vcpus: int, memory_mib: int) -> bool:
        return vcpus <= (self.most_vcpus or vcpus) and memory_mib <= (self.most_memory_mib or memory_mib)


KINDS = {kind.name: kind for kind in (Kind("qemu"), Kind("unicorn", most_vcpus=1, most_memory_mib=1024))}
