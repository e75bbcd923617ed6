"""Which tests stay in one worker of those that run side by side: they would wait too long for one another's processor.

pytest-xdist's own groups (`xdist_group`) are passed over in silence with pytest 9.2:
https://github.com/pytest-dev/pytest-xdist/issues/1386
"""

from xdist.scheduler import LoadScopeScheduling

UNICORN = "tests/compute/agent/unicorn"
TOGETHER = {
    f"{UNICORN}/test_linux.py": "emulated guests",
    f"{UNICORN}/test_snapshots.py": "emulated guests",
}


class InGroups(LoadScopeScheduling):
    """Each test by itself, and what is together by what it is called there."""

    def _split_scope(self, nodeid: str) -> str:
        return TOGETHER.get(nodeid.partition("::")[0], nodeid)
