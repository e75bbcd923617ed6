"""What differs between the architectures that an image can be built for: one row each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """One row. Modules are named without `.ko`; their dependencies are found by themselves."""

    name: str  # as QEMU and the API say it
    debian: str  # as Debian says it
    kernel_package: str  # the meta package that depends on the current kernel
    console: str
    unpack_kernel: bool  # whether to take the kernel out of its self-extracting file (bzimage.py)
    root_modules: tuple[str, ...]  # needed to reach the root disk: in the initramfs
    boot_modules: tuple[str, ...]  # loaded at every boot
    spare_modules: tuple[str, ...] = ()  # on the disk, loaded by the kernel when wanted
    kernel_parameters: tuple[str, ...] = ()
    other_suites: tuple[str, ...] = ()  # tried in order when the running release lacks this architecture
    hypervisors: tuple[str, ...] = ("qemu",)  # which of ours run it, the better ones first


_BOOT_MODULES = ("evdev", "virtio_net", "virtio_rng", "virtio_scsi", "sr_mod", "isofs")
_SPARE_MODULES = (
    "sd_mod", "vfat", "nls_cp437", "nls_ascii", "nls_iso8859-1", "nls_utf8", "virtio_balloon", "virtio_console",
    "qemu_fw_cfg", "loop", "tun", "virtio_mem", "vmw_vsock_virtio_transport", "8021q",
)  # fmt: skip

ARCHITECTURES = {
    row.name: row
    for row in (
        Architecture(
            name="x86_64",
            debian="amd64",
            kernel_package="linux-image-cloud-amd64",
            console="ttyS0",
            unpack_kernel=True,
            root_modules=("virtio_pci", "virtio_blk"),
            boot_modules=("button", *_BOOT_MODULES),
            spare_modules=_SPARE_MODULES,
            # Its self-tests are a tenth of the kernel's boot under emulation. On a busy host an emulated timer may come
            # too late for the kernel's test of it, which then panics.
            kernel_parameters=("cryptomgr.notests", "no_timer_check"),
        ),
        Architecture(
            name="aarch64",
            debian="arm64",
            kernel_package="linux-image-cloud-arm64",
            console="ttyAMA0",
            unpack_kernel=False,
            root_modules=("virtio_pci", "virtio_mmio", "virtio_blk"),
            boot_modules=("button", *_BOOT_MODULES),
            spare_modules=_SPARE_MODULES,
            kernel_parameters=("cryptomgr.notests",),
        ),
        Architecture(
            name="riscv64",
            debian="riscv64",
            kernel_package="linux-image-riscv64",
            console="ttyS0",
            unpack_kernel=False,
            root_modules=("virtio_pci", "virtio_mmio", "virtio_blk", "ext4"),
            boot_modules=("virtio_input", *_BOOT_MODULES),  # the power button: a keyboard with that key
            spare_modules=_SPARE_MODULES,
            # Without the first Debian's kernel keeps 128 MiB for devices that no guest has. Without the last it watches
            # all the time which memory is used: nobody here asks, and an emulator pays for it.
            kernel_parameters=("cma=0", "cryptomgr.notests", "damon_stat.enabled=0"),
            # Debian 13's kernel (6.12) was seen to stand still at its start under the embedded emulator, now and then.
            other_suites=("forky", "trixie", "sid"),
            hypervisors=("qemu", "unicorn"),
        ),
    )
}
