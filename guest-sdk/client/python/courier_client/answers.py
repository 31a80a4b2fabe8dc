"""What a sender is told. Times are RFC 3339 with microseconds, as text."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Mapping, TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True)
class Receipt:
    """The answer to a message that was taken: it is durable."""

    id: str
    """The message's id, to ask for."""
    state: str
    """COMMITTED: Kafka has it, or the host until it is due. SEND_FAIL: see ``retrying``."""
    retrying: bool = False
    """Whether the host goes on trying by itself: Kafka was away, and the message
    goes out when it is back. There is nothing to do for the sender."""
    warning: str | None = None
    """Why nobody will handle it, when no group takes such messages."""


@dataclass(frozen=True)
class Attempt:
    """One run of a handler."""

    number: int
    counted: bool
    version: str | None
    node: str
    started_at: str
    finished_at: str
    verdict: str
    reason: str | None
    fingerprint: str | None
    log: str | None


@dataclass(frozen=True)
class Delivery:
    """One message for one group."""

    id: str
    message_id: str
    group: str
    topic: str
    partition: int
    offset: int
    state: str
    """COMMITTED, PUSH_FAIL, HANDLE_FAIL or HANDLED."""
    verdict: str | None
    reason: str | None
    fingerprint: str | None
    node: str | None
    received_at: str | None
    settled_at: str | None
    next_attempt_at: str | None
    """When it runs again; none means final, or that its turn has not come."""
    attempts: list[Attempt] = field(default_factory=list)


@dataclass(frozen=True)
class PlaceView:
    """Another message of the same id."""

    topic: str
    partition: int | None
    offset: int | None
    source: str | None
    time: str | None
    created_at: str | None
    state: str


@dataclass(frozen=True)
class MessageView:
    """A message and what became of it."""

    id: str
    topic: str
    kind: str
    time: str
    state: str
    """COMMITTED or SEND_FAIL."""
    type: str | None = None
    key: str | None = None
    key_base64: str | None = None
    """A key that is not text, instead of ``key``."""
    source: str | None = None
    reason: str | None = None
    """Why it is SEND_FAIL."""
    retrying: bool = False
    partition: int | None = None
    offset: int | None = None
    content_type: str | None = None
    headers: Mapping[str, Any] | None = None
    body: Any = None
    """A body that is JSON."""
    body_base64: str | None = None
    """Any other body."""
    body_missing: str | None = None
    """Why the body is not at hand."""
    deliver_at: str | None = None
    deliveries: list[Delivery] = field(default_factory=list)
    """One for each group; for each node of it if it is a broadcast."""
    warning: str | None = None
    also: list[PlaceView] = field(default_factory=list)
    """Other messages of the same id."""

    @classmethod
    def read(cls, wire: Mapping[str, Any]) -> MessageView:
        """The host's answer; a member of a newer host is passed over."""
        deliveries = [
            _read(Delivery, {**one, "attempts": [_read(Attempt, attempt) for attempt in one.get("attempts") or []]})
            for one in wire.get("deliveries") or []
        ]
        also = [_read(PlaceView, one) for one in wire.get("also") or []]
        return _read(cls, {**wire, "deliveries": deliveries, "also": also})


def _read(cls: type[_T], wire: Mapping[str, Any]) -> _T:
    names = {one.name for one in fields(cls)}  # type: ignore[arg-type]
    return cls(**{name: value for name, value in wire.items() if name in names})
