"""What both publishers have in common."""

from __future__ import annotations

import dataclasses
import ssl
from datetime import datetime, timedelta
from typing import Any, Callable, Union

from .errors import InvalidError
from .http import Transport
from .message import Draft, message_of
from .outbox import OUTBOX
from .plan import TIMEOUT_S, TRY_TIMEOUT_S, Times

Traceparent = Union[str, Callable[[], Union[str, None]], None]
"""A trace, or who knows it at that moment."""


class Settings:
    """How a publisher publishes."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        source: str | None = None,
        timeout: float = TIMEOUT_S,
        try_timeout: float = TRY_TIMEOUT_S,
        traceparent: Traceparent = None,
        outbox_table: str = OUTBOX,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Publishes through the host at ``url``, for example ``http://127.0.0.1:7070``.

        ``token`` is shown to the host. ``source`` names the sending service;
        without it, the host takes the token's name. ``timeout`` is how many
        seconds a message is tried in all before ``GaveUpError``,
        ``try_timeout`` how many one try may take. ``traceparent`` is the trace
        of what is published, or a function that knows it at that moment; where
        OpenTelemetry is installed, its current trace is taken without.
        ``outbox_table`` is that of ``publish_in``, with its schema before a dot
        if it has one. ``ssl_context`` is for a host whose certificate the
        system does not trust.
        """
        self._transport = Transport(url, token, ssl_context)
        self._source = source
        self._times = Times(timeout, try_timeout)
        self._traceparent = traceparent
        self._table = outbox_table

    def draft(self, message: Any) -> Draft:
        """The message with its id, as it is sent; publish it any number of times."""
        return self._draft(message)

    def _draft(self, written: Any, **changes: Any) -> Draft:
        if isinstance(written, Draft):
            if changes:
                raise InvalidError(
                    f"a draft is sent as it was made: give the Message its {' and '.join(changes)} before", written.id
                )
            return written
        message = message_of(written)
        if message.traceparent is None:
            changes.setdefault("traceparent", self._trace())
        return Draft(dataclasses.replace(message, **changes), self._source)

    def _after(self, written: Any, delay: timedelta | float) -> Draft:
        return self._draft(written, delay=delay if isinstance(delay, timedelta) else timedelta(seconds=delay))

    def _at(self, written: Any, time: datetime) -> Draft:
        return self._draft(written, deliver_at=time)

    def _trace(self) -> str | None:
        if callable(self._traceparent):
            return self._traceparent()
        return self._traceparent if self._traceparent is not None else current_trace()


def current_trace() -> str | None:
    """The trace that OpenTelemetry is in, where that is installed."""
    try:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


