"""Every failure on a host says who can do something about it; what nobody has said is the operator's."""

import pytest

from agent.entries import Key
from agent.errors import NOBODY, OPERATOR, YOU, NoAnswer, Refused
from agent.orders import carefully
from storage.agent.inspection.common import Unfit

FAILURES = [
    (Refused("the host's disk is full"), OPERATOR),
    (Refused("its guest does not let go of it", fix_by=YOU), YOU),
    (Refused("it was in use for a moment", fix_by=NOBODY), NOBODY),
    (NoAnswer("the emulator did not answer"), OPERATOR),
    (OSError(28, "No space left on device"), OPERATOR),
    (KeyError("a fault of ours"), OPERATOR),
    (Unfit("This is no disk image."), YOU),
]


@pytest.mark.parametrize(("failure", "who"), FAILURES, ids=repr)
def test_a_report_says_who_can_fix_it(failure, who):
    def act():
        raise failure

    seen, facts = carefully(Key("thing", "one"), "ensure_present", act)
    assert (seen, facts["fix_by"]) == ("broken", who)
    assert facts["problem"]
