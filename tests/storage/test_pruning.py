"""The blocks of backups against a model: no block that a backup has is ever lost, and none that no backup has stays.

`PILEUS_STEPS=1000 ./pileus test tests/storage/test_pruning.py` tries longer.
"""

import os
from uuid import uuid4

import pytest
from django.db.models.functions import Now
from hypothesis import HealthCheck
from hypothesis import settings as of_a_run
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from storage import backing_up, vault
from storage.agent.blocks import BLOCK_BYTES, BLOCKS_IN_PART, digest_of, pack
from storage.models import Backup, BackupBlock
from tests import factories

STEPS = int(os.environ.get("PILEUS_STEPS", "60"))
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(180 + STEPS)]
contents = st.lists(st.integers(0, 5), min_size=1, max_size=4)  # of the first blocks; 0: zeros


class BackupsAgainstModel(RuleBasedStateMachine):
    """`named`: what each backup says that it has; `missing`: what it was told to send, and has not sent yet."""

    project: object

    def __init__(self) -> None:
        super().__init__()
        Backup.objects.all().delete()
        backing_up.prune(self.project.pk)
        self.key = vault.keys_of(self.project.pk).digest
        self.named: dict[Backup, list[int]] = {}
        self.missing: dict[Backup, list[int]] = {}

    def block(self, number: int) -> bytes:
        return bytes([number]) * BLOCK_BYTES

    def any_of(self, data, backups):
        return data.draw(st.sampled_from(sorted(backups, key=lambda one: one.created_at)))

    @rule(numbers=contents)
    def begin(self, numbers):
        of = {"id": str(uuid4()), "name": "data"}
        facts = {"of": of, "size_gib": 1, "created_by": "alice", "copied_at": Now()}
        made = Backup.objects.create(project=self.project, name=factories.name("backup"), **facts)
        self.name(Backup.objects.get(pk=made.pk), numbers)

    @rule(data=st.data(), numbers=contents)
    @precondition(lambda self: self.missing)
    def begin_again(self, data, numbers):
        """Its host has begun anew, with what the volume has by now."""
        self.name(self.any_of(data, self.missing), numbers)

    def name(self, backup, numbers):
        digests = [digest_of(self.block(number), self.key) for number in numbers]
        digests += [""] * (BLOCKS_IN_PART - len(digests))
        self.missing[backup] = backing_up.note_part(backup, number=0, run=uuid4(), digests=digests)
        self.named[backup] = numbers

    @rule(data=st.data())
    @precondition(lambda self: any(self.missing.values()))
    def send(self, data):
        backup = self.any_of(data, [one for one, left in self.missing.items() if left])
        index = self.missing[backup].pop()
        backing_up.take_block(backup, index=index, packed=pack(self.block(self.named[backup][index])))

    @rule(data=st.data())
    @precondition(lambda self: self.missing)
    def finish(self, data):
        backup = self.any_of(data, self.missing)
        if not self.missing.pop(backup):
            Backup.objects.filter(pk=backup.pk).update(status="ready", finished_at=backup.created_at)
            return
        backup.parts.all().delete()  # as the workflow does when it fails
        del self.named[backup]
        backup.delete()

    @rule(data=st.data())
    @precondition(lambda self: self.named)
    def delete(self, data):
        backup = self.any_of(data, self.named)
        self.named.pop(backup)
        self.missing.pop(backup, None)
        backup.delete()

    @rule()
    def prune(self):
        backing_up.prune(self.project.pk)
        wanted = {digest_of(self.block(number), self.key) for numbers in self.named.values() for number in numbers}
        assert set(BackupBlock.objects.values_list("digest", flat=True)) <= wanted

    @invariant()
    def what_is_complete_can_be_read(self):
        for backup, numbers in self.named.items():
            if self.missing.get(backup):
                continue
            assert backing_up.lacking(backup) == 0, numbers
        for block in BackupBlock.objects.all():
            vault.verify(block)

    @invariant()
    def files_and_rows_are_the_same(self):
        there = {name.rpartition("/")[2] for name, _ in vault.place().files()}
        assert there == {str(pk) for pk in BackupBlock.objects.values_list("pk", flat=True)}


@pytest.fixture
def store(settings, tmp_path):
    settings.BACKUP_STORE = tmp_path
    return tmp_path


def test_pruning_loses_nothing_and_leaves_nothing(project, store):
    BackupsAgainstModel.project = project
    run_state_machine_as_test(
        BackupsAgainstModel,
        settings=of_a_run(
            max_examples=max(1, STEPS // 20), stateful_step_count=20, deadline=None, database=None, derandomize=True,
            suppress_health_check=list(HealthCheck), print_blob=False,
        ),
    )  # fmt: skip
