from tests.end_to_end.conftest import machine, servers, static_files, web_and_streams  # noqa: F401
