"""What a handler can do to the world beside returning."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from .failures import Refused
from .http import Http, HttpRequest, HttpResponse
from .message import JSON, Attempt, Header, Message, Outgoing
from .shapes import encode

LEVELS = ("debug", "info", "warn", "error")


class Effects(Protocol):
    """The calls behind a context: the host's in a component, a recording in a test."""

    def publish(self, message: Outgoing) -> str: ...
    def state_get(self, key: str) -> bytes | None: ...
    def state_set(self, key: str, value: bytes | None) -> None: ...
    def cache_get(self, key: str) -> bytes | None: ...
    def cache_set(self, key: str, value: bytes | None) -> None: ...
    def config(self, key: str) -> str | None: ...
    def secret(self, key: str) -> str | None: ...
    def log(self, level: str, text: str) -> None: ...
    def http(self, request: HttpRequest) -> HttpResponse: ...


class Context:
    """The message and attempt at hand, and everything a handler may do.

    Nothing done through it is visible before the attempt succeeded: publishes
    and state are committed together with the success, or not at all.
    """

    def __init__(self, message: Message, attempt: Attempt, effects: Effects) -> None:
        self.message = message
        self.attempt = attempt
        self._effects = effects
        self.state = State(effects)
        self.cache = Cache(effects)
        self.log = Log(effects)
        self.http = Http(effects, attempt)

    def publish(
        self,
        topic: str,
        body: Any,
        *,
        type: str | None = None,
        key: str | bytes | int | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str | bytes | None] | Iterable[tuple[str, str | bytes | None]] = (),
    ) -> str:
        """Publishes a message when this attempt succeeds; returns the id it will have.

        A dataclass, dict, list, number or boolean is written as JSON; bytes and
        text go as they are; None is a tombstone, which needs a key. The type of
        a dataclass is its name unless another is given. The binding must grant
        the topic, and `@handler(publishes=[..])` names it.
        """
        if type is None:
            is_dataclass = dataclasses.is_dataclass(body) and not isinstance(body, _type)
            type = body.__class__.__name__ if is_dataclass else ""
        if body is None:
            data, media = None, ""
        elif isinstance(body, (bytes, bytearray, memoryview)):
            data, media = bytes(body), "application/octet-stream"
        elif isinstance(body, str):
            data, media = body.encode(), "text/plain; charset=utf-8"
        else:
            try:
                data, media = encode(body), JSON
            except (TypeError, ValueError, RecursionError) as problem:
                raise Refused("invalid", f"the body cannot be written as JSON: {problem}") from None
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        return self.publish_raw(
            Outgoing(
                topic=topic,
                type=type,
                key=_bytes(key),
                content_type=media if content_type is None else content_type,
                body=data,
                headers=[Header(name, _bytes(value)) for name, value in pairs],
            )
        )

    def publish_raw(self, message: Outgoing) -> str:
        """Publishes any message when this attempt succeeds."""
        return self._effects.publish(message)

    def config(self, key: str, default: str | None = None) -> str | None:
        """A value of `[binding.config]`."""
        value = self._effects.config(key)
        return default if value is None else value

    def secret(self, key: str) -> str | None:
        """A value of `[binding.secrets]`."""
        return self._effects.secret(key)


_type = type


def _bytes(value: str | bytes | int | None) -> bytes | None:
    """Text as UTF-8 and numbers as decimal digits, so that other languages come to the same key."""
    if value is None or isinstance(value, bytes):
        return value
    return str(value).encode()


class _Values:
    """Values by key, of the state or of the cache."""

    def get(self, key: str) -> bytes | None:
        """The bytes of a key, or None."""
        raise NotImplementedError

    def _set(self, key: str, value: bytes | None) -> None:
        raise NotImplementedError

    def set(self, key: str, value: bytes | str) -> None:
        """Writes bytes, or a text as UTF-8."""
        if not isinstance(value, (bytes, bytearray, memoryview, str)):
            raise TypeError(f"a value is bytes or text, and this is {type(value).__name__}: set_json takes others")
        self._set(key, value.encode() if isinstance(value, str) else bytes(value))

    def delete(self, key: str) -> None:
        """Deletes a key."""
        self._set(key, None)

    def get_json(self, key: str, default: Any = None) -> Any:
        """The value of a key that `set_json` wrote, or the default."""
        value = self.get(key)
        return default if value is None else json.loads(value)

    def set_json(self, key: str, value: Any) -> None:
        """Writes a value as JSON."""
        self._set(key, encode(value))


class State(_Values):
    """The group's key/value state, written with the success of the attempt."""

    def __init__(self, effects: Effects) -> None:
        self.get = effects.state_get  # type: ignore[method-assign]
        self._set = effects.state_set  # type: ignore[method-assign]


class Cache(_Values):
    """What the group's handlers on one node share: at once, and not durable."""

    def __init__(self, effects: Effects) -> None:
        self.get = effects.cache_get  # type: ignore[method-assign]
        self._set = effects.cache_set  # type: ignore[method-assign]


class Log:
    """The log that is kept with the attempt. `print` and `logging` go there too."""

    def __init__(self, effects: Effects) -> None:
        self._write = effects.log

    def __call__(self, text: object) -> None:
        self._write("info", str(text))

    def debug(self, text: object) -> None:
        """For whoever writes the handler."""
        self._write("debug", str(text))

    def info(self, text: object) -> None:
        """What happened."""
        self._write("info", str(text))

    def warn(self, text: object) -> None:
        """Something to look at."""
        self._write("warn", str(text))

    def error(self, text: object) -> None:
        """Something went wrong."""
        self._write("error", str(text))

    warning = warn
