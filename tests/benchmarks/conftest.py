"""What benchmarks share with tests: the fixtures of both, under their own names."""

from tests.compute.agent.unicorn.conftest import make_linux, riscv_linux
from tests.end_to_end.conftest import machine, servers, static_files

__all__ = ["machine", "make_linux", "riscv_linux", "servers", "static_files"]
