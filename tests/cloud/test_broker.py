"""The control plane's queue: whatever stands in it, the next message is read."""

import json

import pytest
from kombu import Connection, Consumer, Queue

from cloud.celery import app

UNREADABLE = (
    b"", b"no JSON", b"\xff\xfe", b"{", b"null", b"5", b"[]", b'"text"', b"{}", b'{"properties": 5, "body": "x"}',
    b'{"body": "x", "properties": {}, "headers": {}}', b'{"body": 5, "properties": {"delivery_tag": "1"}}',
    json.dumps({"body": "!", "properties": {"delivery_tag": "2", "body_encoding": "base64"}}).encode(),
)  # fmt: skip


@pytest.fixture
def connection():
    """As the control worker has it."""
    with app.connection_for_read() as connection:
        yield connection


@pytest.fixture
def queue(connection):
    queue = Queue("test-of-the-broker", routing_key="test-of-the-broker")
    yield queue
    queue(connection.default_channel).delete()


def hear(connection: Connection, queue: Queue, seconds: float = 60) -> list[object]:
    """Read until somebody says "end"."""
    heard: list[object] = []

    def listen(body: object, message: object) -> None:
        heard.append(body)
        message.ack()  # type: ignore[attr-defined]

    with Consumer(connection, [queue], callbacks=[listen], accept=["json"], on_decode_error=lambda *_: None):
        while "end" not in heard:
            try:
                connection.drain_events(timeout=seconds)
            except TimeoutError as late:
                raise AssertionError(f"only {heard} came") from late
    return heard


@pytest.mark.parametrize("content", UNREADABLE, ids=repr)
def test_a_message_that_nobody_can_read_does_not_end_the_worker(connection, queue, content):
    channel = connection.default_channel
    queue(channel).declare()
    channel.client.lpush(queue.name, content)
    connection.Producer().publish("end", routing_key=queue.name, serializer="json")
    assert hear(connection, queue) == ["end"]
