"""Where a joined host finds its control plane."""

import pytest

from agent.membership import Membership

JOINED = Membership("http://c", "1", "node1", "t", "redis://h-1:p%40ss@10.0.0.1:6379/0", "h:1:", "host.1")


def test_the_broker_moves_and_the_hosts_credentials_stay():
    moved = JOINED.at_broker("redis://10.0.0.2:6390/1")
    assert moved.redis_url == "redis://h-1:p%40ss@10.0.0.2:6390/1"
    assert moved.broker == "redis://10.0.0.2:6390/1"
    assert JOINED.at_broker(JOINED.broker) == JOINED


def test_options_of_the_old_address_stay_unless_there_are_new_ones():
    joined = JOINED.at_broker("rediss://[::1]:6379/0?ssl_cert_reqs=required")
    assert (
        joined.at_broker("rediss://broker:6379/0").redis_url
        == "rediss://h-1:p%40ss@broker:6379/0?ssl_cert_reqs=required"
    )


@pytest.mark.parametrize("url", ["", "10.0.0.2", "http://10.0.0.2/", "redis://"])
def test_what_is_no_redis_is_refused(url):
    with pytest.raises(ValueError):
        JOINED.at_broker(url)
