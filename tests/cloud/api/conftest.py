from tests.servers import servers as servers  # noqa: PLC0414
