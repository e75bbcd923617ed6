"""The kinds of hypervisors that hosts may have, and what machines each takes."""

from dataclasses import dataclass

from storage.hardware import Hardware


@dataclass(frozen=True)
class Kind:
    """A kind without bounds takes whatever its host has room for. `is_plain`: it makes no machines but of the plain
    parts, see `Hardware.is_plain`. `takes_served`: it reaches volumes that other hosts serve.
    """

    name: str
    most_vcpus: int | None = None
    most_memory_mib: int | None = None
    is_plain: bool = False
    takes_served: bool = True

    def takes(self, *, vcpus: int, memory_mib: int) -> bool:
        return vcpus <= (self.most_vcpus or vcpus) and memory_mib <= (self.most_memory_mib or memory_mib)

    def makes(self, hardware: Hardware) -> bool:
        return hardware.is_plain or not self.is_plain


UNICORN = Kind("unicorn", most_vcpus=1, most_memory_mib=1024, is_plain=True, takes_served=False)
KINDS = {kind.name: kind for kind in (Kind("qemu"), UNICORN)}
