"""Rows that `cloud.saving` writes are as Django's `save` would have left them."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import JSONField, Value
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from cloud.events.models import Event
from cloud.operations.models import Operation
from cloud.saving import insert, update
from compute.models import Instance
from tests import factories

pytestmark = pytest.mark.django_db
TEXTS = ["", "it's", "100 %s %% %(name)s", "\\", "名", '{"a": 1}']


def kept(row, *but):
    """What the database has of a row."""
    fresh = type(row).objects.get(pk=row.pk)
    return {name: value for name, value in vars(fresh).items() if not name.startswith("_") and name not in but}


def new_instance(**facts):
    flavor, image = factories.flavor(f"flavor-{uuid4()}"), factories.image(f"image-{uuid4()}")
    size = {"vcpus": 1, "memory_mib": 2, "disk_gib": 3}
    given = {"project": factories.project(), "flavor": flavor, "image": image, "created_by": "mia", **size, **facts}
    return Instance(name="web", **given)


@pytest.mark.parametrize("text", TEXTS)
def test_a_new_row_is_as_django_would_have_saved_it(text):
    ours = new_instance(user_data=text, labels={"a": text}, keypairs=[{"name": text}], boot_files=[])
    own = ("id", "created_at")
    theirs = Instance(**{field.attname: getattr(ours, field.attname) for field in Instance._meta.concrete_fields})
    theirs.pk, theirs.name = uuid4(), "web2"
    assert insert(ours)
    theirs.save(force_insert=True)
    assert kept(ours, *own) | {"name": "web2"} == kept(theirs, *own)
    assert not ours._state.adding
    assert ours.created_at == Instance.objects.get(pk=ours.pk).created_at


def test_what_the_database_gives_is_known_to_the_row():
    event = Event(action="a.b.c", subject_type="b", subject_id="1", actor="x", after=Value({"%s": 1}, JSONField()))
    insert(event)
    found = Event.objects.get(pk=event.pk)
    for field in Event._meta.fields:
        assert getattr(event, field.attname) == getattr(found, field.attname), field
    assert event.after == {"%s": 1}


def test_a_value_may_be_an_expression():
    facts = Value({"at": timedelta(1)}, JSONField(encoder=DjangoJSONEncoder))
    event = Event(action="a.b.c", subject_type="b", subject_id="1", actor="x", before=facts)
    insert(event)
    assert Event.objects.get().before == {"at": "P1DT00H00M00S"}
    assert Event.objects.get().after is None
    assert Event.objects.filter(after__isnull=True).exists(), "null, and not JSON's null"


def live_operation(subject, **facts):
    return Operation(
        kind="k", subject_type="thing", subject_id=subject, subject_name="x", step="s", deadline_at=Now(), **facts
    )


def test_a_row_that_another_one_stands_in_the_way_of_is_not_saved():
    subject, live = uuid4(), "(subject_type, subject_id) WHERE finished_at IS NULL"
    assert insert(live_operation(subject), unless=live)
    assert not insert(live_operation(subject), unless=live)
    with pytest.raises(IntegrityError), transaction.atomic():
        insert(live_operation(subject))
    assert Operation.objects.count() == 1


@pytest.mark.parametrize("text", TEXTS)
def test_fields_are_written_and_others_are_not(text):
    operation = live_operation(uuid4())
    insert(operation)
    operation.reason, operation.history, operation.waits_for = text, [{"reason": text}], ["a:b", text]
    operation.due_at, operation.step = Now() + timedelta(hours=1), "other"
    update(operation, "reason", "history", "waits_for", "due_at")
    found = Operation.objects.annotate(now=Now()).get()
    assert (found.reason, found.history, found.waits_for) == (text, [{"reason": text}], ["a:b", text])
    assert timedelta(minutes=59) < found.due_at - found.now <= timedelta(hours=1)
    assert found.step == "s"
    update(operation)
    assert Operation.objects.get().step == "other"


def test_a_row_that_is_gone_is_not_made_again():
    operation = live_operation(uuid4())
    insert(operation)
    Operation.objects.all().delete()
    with pytest.raises(DatabaseError):
        update(operation, "reason")
    assert not Operation.objects.exists()


def test_its_sql_is_the_same_each_time():
    operation = live_operation(uuid4())
    insert(operation)
    with CaptureQueriesContext(connection) as asked:
        for seconds in range(3):
            operation.due_at = Now() + timedelta(seconds=seconds)
            update(operation, "due_at")
    assert len({each["sql"].partition("(")[0] for each in asked}) == 1
