"""Handlers for Courier in Python: a function that is called for each message.

Read in this order: `handler` says what a function handles, `context` what it
can do, `failures` how it can end. `run` decodes, calls and judges; `shapes`
turns JSON into dataclasses and back. `wire` speaks the contract of `wit/v2` and
exists in a component only, as `testing` does outside of one. `build` makes the
component.
"""

from .context import Cache, Context, Log, State
from .failures import Refused, Reject, Retry, Unavailable
from .handler import Handler, batch_handler, handler
from .http import Http, HttpError, HttpResponse
from .message import Attempt, Header, Item, Message, Outgoing

__all__ = [
    "Attempt",
    "Cache",
    "Context",
    "Handler",
    "Header",
    "Http",
    "HttpError",
    "HttpResponse",
    "Item",
    "Log",
    "Message",
    "Outgoing",
    "Refused",
    "Reject",
    "Retry",
    "State",
    "Unavailable",
    "batch_handler",
    "handler",
]
