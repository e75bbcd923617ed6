"""Emptying a host, so that it can be switched off."""

from datetime import timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db import transaction

from cloud.events.services import Actor, record
from cloud.hosts import services as hosts
from cloud.hosts.models import Host
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.operations.workflow import DONE, Topic, Verdict, Wait, Workflow
from cloud.problems import Problem
from compute import draining, services
from compute.draining import DRAIN, VOLUME, Found
from compute.models import Instance
from compute.services.moving import move
from storage.models import Volume
from storage.services import moving

AT_ONCE = 2  # moves that are under way: they share the source's disk and the way through the control plane
LOOK_AGAIN_SECONDS = 20
STOP, MOVE, START = "stop", "move", "start"


class Drain(Workflow):
    """Moves one after the other, each by an operation of its own, and waits for those.

    `parameters`: {"restart", "going": {key: {"phase", "runs", "operation", …}}, "stays": {key: what and why},
    "moved": n}. A key is a type and an id.
    """

    kind = DRAIN
    subject_type = "host"
    first = "move_next"
    patience = timedelta(days=7)

    @cached_property
    def host(self) -> Host:
        return Host.objects.get(pk=self.operation.subject_id)

    @cached_property
    def actor(self) -> Actor:
        return Actor(self.operation.requested_by, self.operation.requested_by_id)

    @property
    def going(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self.operation.parameters.setdefault("going", {})
        return found

    @property
    def stays(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = self.operation.parameters.setdefault("stays", {})
        return found

    def move_next(self) -> Verdict:
        """Look after what is under way, and begin with what is next."""
        self._look()
        found = draining.found_on(self.host, restart=self.operation.parameters["restart"])
        for one in found:
            if one.key in self.going:
                continue
            if one.stays:
                self.stays[one.key] = one.told()
            elif len(self.going) < AT_ONCE and one.key not in self.stays:
                self._begin(one)
        left = [one for one in found if not one.stays and one.key not in self.stays]
        moved = self.operation.parameters.get("moved", 0)
        self.progress(moved, moved + len({one.key for one in left} | set(self.going)), "moves")
        return self._wait() or DONE

    def _wait(self) -> Wait | None:
        if not self.going:
            return None
        names = ", ".join(sorted(one["name"] for one in self.going.values()))
        topics = tuple(Topic(one["type"], UUID(one["id"])) for one in self.going.values())
        return Wait(LOOK_AGAIN_SECONDS, because=f"moving {names}", on=topics)

    def _begin(self, one: Found) -> None:
        self.going[one.key] = {**one.told(), "runs": one.runs, "phase": STOP if one.runs else MOVE}
        self._do(one.key)

    def _do(self, key: str) -> None:
        """Begin the phase that something is in. What refuses stays, with its words."""
        one = self.going[key]
        try:
            with transaction.atomic():
                one["operation"] = str(self._start(one).pk)
        except Problem as problem:
            if one["phase"] == MOVE and one["runs"]:  # it goes on where it is
                one["phase"], one["why"] = START, problem.detail
                self._do(key)
            else:
                self._leave(key, one["why"] or problem.detail)

    def _start(self, one: dict[str, Any]) -> Operation:
        if one["type"] == VOLUME:
            volume = Volume.objects.select_related("active__host", "project").get(pk=one["id"])
            return moving.move(volume=volume, actor=self.actor)
        instance = Instance.objects.select_related("machine__host", "image", "project").get(pk=one["id"])
        if one["phase"] == STOP:
            return services.stop(instance=instance, actor=self.actor)
        if one["phase"] == START:
            return services.start(instance=instance, actor=self.actor)
        return move(instance=instance, actor=self.actor)

    def _look(self, *, further: bool = True) -> None:
        """What has come to the end of a phase goes on with the next one; not `further`: only home again."""
        for key, one in list(self.going.items()):
            operation = Operation.objects.filter(pk=one["operation"]).first()
            if operation is not None and operation.finished_at is None:
                continue
            failed = operation is None or operation.outcome != "done"
            if failed and one["phase"] != START:
                one["why"] = (operation.reason if operation else "") or "It could not be moved."
            if one["phase"] == STOP and not failed and further:
                one["phase"] = MOVE
            elif one["phase"] in (STOP, MOVE) and one["runs"]:
                one["phase"] = START  # there, or where it was
            else:
                self._end(key)
                continue
            self._do(key)

    def _end(self, key: str) -> None:
        one = self.going[key]
        if one["why"]:
            self._leave(key, one["why"])
        else:
            self.going.pop(key)
            self.operation.parameters["moved"] = self.operation.parameters.get("moved", 0) + 1

    def _leave(self, key: str, why: str) -> None:
        one = self.going.pop(key)
        self.stays[key] = {name: one[name] for name in ("type", "id", "name", "project")} | {"why": why}

    def give_up(self) -> Verdict:
        return self.stop_moving

    def stop_moving(self) -> Verdict:
        """End what is under way; what was stopped for it is started again where it is. The host stays cordoned."""
        for one in self.going.values():
            if one["phase"] == MOVE and one.get("operation"):
                try:
                    with transaction.atomic():
                        engine.cancel(UUID(one["operation"]), actor=self.actor)
                except (engine.NotCancelable, engine.OperationFinished, Operation.DoesNotExist):
                    continue
        self._look(further=False)
        return self._wait() or DONE


def drain(*, host: Host, actor: Actor, restart: bool = False) -> Operation:
    """Cordon a host, and move to others what is stopped there, and volumes that are attached to nothing. With `restart`
    what runs is stopped, moved and started again. Raises Busy.
    """
    operation = engine.start(Drain, host, actor=actor, parameters={"restart": restart})
    if host.enabled:
        hosts.update(host, actor=actor, enabled=False)
    record("hosts.host.drain", host, actor=actor, after={"restart": restart})
    return operation


def planned(host: Host, *, restart: bool) -> dict[str, Any]:
    """What would move, and what would stay and why."""
    found = draining.found_on(host, restart=restart)
    moves = [{**one.told(), "restarts": one.runs} for one in found if not one.stays]
    return {"moves": moves, "stays": [one.told() for one in found if one.stays]}
