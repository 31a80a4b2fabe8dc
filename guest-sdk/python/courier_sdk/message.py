"""What a handler is sent and what it sends. The meaning of each field is that
of the contract."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .failures import Reject

if TYPE_CHECKING:
    from .context import Context

JSON = "application/json"


@dataclass
class Header:
    """One header. Names may repeat; a value may be any bytes, or absent."""

    name: str
    value: bytes | None = None


@dataclass
class Message:
    """A message as it stands in the log."""

    id: str = ""
    """Unique per source; `topic:partition:offset` for records without one."""
    key: bytes | None = None
    """The primary key: messages of one key are handled in order."""
    source: str = ""
    """The sending service; empty when unknown."""
    topic: str = ""
    type: str = ""
    """What happened, for example `OrderCreated`; empty when unknown."""
    kind: str = "event"
    """`event` or `broadcast`."""
    time: int = 0
    """When the sender says it happened, in microseconds since 1970."""
    content_type: str = ""
    body: bytes | None = None
    """The body as it came; None in a tombstone, a record without a value."""
    headers: list[Header] = field(default_factory=list)
    """All other headers, in the order of the record."""

    def header(self, name: str) -> bytes | None:
        """The value of the first header of this name."""
        return next((header.value for header in self.headers if header.name == name), None)

    def json(self, parse_float: Callable[[str], Any] = float) -> Any:
        """The body as JSON. One that is none is rejected: another attempt would
        read the same bytes. `parse_float=Decimal` keeps all digits of numbers."""
        if self.body is None:
            raise Reject("the message is a tombstone: it has no body")
        try:
            return json.loads(self.body, parse_float=parse_float, parse_constant=_no_constant)
        except (ValueError, RecursionError) as problem:
            raise Reject(f"body is not valid JSON: {problem}") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


@dataclass
class Attempt:
    """One invocation of the handler for one message."""

    group: str
    delivery: str
    """Identifies the delivery over all its attempts: a good idempotency key."""
    number: int
    """Counts invocations from 1, also those that used up no attempt."""
    counted: int
    """Attempts used up before this one."""
    max_attempts: int
    partition: int
    offset: int
    deadline: int
    """When the host ends this attempt, in microseconds since 1970."""

    def time_left(self) -> float:
        """Seconds for which the host will still wait at least."""
        return max(0.0, self.deadline / 1e6 - time.time())


@dataclass
class Outgoing:
    """A message to be published when the attempt succeeds."""

    topic: str
    type: str = ""
    key: bytes | None = None
    content_type: str = ""
    body: bytes | None = None
    headers: list[Header] = field(default_factory=list)

    def json(self) -> Any:
        """Reads the body back, as a test wants to."""
        return json.loads(self.body or b"null")


@dataclass
class Item:
    """One item of a batch: what was sent, and the context of its own attempt."""

    event: Any
    ctx: Context
