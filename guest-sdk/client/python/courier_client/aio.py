"""The publisher for asyncio."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from inspect import isawaitable
from typing import Any, Iterable, TypeVar

from . import plan
from .answers import MessageView, Receipt
from .base import Settings
from .errors import CourierError
from .http import KEPT_CONNECTIONS
from .outbox import write_row

_T = TypeVar("_T")


class AsyncPublisher(Settings):
    """``Publisher`` for asyncio.

    The standard library has no HTTP client for asyncio, so requests run in
    threads of this publisher's own, at most sixteen at once; pauses between
    tries hold no thread.
    """

    def __init__(self, url: str, **settings: Any) -> None:
        super().__init__(url, **settings)
        self._threads = ThreadPoolExecutor(KEPT_CONNECTIONS, thread_name_prefix="courier-client")

    __init__.__doc__ = Settings.__init__.__doc__

    async def publish(self, message: Any) -> Receipt:
        """As ``Publisher.publish``."""
        return await self._run(plan.publish(self._draft(message), self._times))

    async def publish_after(self, message: Any, delay: timedelta | float) -> Receipt:
        """As ``Publisher.publish_after``."""
        return await self._run(plan.publish(self._after(message, delay), self._times))

    async def publish_at(self, message: Any, time: datetime) -> Receipt:
        """As ``Publisher.publish_at``."""
        return await self._run(plan.publish(self._at(message, time), self._times))

    async def publish_broadcast(self, message: Any) -> Receipt:
        """As ``Publisher.publish_broadcast``."""
        return await self._run(plan.publish(self._draft(message, kind="broadcast"), self._times))

    async def publish_all(self, messages: Iterable[Any]) -> list[Receipt | CourierError]:
        """As ``Publisher.publish_all``."""
        drafts = [self._draft(message) for message in messages]
        return await self._run(plan.publish_all(drafts, self._times, self._trace()))

    async def cancel(self, id: str, *, topic: str | None = None, source: str | None = None) -> MessageView:
        """As ``Publisher.cancel``."""
        return await self._run(plan.one("DELETE", id, topic, source, self._times, self._trace()))

    async def ask(self, id: str, *, topic: str | None = None, source: str | None = None) -> MessageView:
        """As ``Publisher.ask``."""
        return await self._run(plan.one("GET", id, topic, source, self._times, self._trace()))

    async def publish_in(self, tx: Any, message: Any) -> str:
        """As ``Publisher.publish_in``, with an asynchronous connection, cursor
        or session of psycopg, SQLAlchemy or aiosqlite."""
        draft = self._draft(message)
        written = write_row(tx, draft, self._table)
        if isawaitable(written):
            await written
        return draft.id

    async def close(self) -> None:
        """Closes the connections to the host."""
        self._transport.close()
        self._threads.shutdown(wait=False)

    async def __aenter__(self) -> AsyncPublisher:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, plan_: plan.Plan[_T]) -> _T:
        loop = asyncio.get_running_loop()
        outcome: plan.Outcome = None
        while True:
            try:
                step = plan_.send(outcome)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            if isinstance(step, plan.Pause):
                await asyncio.sleep(step.seconds)
                outcome = None
            else:
                outcome = await loop.run_in_executor(self._threads, self._transport.ask, step)
