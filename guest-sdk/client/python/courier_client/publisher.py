"""What a service holds to publish with."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from inspect import isawaitable, iscoroutine
from typing import Any, Iterable, TypeVar

from . import plan
from .answers import MessageView, Receipt
from .base import Settings
from .errors import CourierError, InvalidError
from .outbox import write_row

_T = TypeVar("_T")


class Publisher(Settings):
    """Publishes messages through a host, and asks what became of them. Threads may share it.

    A message is a ``Message``, an object of a class that ``@event`` declares,
    or a ``Draft`` that is published again.
    """

    def publish(self, message: Any) -> Receipt:
        """Publishes a message, and tries again with its id while the cause can pass.

        Raises a ``CourierError`` that says what the sender can do.
        """
        return self._run(plan.publish(self._draft(message), self._times))

    def publish_after(self, message: Any, delay: timedelta | float) -> Receipt:
        """Publishes a message that is delivered no sooner than after ``delay`` (a number is of seconds)."""
        return self._run(plan.publish(self._after(message, delay), self._times))

    def publish_at(self, message: Any, time: datetime) -> Receipt:
        """Publishes a message that is delivered no sooner than at a time, which has a time zone."""
        return self._run(plan.publish(self._at(message, time), self._times))

    def publish_broadcast(self, message: Any) -> Receipt:
        """Publishes a message that every node of each group handles."""
        return self._run(plan.publish(self._draft(message, kind="broadcast"), self._times))

    def publish_all(self, messages: Iterable[Any]) -> list[Receipt | CourierError]:
        """Publishes messages in their order; answers for each, in the same
        order: a receipt, or the error that ``publish`` would have raised.

        Raises ``InvalidError`` when one of them cannot be written: then none was sent.
        """
        drafts = [self._draft(message) for message in messages]
        return self._run(plan.publish_all(drafts, self._times, self._trace()))

    def cancel(self, id: str, *, topic: str | None = None, source: str | None = None) -> MessageView:
        """Takes a delayed message back that is not due yet; doing so again answers the same.

        ``topic`` and ``source`` name it where the id repeats. Raises
        ``RefusedError``: 404 for an unknown one, 409 for one that went out.
        """
        return self._run(plan.one("DELETE", id, topic, source, self._times, self._trace()))

    def ask(self, id: str, *, topic: str | None = None, source: str | None = None) -> MessageView:
        """A message with its deliveries and their attempts.

        Raises ``RefusedError`` with 404 for an unknown one.
        """
        return self._run(plan.one("GET", id, topic, source, self._times, self._trace()))

    def publish_in(self, tx: Any, message: Any) -> str:
        """Writes a message into the outbox within a transaction of the service's
        own: it is published if and only if that transaction commits. Answers
        its id.

        ``tx`` is a connection or cursor of psycopg, psycopg2 or sqlite3, or a
        connection or session of SQLAlchemy, that began the transaction. Raises
        ``InvalidError`` when the message cannot be a row; what the database
        raises is passed on.
        """
        draft = self._draft(message)
        written = write_row(tx, draft, self._table)
        if iscoroutine(written):
            written.close()
        if isawaitable(written):
            # Nobody would await it: the transaction would commit without the row.
            raise InvalidError("this connection is asynchronous: publish with AsyncPublisher, and await it", draft.id)
        return draft.id

    def close(self) -> None:
        """Closes the connections to the host."""
        self._transport.close()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, plan_: plan.Plan[_T]) -> _T:
        outcome: plan.Outcome = None
        while True:
            try:
                step = plan_.send(outcome)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            if isinstance(step, plan.Pause):
                time.sleep(step.seconds)
                outcome = None
            else:
                outcome = self._transport.ask(step)


