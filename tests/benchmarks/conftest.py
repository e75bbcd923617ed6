from tests.end_to_end.conftest import machine as machine  # noqa: PLC0414
from tests.servers import servers as servers  # noqa: PLC0414
