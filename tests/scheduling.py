"""Which tests stay in one worker of those that run side by side: they would wait too long for one another's processor.

pytest-xdist's own groups (`xdist_group`) are passed over in silence with pytest 9.2:
https://github.com/pytest-dev/pytest-xdist/issues/1386
"""

from xdist.scheduler import LoadScopeScheduling

UNICORN = "tests/compute/agent/unicorn"
# Whole clouds, of which one is made for all, and which share this host's addresses.
CLOUDS = (
    "consoles", "dashboard_vm", "faults", "faults_embedded", "images", "lifecycle", "one_machine", "upgrade",
    "without_qemu",
)  # fmt: skip
TOGETHER = {
    **{f"tests/end_to_end/test_{name}.py": "whole clouds" for name in CLOUDS},
    # One cuts off connections that have not signed in yet: that would meet those of another.
    "tests/cloud/hosts/test_redis_acl.py": "logins at Redis",
    **dict.fromkeys(("tests/storage/test_ceph.py", "tests/storage/test_ceph_in_a_guest.py"), "one Ceph cluster"),
    f"{UNICORN}/test_linux.py": "emulated guests",
    f"{UNICORN}/test_snapshots.py": "emulated guests",
}


# Files that have servers, browsers or hosts for all of their tests: to make those takes seconds, in each worker anew.
WHOLE = (
    "tests/cloud/api/test_slow_clients.py",
    "tests/cloud/api/test_wire.py",
    "tests/cloud/embedded/test_servers.py",
    "tests/cloud/streams/",
    "tests/end_to_end/",
    "tests/network/agent/",
    "tests/storage/api/test_fetching",
    "tests/storage/api/test_sending.py",
    "tests/test_generated_client.py",
)
APART = "tests/end_to_end/test_dashboard_pages.py"  # each of its tests takes a minute


class InGroups(LoadScopeScheduling):
    """Each test by itself, and what is together by what it is called there. What has the most tests comes first."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return TOGETHER.get(file, file if file.startswith(WHOLE) and file != APART else nodeid)
