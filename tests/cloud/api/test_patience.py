"""A database that stands still instead of answering: reached through a relay that can be stopped. And one that ends."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection
from django.db.utils import OperationalError

from cloud.api import patience
from cloud.database import base
from cloud.database.base import DatabaseWrapper


class Relay:
    """A Unix socket in front of the database's. Whatever passes while it stands still arrives later."""

    def __init__(self, directory: Path, server: tuple[str, int] | str) -> None:
        self.flows = threading.Event()
        self.flows.set()
        self._server = server
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / ".s.PGSQL.5432"))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX if isinstance(self._server, str) else socket.AF_INET)
                server.connect(self._server)
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError), source, target:
            while content := source.recv(65536):
                self.flows.wait()
                target.sendall(content)

    def close(self) -> None:
        self.flows.set()
        self._listener.close()


@pytest.fixture
def relay(db, tmp_path: Path) -> Iterator[Relay]:
    settings = connection.settings_dict
    host, port = settings["HOST"], settings["PORT"] or "5432"
    relay = Relay(tmp_path, f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host or "127.0.0.1", int(port)))
    yield relay
    relay.close()


@pytest.fixture
def through_relay(relay: Relay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatabaseWrapper]:
    monkeypatch.setattr(patience, "SECONDS", 0.5)
    patience.be_impatient()
    wrapper = DatabaseWrapper(connection.settings_dict | {"HOST": str(tmp_path), "PORT": "5432"}, connection.alias)
    yield wrapper
    patience.connection_created.disconnect(dispatch_uid=patience.__name__)
    wrapper.close()


def one(wrapper: DatabaseWrapper) -> int:
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
        return int(cursor.fetchone()[0])


def test_a_database_that_stands_still_is_given_up_and_taken_again_when_it_goes_on(relay, through_relay):
    assert one(through_relay) == 1
    relay.flows.clear()
    began = time.monotonic()
    with pytest.raises(OperationalError):
        one(through_relay)
    assert 0.5 <= time.monotonic() - began < 30
    assert not through_relay.is_usable()  # at once: there is nothing to ask any more
    through_relay.close_if_unusable_or_obsolete()
    relay.flows.set()
    assert one(through_relay) == 1


def test_what_the_database_refuses_costs_no_connection(through_relay):
    with through_relay.cursor() as cursor:
        cursor.execute("SET statement_timeout = '50ms'")
        with pytest.raises(OperationalError):
            cursor.execute("SELECT pg_sleep(5)")
    assert through_relay.is_usable()


@pytest.fixture
def own_connection(db) -> Iterator[DatabaseWrapper]:
    wrapper = DatabaseWrapper(connection.settings_dict | {"CONN_HEALTH_CHECKS": True}, connection.alias)
    wrapper.close_if_unusable_or_obsolete()
    yield wrapper
    wrapper.close()


@pytest.fixture
def asked(own_connection: DatabaseWrapper, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What the connection found each time that it was asked whether it works."""
    answers: list[bool] = []

    def ask() -> bool:
        answers.append(DatabaseWrapper.is_usable(own_connection))
        return answers[-1]

    monkeypatch.setattr(own_connection, "is_usable", ask)
    return answers


def a_request(wrapper: DatabaseWrapper) -> None:
    """As Django has it: at its begin, and at its end."""
    wrapper.close_if_unusable_or_obsolete()
    assert one(wrapper) == 1
    wrapper.close_if_unusable_or_obsolete()


def test_a_connection_that_has_just_answered_is_not_asked(own_connection, asked):
    for _ in range(3):
        a_request(own_connection)
    assert asked == []


def test_a_connection_that_was_silent_for_a_while_is_asked(own_connection, asked, monkeypatch):
    a_request(own_connection)
    monkeypatch.setattr(base, "TRUSTED_SECONDS", 0.0)
    a_request(own_connection)
    assert asked == [True]


def test_a_connection_that_the_server_ended_is_made_anew_at_once(own_connection, asked):
    a_request(own_connection)
    ended = own_connection.connection
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [ended.info.backend_pid])
    a_request(own_connection)
    assert asked == [False]
    assert own_connection.connection is not ended


def test_a_connection_with_an_error_is_asked(own_connection, asked):
    a_request(own_connection)
    own_connection.close_if_unusable_or_obsolete()
    with pytest.raises(OperationalError), own_connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = '1ms'; SELECT pg_sleep(5)")
    a_request(own_connection)
    assert asked == [True]
