"""A message that is about to be sent."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Mapping, Sequence, TypeVar, Union

from .errors import InvalidError

HeaderValue = Union[str, bytes, None]
"""A header's value: text, bytes, or none."""

_EVENT = "__courier_event__"
_T = TypeVar("_T")


@dataclass(frozen=True)
class Message:
    """A message as a service writes it."""

    topic: str
    """Where it goes."""
    type: str
    """What happened, for example ``OrderCreated``."""
    body: Any
    """Any value that JSON has, a dataclass, or bytes."""
    key: str | bytes | None = None
    """The primary key: messages of one key are handled in order."""
    id: str | None = None
    """An id of the service's own, such as that of the order it is about: then
    a service that forgot whether it sent the message may send it again.
    Without one the publisher chooses one before it sends."""
    content_type: str | None = None
    """The media type of the body; JSON's, or that of bytes, unless given."""
    headers: Mapping[str, HeaderValue | Sequence[HeaderValue]] = field(default_factory=dict)
    """Further headers, by name; a list for a name that repeats."""
    kind: str = "event"
    """``broadcast`` lets every node of each group handle it."""
    delay: timedelta | None = None
    """Delivers it no sooner than so long after the host took it."""
    deliver_at: datetime | None = None
    """Delivers it no sooner than at this time, which has a time zone."""
    traceparent: str | None = None
    """The trace it belongs to, as in the header of W3C Trace Context."""


def event(
    *, topic: str, key: str | None = None, type: str | None = None, kind: str = "event"
) -> Callable[[type[_T]], type[_T]]:
    """Declares that objects of a class are events: a publisher takes them as they are.

    ``key`` names the field that is the primary key, ``type`` is the class's
    name unless given::

        @event(topic="order", key="order_id")
        @dataclass
        class OrderCreated:
            order_id: str

        publisher.publish(OrderCreated("o-1"))
    """

    def declare(cls: Any) -> Any:
        setattr(cls, _EVENT, (topic, type or cls.__name__, key, kind))
        return cls

    return declare


def message_of(written: Any) -> Message:
    """The message of an event, or the message itself."""
    if isinstance(written, Message):
        return written
    declared = getattr(written, _EVENT, None)
    if declared is None:
        name = written.__class__.__name__
        raise InvalidError(f"{name} is neither a Message nor of a class that @event declares")
    topic, type_name, key_field, kind = declared
    key = None if key_field is None else getattr(written, key_field)
    if key is not None and not isinstance(key, (str, bytes)):
        key = str(key)
    return Message(topic=topic, type=type_name, body=written, key=key, kind=kind)


class Draft:
    """A message with an id, as it is sent.

    It can be sent any number of times and is one message: a host that knows
    the id answers as it did before.
    """

    def __init__(self, message: Message, source: str | None = None) -> None:
        self.id = message.id if message.id is not None else new_id()
        """Its id."""
        self.message = dataclasses.replace(message, id=self.id)
        """The message; what is sent of its body is what it was when the draft was made."""
        self.source = source
        if message.delay is not None and message.deliver_at is not None:
            raise InvalidError("it has both delay and deliver_at; write one of them", self.id)
        if message.kind not in ("event", "broadcast"):
            raise InvalidError(f"the kind {message.kind!r} is unknown; write 'event' or 'broadcast'", self.id)
        self.body = self._body(message.body)
        self.headers = self._headers(message)
        self.deliver_at = None if message.deliver_at is None else rfc3339(message.deliver_at, self.id)
        self.delay_ms = None if message.delay is None else whole_millis(message.delay, self.id)
        wire: dict[str, Any] = {"id": self.id, "topic": message.topic, "type": message.type}
        if message.key is not None:
            text = text_of(message.key)
            wire["key" if text is not None else "key_base64"] = text if text is not None else b64(message.key)
        if source is not None:
            wire["source"] = source
        if message.kind != "event":
            wire["kind"] = message.kind
        if self.delay_ms is not None:
            wire["delay"] = f"{self.delay_ms}ms"
        if self.deliver_at is not None:
            wire["deliver_at"] = self.deliver_at
        if self.headers:
            wire["headers"] = self.headers
        if isinstance(self.body, bytes):
            wire["body_base64"] = b64(self.body)
            self.json = write(wire)
        else:
            # The body's own text, so that what is sent again is the same letter for letter.
            self.json = f'{write(wire)[:-1]},"body":{self.body}}}'
        try:
            self.json.encode()
        except UnicodeEncodeError as error:
            cut = error.object[error.start : error.start + 1]
            raise InvalidError(f"a text of it has {cut!r}, half of a character, which UTF-8 cannot write", self.id) from error

    def _body(self, body: Any) -> str | bytes:
        if isinstance(body, (bytes, bytearray, memoryview)):
            return bytes(body)
        try:
            return write(body)
        except (TypeError, ValueError) as error:
            raise InvalidError(f"the body cannot be written as JSON: {error}", self.id) from error

    def _headers(self, message: Message) -> dict[str, Any]:
        headers: dict[str, Any] = {}
        for name, value in message.headers.items():
            is_many = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
            headers[name] = [header(one) for one in value] if is_many else header(value)  # type: ignore[union-attr,arg-type]
        if message.content_type is not None:
            headers["content-type"] = message.content_type
        if message.traceparent is not None:
            headers["traceparent"] = message.traceparent
        return headers

    def __repr__(self) -> str:
        return f"Draft(id={self.id!r}, topic={self.message.topic!r}, type={self.message.type!r})"


def header(value: HeaderValue) -> Any:
    return {"base64": b64(value)} if isinstance(value, bytes) else value


def write(value: Any) -> str:
    """JSON as RFC 8259 has it: no NaN."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain)


def plain(value: Any) -> Any:
    """What JSON has for an object that it does not know."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    dump = getattr(value, "model_dump", None)
    if callable(dump):  # pydantic
        return dump(mode="json")
    if getattr(value, _EVENT, None) is not None:
        return vars(value)
    raise TypeError(f"an object of {value.__class__.__name__} is not JSON")


def b64(value: str | bytes) -> str:
    return base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()


def text_of(value: str | bytes) -> str | None:
    """The text of bytes, or none where they are none."""
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def whole_millis(delay: timedelta, id: str | None) -> int:
    """Whole milliseconds, rounded up so that nothing is early."""
    if delay < timedelta(0):
        raise InvalidError(f"the delay is {delay}; write one from 0 on", id)
    return -((-delay) // timedelta(milliseconds=1))


def rfc3339(time: datetime, id: str | None) -> str:
    """A time as the host reads it."""
    if time.utcoffset() is None:
        raise InvalidError("deliver_at has no time zone; write datetime.now(timezone.utc), say", id)
    return time.astimezone(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def new_id() -> str:
    """A UUID of version 7: ids of one sender sort by time."""
    value = (int(time.time() * 1000) & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
