from tests.end_to_end.conftest import machine, servers, static_files  # noqa: F401
