"""Kombu's Redis transport, as one who only listens: it takes bells out of one queue and writes nothing.

A bell carries nothing, and a lost one costs seconds. So nothing is kept of those that were taken, nothing is put back,
and no script runs: a host's Redis login needs no command that could fill the server or stop it.
"""

from typing import Any

from kombu.transport import redis, virtual


class QoS(redis.QoS):  # type: ignore[misc]
    """Which bells are in hand is known to this process alone."""

    restore_at_shutdown = False

    def append(self, message: Any, delivery_tag: str) -> None:
        virtual.QoS.append(self, message, delivery_tag)  # type: ignore[no-untyped-call]

    def ack(self, delivery_tag: str) -> None:
        virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]

    def restore_unacked(self, client: Any = None) -> None:
        """There is nothing to put back."""

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """There is nothing to put back."""


class Channel(redis.Channel):  # type: ignore[misc]
    """The control plane knows the queue by its name: it is bound to nothing."""

    QoS = QoS

    def _queue_bind(self, *args: Any) -> None:
        """Nothing is bound."""


class Transport(redis.Transport):  # type: ignore[misc]
    """To be named as Celery's `broker_transport`."""

    Channel = Channel
