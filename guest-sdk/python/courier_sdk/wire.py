"""The contract as a component speaks it. What it imports is generated for the
handler's own world, so that a part the handler does not declare is not there.
"""

# mypy: ignore-errors
# The modules of `wit_world` exist while a component is made, and nowhere else.

from __future__ import annotations

import importlib
import logging

from componentize_py_types import Err, Ok
from wit_world.imports import log as host_log

from . import run
from .context import Context
from .failures import Refused
from .handler import Handler
from .message import Attempt, Header, Message
from .testing import not_declared


def _import(name: str):
    try:
        return importlib.import_module(f"wit_world.imports.{name}")
    except ImportError:
        return None


# Called so where wasi:http has `types` too.
contract = _import("courier_plugin_types") or _import("types")
_publish, _state = _import("publish"), _import("state")
_batch_publish, _batch_state = _import("batch_publish"), _import("batch_state")
_cache, _config = _import("cache"), _import("config")
_http = importlib.import_module("courier_sdk.wire_http") if _import("outgoing_handler") else None

_LEVELS = {
    "debug": host_log.Level.DEBUG,
    "info": host_log.Level.INFO,
    "warn": host_log.Level.WARN,
    "error": host_log.Level.ERROR,
}
_KINDS = {contract.Kind.EVENT: "event", contract.Kind.BROADCAST: "broadcast"}
_REFUSALS = {
    contract.Refusal_Denied: "denied",
    contract.Refusal_Limit: "limit",
    contract.Refusal_Invalid: "invalid",
    contract.Refusal_Unavailable: "unavailable",
}


def _ask(function, *arguments):
    try:
        return function(*arguments)
    except Err as refused:
        raise Refused(_REFUSALS[type(refused.value)], refused.value.value) from None


class _Host:
    """The imports, for one message."""

    def __init__(self, uses):
        self.uses = uses

    def _need(self, module, use):
        if module is None:
            raise not_declared(use, self.uses)
        return module

    def publish(self, message):
        return _ask(self._need(_publish, "publish").publish, _outgoing(message))

    def state_get(self, key):
        return _ask(self._need(_state, "state").get, key)

    def state_set(self, key, value):
        _ask(self._need(_state, "state").set, key, value)

    def cache_get(self, key):
        return _ask(self._need(_cache, "cache").get, key)

    def cache_set(self, key, value):
        _ask(self._need(_cache, "cache").set, key, value)

    def config(self, key):
        return self._need(_config, "config").get(key)

    def secret(self, key):
        return self._need(_config, "config").secret(key)

    def log(self, level, text):
        host_log.log(_LEVELS[level], text)

    def http(self, request):
        return self._need(_http, "http").send(request)


class _BatchHost(_Host):
    """The imports, for one item of a batch."""

    def __init__(self, uses, item):
        super().__init__(uses)
        self.item = item

    def publish(self, message):
        return _ask(self._need(_batch_publish, "publish").publish, self.item, _outgoing(message))

    def state_get(self, key):
        return _ask(self._need(_batch_state, "state").get, self.item, key)

    def state_set(self, key, value):
        _ask(self._need(_batch_state, "state").set, self.item, key, value)


def _outgoing(message):
    return contract.Outgoing(
        topic=message.topic,
        type=message.type,
        key=message.key,
        content_type=message.content_type,
        body=message.body,
        headers=[contract.Header(header.name, header.value) for header in message.headers],
    )


def _context(message, attempt, host):
    taken = Message(
        message.id,
        message.key,
        message.source,
        message.topic,
        message.type,
        _KINDS[message.kind],
        message.time,
        message.content_type,
        message.body,
        [Header(header.name, header.value) for header in message.headers],
    )
    made = Attempt(
        attempt.group,
        attempt.delivery,
        attempt.number,
        attempt.counted,
        attempt.max_attempts,
        attempt.partition,
        attempt.offset,
        attempt.deadline,
    )
    return Context(taken, made, host)


def _failure(failure):
    if failure.kind == "retry":
        return contract.Failure_Retry(contract.Retry(failure.reason, failure.after_ms))
    if failure.kind == "reject":
        return contract.Failure_Reject(failure.reason)
    if failure.kind == "unavailable":
        return contract.Failure_Unavailable(contract.Unavailable(failure.reason, failure.after_ms))
    return contract.Failure_Error(failure.reason)


class _HostLog(logging.Handler):
    """Takes what libraries log by `logging`."""

    def emit(self, record):
        if record.levelno < logging.INFO:
            level = "debug"
        elif record.levelno < logging.WARNING:
            level = "info"
        else:
            level = "warn" if record.levelno < logging.ERROR else "error"
        host_log.log(_LEVELS[level], self.format(record))


logging.basicConfig(level=logging.INFO, handlers=[_HostLog()], format="%(name)s: %(message)s")


class _Nowhere:
    """Takes the log of the trial run below."""

    def log(self, level, text):
        pass

    publish = state_get = state_set = cache_get = cache_set = config = secret = http = None


def _load_what_a_failure_needs(handler):
    """Formats an exception once, so that every module which that loads late is
    in the component: at run time there are no files."""
    ctx = Context(Message(), Attempt("", "", 1, 0, 1, 0, 0, 0), _Nowhere())
    try:
        raise NameError("nothing", name="nothing")
    except NameError as problem:
        run.judge(handler, ctx, problem)


def world(handler: Handler):
    """The class by which a component is made of a handler."""
    uses = handler.uses
    _load_what_a_failure_needs(handler)

    class WitWorld:
        def handle(self, message, attempt):
            failure = run.one(handler, _context(message, attempt, _Host(uses)))
            if failure is not None:
                raise Err(_failure(failure))

        def handle_batch(self, items):
            contexts = [
                _context(item.message, item.attempt, _BatchHost(uses, index)) for index, item in enumerate(items)
            ]
            return [Ok(None) if one is None else Err(_failure(one)) for one in run.batch(handler, contexts)]

    return WitWorld
