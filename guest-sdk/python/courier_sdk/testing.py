"""Handlers without a host: a context that records what a handler does.

    def test_an_order_is_handled():
        test = TestContext(body={"order_id": "o-1"}, attempt_number=2)
        assert test.deliver(handle) is None
        assert test.published[0].topic == "stock"
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from . import run
from .context import Context, _bytes
from .failures import Refused
from .handler import Handler
from .http import HttpError, HttpRequest, HttpResponse
from .message import JSON, Attempt, Header, Message, Outgoing
from .run import Failure
from .shapes import encode

__all__ = ["Failure", "TestContext", "deliver_batch"]


class TestContext(Context):
    """A context for a test; everything is granted unless denied.

    `body` is what was sent: a dataclass or dict becomes JSON, bytes and text
    stay, None is a tombstone. `grant` lists what the binding grants of publish,
    state and cache (all of them otherwise), `publish_to` the topics. `http`
    answers requests by (method, URL), with a response, a status or an error.
    """

    __test__ = False

    def __init__(
        self,
        body: Any = b"",
        *,
        id: str = "test-message",
        source: str = "test",
        topic: str = "test",
        type: str | None = None,
        key: str | bytes | int | None = None,
        kind: str = "event",
        content_type: str = JSON,
        headers: Mapping[str, str | bytes | None] | None = None,
        attempt_number: int = 1,
        config: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        state: Mapping[str, bytes | str] | None = None,
        cache: Mapping[str, bytes | str] | None = None,
        http: Mapping[tuple[str, str], HttpResponse | int | Exception] | None = None,
        grant: Sequence[str] | None = None,
        publish_to: Sequence[str] | None = None,
    ) -> None:
        now = int(time.time() * 1e6)
        if body is None or isinstance(body, bytes):
            data = body
        else:
            data = body.encode() if isinstance(body, str) else encode(body)
        named = body.__class__.__name__ if hasattr(body, "__dataclass_fields__") else ""
        self.recording = _Recording(
            dict(config or {}),
            dict(secrets or {}),
            {name: _bytes(value) or b"" for name, value in (state or {}).items()},
            {name: _bytes(value) or b"" for name, value in (cache or {}).items()},
            dict(http or {}),
            grant,
            publish_to,
        )
        message = Message(
            id=id,
            key=_bytes(key),
            source=source,
            topic=topic,
            type=named if type is None else type,
            kind=kind,
            time=now,
            content_type=content_type if data is not None else "",
            body=data,
            headers=[Header(name, _bytes(value)) for name, value in (headers or {}).items()],
        )
        attempt = Attempt("test", "test-delivery", attempt_number, attempt_number - 1, attempt_number, 0, 0, now + 5_000_000)
        super().__init__(message, attempt, self.recording)

    def deliver(self, handler: Handler) -> Failure | None:
        """Runs a handler as the host would: None is HANDLED. A call that the
        handler does not declare in `uses` fails, as it would in a component."""
        if handler.is_batch:
            return deliver_batch(handler, [self])[0]
        self.recording.uses = handler.uses
        return run.one(handler, self)

    @property
    def published(self) -> list[Outgoing]:
        """What was published so far."""
        return self.recording.published

    @property
    def stored(self) -> dict[str, bytes]:
        """The state as it is now."""
        return self.recording.state

    @property
    def cached(self) -> dict[str, bytes]:
        """The cache as it is now."""
        return self.recording.cache

    @property
    def logs(self) -> list[tuple[str, str]]:
        """What was logged so far, as level and text."""
        return self.recording.logs

    @property
    def requests(self) -> list[HttpRequest]:
        """The HTTP requests that were answered so far."""
        return self.recording.requests


def deliver_batch(handler: Handler, contexts: Sequence[TestContext]) -> list[Failure | None]:
    """Runs a batch handler as the host would."""
    for ctx in contexts:
        ctx.recording.uses = handler.uses
    return run.batch(handler, contexts)


def not_declared(use: str, uses: Sequence[str]) -> Refused:
    """What a call is answered with that the handler did not declare."""
    wanted = [*uses, use]
    return Refused("denied", f"the handler does not declare that it uses {use}: add uses={wanted} to its decorator")


class _Recording:
    """Stands in for the host and keeps what a handler did."""

    def __init__(
        self,
        config: dict[str, str],
        secrets: dict[str, str],
        state: dict[str, bytes],
        cache: dict[str, bytes],
        answers: dict[tuple[str, str], HttpResponse | int | Exception],
        grant: Sequence[str] | None,
        publish_to: Sequence[str] | None,
    ) -> None:
        self.values, self.secrets, self.state, self.cache, self.answers = config, secrets, state, cache, answers
        self.grant, self.publish_to = grant, publish_to
        self.uses: Sequence[str] | None = None
        self.published: list[Outgoing] = []
        self.logs: list[tuple[str, str]] = []
        self.requests: list[HttpRequest] = []

    def _check(self, use: str, remedy: str = "") -> None:
        if self.uses is not None and use not in self.uses:
            raise not_declared(use, self.uses)
        if remedy and self.grant is not None and use not in self.grant:
            raise Refused("denied", f"add `{remedy}` to [binding.grant]")

    def publish(self, message: Outgoing) -> str:
        self._check("publish", f'publish = ["{message.topic}"]')
        if not message.topic:
            raise Refused("invalid", "an outgoing message names no topic")
        if self.publish_to is not None and message.topic not in self.publish_to:
            raise Refused("denied", f'add `publish = ["{message.topic}"]` to [binding.grant]')
        if message.body is None and message.key is None:
            raise Refused("invalid", "a tombstone (a message without a body) needs a key")
        self.published.append(message)
        return f"test-published-{len(self.published)}"

    def state_get(self, key: str) -> bytes | None:
        self._check("state", "state = true")
        return self.state.get(key)

    def state_set(self, key: str, value: bytes | None) -> None:
        self._check("state", "state = true")
        _put(self.state, key, value)

    def cache_get(self, key: str) -> bytes | None:
        self._check("cache", "cache = true")
        return self.cache.get(key)

    def cache_set(self, key: str, value: bytes | None) -> None:
        self._check("cache", "cache = true")
        _put(self.cache, key, value)

    def config(self, key: str) -> str | None:
        self._check("config")
        return self.values.get(key)

    def secret(self, key: str) -> str | None:
        self._check("config")
        return self.secrets.get(key)

    def log(self, level: str, text: str) -> None:
        self.logs.append((level, text))

    def http(self, request: HttpRequest) -> HttpResponse:
        self._check("http")
        answer = self.answers.get((request.method, request.url))
        if answer is None:
            why = f"refused: the test has no answer for {request.method} {request.url}: add one with http={{..}}"
            raise HttpError("refused", why)
        if isinstance(answer, Exception):
            raise answer
        self.requests.append(request)
        return HttpResponse(answer) if isinstance(answer, int) else answer


def _put(values: dict[str, bytes], key: str, value: bytes | None) -> None:
    if value is None:
        values.pop(key, None)
    else:
        values[key] = value
