"""What a publisher does, without doing it: a generator of requests and pauses.

``Publisher`` and ``AsyncPublisher`` carry out the same plans, so they behave
alike.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from typing import Any, Generator, Sequence, TypeVar, Union
from urllib.parse import quote, urlencode

from .answers import MessageView, Receipt
from .errors import CourierError, GaveUpError, Problem, RefusedError
from .message import Draft

TIMEOUT_S = 15.0
"""How long a message is tried in all, unless told otherwise."""
TRY_TIMEOUT_S = 8.0
"""How long one try may take: a host answers within a second, whatever Kafka
does, and within five when its store is slow."""
PAUSE_FIRST_S = 0.05
PAUSE_LONGEST_S = 2.0
"""First and longest pause between tries."""
BATCH = 500
BATCH_BYTES = 4 * 1024 * 1024
"""Messages and bytes of one request of ``publish_all``."""
RETRY_AFTER_LIMIT_S = 60.0
"""A wait that a host asks for is believed up to this."""


@dataclass(frozen=True)
class Request:
    """Asks the host once, until a time of the monotonic clock: the wait for a thread counts too."""

    method: str
    path: str
    body: bytes | None
    traceparent: str | None
    ends_at: float


@dataclass(frozen=True)
class Pause:
    """Waits before the next try."""

    seconds: float


@dataclass(frozen=True)
class Answer:
    """What a host answered."""

    status: int
    text: bytes
    retry_after: str | None = None


@dataclass(frozen=True)
class NoAnswer:
    """Why there is none for certain."""

    why: str


Step = Union[Request, Pause]
Outcome = Union[Answer, NoAnswer, None]
_T = TypeVar("_T")
Plan = Generator[Step, Outcome, _T]


@dataclass(frozen=True)
class Times:
    """How long may be tried, in all and at once."""

    timeout_s: float = TIMEOUT_S
    try_timeout_s: float = TRY_TIMEOUT_S


class _Tries:
    """The tries of one call."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self._deadline = time.monotonic() + times.timeout_s
        self._pause = PAUSE_FIRST_S
        self.count = 0

    def ask(self, method: str, path: str, body: str | None, traceparent: str | None) -> Plan[Answer | str]:
        """One try, no longer than what is left of the time: an answer that is final, or why there is none."""
        self.count += 1
        self._least = 0.0
        now = time.monotonic()
        left = max(self._deadline - now, PAUSE_FIRST_S)
        payload = None if body is None else body.encode()
        outcome = yield Request(method, path, payload, traceparent, now + min(self._times.try_timeout_s, left))
        if isinstance(outcome, NoAnswer):
            return outcome.why
        assert isinstance(outcome, Answer)
        if not passes(outcome.status):
            return outcome
        self._least = seconds(outcome.retry_after)
        return str(Problem.read(parse(outcome.text), outcome.status))

    def rest(self) -> Plan[bool]:
        """Waits before the next try, a little at random so that senders do not
        come back all at once; false when the time is up."""
        wait = max(self._pause * random.uniform(0.5, 1.0), self._least)
        self._pause = min(self._pause * 2, PAUSE_LONGEST_S)
        if time.monotonic() + wait >= self._deadline:
            return False
        yield Pause(wait)
        return True


def passes(status: int) -> bool:
    """Whether what this status says may pass by itself."""
    return (status >= 500 and status != 501) or status in (408, 425, 429)


def seconds(retry_after: str | None) -> float:
    try:
        return min(max(float(retry_after or 0), 0.0), RETRY_AFTER_LIMIT_S)
    except ValueError:
        return 0.0


def parse(text: bytes) -> Any:
    """JSON, or none where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def publish(draft: Draft, times: Times) -> Plan[Receipt]:
    """Publishes a message, and tries again with its id while the cause can pass."""
    tries = _Tries(times)
    while True:
        outcome = yield from tries.ask("POST", "/v1/messages", draft.json, draft.message.traceparent)
        why = outcome if isinstance(outcome, str) else "the answer is not a host's"
        if isinstance(outcome, Answer):
            document = parse(outcome.text)
            if outcome.status != 202:
                raise RefusedError(outcome.status, Problem.read(document, outcome.status))
            if isinstance(document, dict) and "state" in document:
                return _receipt(document)
        if not (yield from tries.rest()):
            raise GaveUpError(tries.count, why, draft)


def publish_all(drafts: Sequence[Draft], times: Times, traceparent: str | None) -> Plan[list[Receipt | CourierError]]:
    """Publishes messages in their order; answers for each, in the same order."""
    results: list[Receipt | CourierError] = []
    start = 0
    while start < len(drafts):
        end, size = start, 0
        while end < len(drafts) and end - start < BATCH:
            size += len(drafts[end].json)
            if size > BATCH_BYTES and end > start:
                break
            end += 1
        results.extend((yield from _publish_batch(drafts[start:end], times, traceparent)))
        start = end
    return results


def _publish_batch(drafts: Sequence[Draft], times: Times, traceparent: str | None) -> Plan[list[Receipt | CourierError]]:
    results: dict[int, Receipt | CourierError] = {}
    tries = _Tries(times)
    while True:
        asked = [at for at in range(len(drafts)) if at not in results]
        body = "[" + ",".join(drafts[at].json for at in asked) + "]"
        outcome = yield from tries.ask("POST", "/v1/messages", body, traceparent)
        why = outcome if isinstance(outcome, str) else "the answer is not a host's"
        if isinstance(outcome, Answer):
            document = parse(outcome.text)
            items = document.get("items") if isinstance(document, dict) else None
            if isinstance(items, list):
                why = "the host answered fewer messages than it was sent"
                for at, item in zip(asked, items):
                    problem = item.get("problem")
                    status = (problem or {}).get("status") or 400
                    if not problem:
                        results[at] = _receipt(item)
                    elif passes(status):
                        why = str(Problem.read(problem, status))
                    else:
                        results[at] = RefusedError(status, Problem.read(problem, status), item.get("id"))
            elif outcome.status != 202:
                for at in asked:
                    results[at] = RefusedError(outcome.status, Problem.read(document, outcome.status), drafts[at].id)
        if len(results) < len(drafts) and not (yield from tries.rest()):
            for at in range(len(drafts)):
                results.setdefault(at, GaveUpError(tries.count, why, drafts[at]))
        if len(results) == len(drafts):
            return [results[at] for at in range(len(drafts))]


def one(method: str, id: str, topic: str | None, source: str | None, times: Times, traceparent: str | None) -> Plan[MessageView]:
    """Asks for one message, or cancels it."""
    which = {name: value for name, value in (("topic", topic), ("source", source)) if value is not None}
    path = f"/v1/messages/{quote(id, safe='')}" + (f"?{urlencode(which)}" if which else "")
    tries = _Tries(times)
    while True:
        outcome = yield from tries.ask(method, path, None, traceparent)
        why = outcome if isinstance(outcome, str) else "the answer is not a host's"
        if isinstance(outcome, Answer):
            document = parse(outcome.text)
            if outcome.status != 200:
                raise RefusedError(outcome.status, Problem.read(document, outcome.status), id)
            if isinstance(document, dict):
                return MessageView.read(document)
        if not (yield from tries.rest()):
            raise GaveUpError(tries.count, why)


def _receipt(item: dict[str, Any]) -> Receipt:
    return Receipt(item.get("id") or "", item["state"], bool(item.get("retrying", False)), item.get("warning"))
