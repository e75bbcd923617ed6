"""What tests of hosts may ask for."""

from tests.hosts import control_plane, kernel_spec, node, obey, open_home, spec  # noqa: F401
