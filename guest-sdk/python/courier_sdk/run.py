"""From a context to an outcome: read the message, call the handler, judge what
comes of it. Components and tests both come through here."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from .context import Context
from .failures import Refused, Reject, Retry, Unavailable
from .handler import Handler
from .http import HttpError
from .message import Item

_HERE = os.path.dirname(os.path.abspath(__file__))


@dataclass
class Failure:
    """Why an attempt did not succeed, as the contract has it."""

    kind: str
    """`error`, `retry`, `reject` or `unavailable`."""
    reason: str
    after_ms: int | None = None


def one(handler: Handler, ctx: Context) -> Failure | None:
    """Runs a handler for the message of a context; None is a success."""
    try:
        event = handler.read(ctx.message)
        _call(handler, event, ctx)
    except MemoryError:
        # The host knows the limit and puts it into words, and the instance
        # that ran into it must not be used again.
        raise
    except BaseException as problem:
        return judge(handler, ctx, problem)
    return None


def batch(handler: Handler, contexts: Sequence[Context]) -> list[Failure | None]:
    """Runs a batch handler for the messages of several contexts.

    A message that cannot be read is rejected by itself, and the handler never
    sees it. An exception, or a wrong number of outcomes, says nothing about
    which message it means: of one message it is the outcome, of several it
    ends the call, and the host runs each alone.
    """
    outcomes: list[Failure | None] = []
    items: list[Item] = []
    places: list[int] = []
    for place, ctx in enumerate(contexts):
        try:
            items.append(Item(handler.read(ctx.message), ctx))
            places.append(place)
            outcomes.append(None)
        except Reject as problem:
            outcomes.append(judge(handler, ctx, problem))
    if not items:
        return outcomes
    try:
        returned = handler.function(items)
        found = list(returned) if isinstance(returned, Sequence) else None
        if found is None or len(found) != len(items):
            got = type(returned).__name__ if found is None else f"{len(found)} outcomes"
            raise TypeError(f"the batch handler returned {got} for {len(items)} items: a list with one for each is needed")
        for place, outcome in zip(places, found):
            if outcome is not None and not isinstance(outcome, BaseException):
                raise TypeError(f"an outcome is {outcome!r}: None is a success, and an exception a failure")
            outcomes[place] = None if outcome is None else judge(handler, contexts[place], outcome)
    except MemoryError:
        raise
    except BaseException as problem:
        if len(contexts) > 1:
            raise
        outcomes[0] = judge(handler, contexts[0], problem)
    return outcomes


def _call(handler: Handler, event: object, ctx: Context) -> None:
    returned = handler.function(event, ctx) if handler.takes_context else handler.function(event)
    if hasattr(returned, "__await__"):
        returned.close()
        raise TypeError("the handler is an async function: write it without async")


def judge(handler: Handler, ctx: Context, problem: BaseException) -> Failure:
    """What an exception means. An unexpected one leaves its traceback in the log."""
    if isinstance(problem, Retry):
        return Failure("retry", problem.reason, problem.after_ms)
    if isinstance(problem, Reject):
        return Failure("reject", problem.reason)
    if isinstance(problem, Unavailable):
        return Failure("unavailable", problem.reason, problem.after_ms)
    if isinstance(problem, Refused) and problem.kind == "unavailable":
        return Failure("unavailable", str(problem))
    if isinstance(problem, HttpError) and problem.kind != "refused":
        return Failure("unavailable" if problem.kind == "unreachable" else "retry", str(problem))
    trace = problem.__traceback__
    # The SDK's own lines say nothing to who wrote the handler.
    while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    if trace is not None:
        ctx.log.error("".join(traceback.format_exception(type(problem), problem, trace)).rstrip())
    return Failure("error", describe(handler, problem))


def describe(handler: Handler, problem: BaseException) -> str:
    """An exception in a line, with the file and line of the handler's own code."""
    text = str(problem)
    # What the host says is a sentence of its own.
    described = text if isinstance(problem, (Refused, HttpError)) else type(problem).__name__ + (f": {text}" if text else "")
    if isinstance(problem, ImportError) and in_component():
        described += " (a component has no files: import it at the top of a module, and list it in requirements.txt)"
    place = where(handler, problem.__traceback__)
    return f"{described} ({place})" if place else described


def where(handler: Handler, trace: TracebackType | None) -> str:
    """The innermost line of an exception that is the handler's own, as `handler.py:12`."""
    home = os.path.dirname(os.path.abspath(handler.file))
    own = last = ""
    for frame, line in traceback.walk_tb(trace):
        file = os.path.abspath(frame.f_code.co_filename)
        if _is_ours(file):
            continue
        last = f"{os.path.basename(file)}:{line}"
        if file.startswith(home + os.sep) and "site-packages" not in file:
            own = f"{os.path.relpath(file, home)}:{line}"
    return own or last


def _is_ours(file: str) -> bool:
    return os.path.abspath(file).startswith(_HERE + os.sep)


def in_component() -> bool:
    """Whether this is WebAssembly."""
    return sys.platform in ("wasi", "emscripten")
