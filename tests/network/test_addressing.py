"""Which ranges and addresses are taken, and in which words others are refused."""

import pytest

from network import addressing


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.0.0.0", "Write it as address/prefix length"),
        ("10.0.0.0/33", "at most 32 bits"),
        ("fd00::/129", "at most 128 bits"),
        ("10.0.0.1/24", "The network is 10.0.0.0/24"),
        ("10.0.0.0/255.255.255.0", "Write it as"),
        ("fe80::%eth0/64", "Write it as"),
        ("::ffff:10.0.0.0/120", "Write 10.0.0.0"),
        ("10.0.0.0/2４", "Write it as"),
        ("10.0.0/24", "is not an IPv4 or IPv6 address"),
        ("010.0.0.0/24", "is not an IPv4 or IPv6 address"),
        ("", "Write it as"),
        ("/24", "Write it as"),
    ],
)
def test_what_is_no_network_is_refused_in_words(text, words):
    with pytest.raises(ValueError, match=words):
        addressing.read_network(text)


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "10.0.0.0/8", "fd00::/64"])
def test_networks_are_read(text):
    assert str(addressing.read_network(text)) == text


@pytest.mark.parametrize(
    "cidr",
    ["0.0.0.0/0", "::/0", "10.0.0.0/7", "10.0.0.0/31", "10.0.0.0/32", "224.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16",
     "240.0.0.0/8", "0.0.0.0/8", "fe80::/64", "ff00::/64", "fd00::/127", "fd00::/16", "::/64"],
)  # fmt: skip
def test_absurd_ranges_are_refused(cidr):
    assert addressing.fault_of_subnet(addressing.read_network(cidr))


@pytest.mark.parametrize("cidr", ["10.0.0.0/8", "192.168.0.0/30", "203.0.113.0/24", "fd00::/64", "2001:db8::/126"])
def test_sensible_ranges_are_taken(cidr):
    assert not addressing.fault_of_subnet(addressing.read_network(cidr))


def test_all_but_the_gateway_is_given_out():
    assert addressing.default_ranges("10.0.0.0/24", "10.0.0.1") == [{"first": "10.0.0.2", "last": "10.0.0.254"}]
    assert addressing.default_ranges("10.0.0.0/24", "10.0.0.100") == [
        {"first": "10.0.0.1", "last": "10.0.0.99"}, {"first": "10.0.0.101", "last": "10.0.0.254"},
    ]  # fmt: skip
    assert addressing.default_ranges("10.0.0.0/24", None) == [{"first": "10.0.0.1", "last": "10.0.0.254"}]
    assert addressing.default_ranges("fd00::/64", "fd00::1") == [
        {"first": "fd00::2", "last": "fd00::ffff:ffff:ffff:ffff"}
    ]
    assert addressing.size(addressing.default_ranges("10.0.0.0/30", "10.0.0.1")) == 1


def test_every_fault_of_a_plan_is_named():
    plan = {
        "cidr": "10.0.0.0/24",
        "gateway": "10.0.1.1",
        "allocation_ranges": [
            {"first": "10.0.0.20", "last": "10.0.0.10"},
            {"first": "10.0.0.0", "last": "10.0.0.9"},
            {"first": "10.0.0.30", "last": "10.0.0.40"},
            {"first": "10.0.0.40", "last": "10.0.0.50"},
        ],
        "dns": ["10.0.0.2", "fd00::1"],
        "routes": [
            {"destination": "192.168.0.0/16", "next_hop": "10.0.9.9"},
            {"destination": "fd00::/64", "next_hop": "10.0.0.7"},
            {"destination": "10.0.0.0/25", "next_hop": "10.0.0.7"},
            {"destination": "192.168.0.0/16", "next_hop": "10.0.0.7"},
        ],
    }
    assert [fault.pointer for fault in addressing.faults_of_plan(plan)] == [
        "/gateway", "/allocation_ranges/0", "/allocation_ranges/1", "/allocation_ranges/3", "/dns/1",
        "/routes/0/next_hop", "/routes/1/next_hop", "/routes/2/destination", "/routes/3/destination",
    ]  # fmt: skip


def test_a_gateway_in_an_allocation_range_is_refused():
    plan = {
        "cidr": "10.0.0.0/24",
        "gateway": "10.0.0.5",
        "allocation_ranges": [{"first": "10.0.0.1", "last": "10.0.0.9"}],
    }
    assert [fault.pointer for fault in addressing.faults_of_plan(plan)] == ["/allocation_ranges/0"]


def test_first_networks_of_projects_are_spread_over_the_range():
    assert addressing.nth_subnet("10.128.0.0/9", 24, 0) == "10.128.0.0/24"
    assert addressing.nth_subnet("10.128.0.0/9", 24, 2**15 - 1) == "10.255.255.0/24"
    assert addressing.nth_subnet("10.128.0.0/9", 24, 2**15 + 1) == "10.128.1.0/24"
