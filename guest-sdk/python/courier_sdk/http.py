"""HTTP out of a handler: requests to what `[binding.http] allow` names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .failures import Reject, Retry, Unavailable
from .shapes import encode

if TYPE_CHECKING:
    from .context import Effects
    from .message import Attempt


@dataclass
class HttpRequest:
    """A request as it goes out."""

    method: str
    url: str
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    body: bytes = b""
    timeout: float | None = None
    """Seconds that the head of the answer may take."""


@dataclass
class HttpResponse:
    """An answer, whatever its status."""

    status: int
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The first header of this name; letter case says nothing."""
        values = (value.decode("utf-8", "replace") for known, value in self.headers if known.lower() == name.lower())
        return next(values, None)

    def text(self) -> str:
        """The body as text; bytes that are no UTF-8 are replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Reads the body as JSON."""
        return json.loads(self.body)

    def raise_for_status(self) -> HttpResponse:
        """The answer, if its status says success; else raises what should follow.

        429 and 503 say that the other side is down (for as long as
        `Retry-After` says), another 5xx is worth another attempt, and any other
        status will be the same next time.
        """
        why = f"http {self.status}"
        if 200 <= self.status < 300:
            return self
        if self.status in (429, 503):
            wait = (self.header("retry-after") or "").strip()
            raise Unavailable(why, after=int(wait) if wait.isdigit() else None)
        if 500 <= self.status < 600:
            raise Retry(why)
        raise Reject(why)


class HttpError(Exception):
    """There is no answer; `kind` says why.

    `refused`: the request was not made, since the binding does not allow it or
    it is wrong. `unreachable`: nobody is there; left uncaught, the binding
    pauses. `broken`: it was sent and no whole answer came; left uncaught,
    another attempt is made.
    """

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(f"http {why}")
        self.kind = kind


class Http:
    """Makes HTTP requests: `ctx.http.get(url).raise_for_status().json()`."""

    def __init__(self, effects: Effects, attempt: Attempt) -> None:
        self._send = effects.http
        self._delivery = attempt.delivery

    def request(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        body: bytes | str = b"",
        headers: Mapping[str, str | bytes] | None = None,
        timeout: float | None = None,
        idempotent: bool = False,
    ) -> HttpResponse:
        """Sends a request and reads the whole answer.

        `json` is written as the body with its content type. `idempotent` adds
        `idempotency-key` with the delivery, which is the same over all
        attempts. `timeout` is in seconds; the binding's holds in any case.
        """
        pairs = [(name, value if isinstance(value, bytes) else value.encode()) for name, value in (headers or {}).items()]
        data = body.encode() if isinstance(body, str) else body
        if json is not None:
            data = encode(json)
            pairs.append(("content-type", b"application/json"))
        if idempotent:
            pairs.append(("idempotency-key", self._delivery.encode()))
        return self._send(HttpRequest(method.upper(), url, pairs, data, timeout))

    def get(self, url: str, **options: Any) -> HttpResponse:
        """A GET request; the options are those of `request`."""
        return self.request("GET", url, **options)

    def post(self, url: str, **options: Any) -> HttpResponse:
        """A POST request."""
        return self.request("POST", url, **options)

    def put(self, url: str, **options: Any) -> HttpResponse:
        """A PUT request."""
        return self.request("PUT", url, **options)

    def delete(self, url: str, **options: Any) -> HttpResponse:
        """A DELETE request."""
        return self.request("DELETE", url, **options)
