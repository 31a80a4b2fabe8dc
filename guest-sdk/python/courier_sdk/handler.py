"""The decorators that make a function a handler, and what they keep of it."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

from .failures import Reject
from .message import Item, Message
from .shapes import Misfit, decoder, exact

USES = ("publish", "state", "cache", "config", "http")
"""What a handler can declare beside its log; each is an import of the component."""


@dataclasses.dataclass
class Handler:
    """A function with what it says about itself."""

    function: Callable[..., Any]
    world: str
    group: str
    topics: list[str]
    types: list[str]
    publishes: list[str]
    http: list[str]
    uses: list[str]
    name: str
    read: Callable[[Message], Any]
    takes_context: bool
    file: str

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.function(*arguments, **named)

    @property
    def is_batch(self) -> bool:
        """Whether it takes several messages at a time."""
        return self.world == "batch-handler"


def handler(
    *,
    group: str = "",
    topics: Sequence[str] = (),
    types: Sequence[str] = (),
    publishes: Sequence[str] = (),
    http: Sequence[str] = (),
    uses: Sequence[str] = (),
    name: str = "",
) -> Callable[[Callable[..., Any]], Handler]:
    """Makes a function the handler of one message at a time.

    Its first argument is what its annotation says: a dataclass or dict read
    from a JSON body, a `Message`, bytes, or an Optional of these, which is None
    for a tombstone. Its second, if it has one, is the `Context`.

    `topics`, `types` and `group` go into the binding that `courier plugin push`
    prints; the types are the dataclass's name unless given. `publishes` lists
    the topics it publishes to, `http` the hosts it asks, as "api.example.com:443",
    and `uses` what else it does: state, cache, config. Only that is imported by
    the component, so that whoever binds it sees what it can do.
    """
    return _decorator("handler", group, topics, types, publishes, http, uses, name)


def batch_handler(
    *,
    group: str = "",
    topics: Sequence[str] = (),
    types: Sequence[str] = (),
    publishes: Sequence[str] = (),
    http: Sequence[str] = (),
    uses: Sequence[str] = (),
    name: str = "",
) -> Callable[[Callable[..., Any]], Handler]:
    """Makes a function the handler of several messages at a time.

    It takes a list of `Item`, whose `event` is what the annotation `list[T]` or
    the only dataclass says, and returns a list with one outcome for each item,
    in their order: None for a success, or an exception.
    """
    return _decorator("batch-handler", group, topics, types, publishes, http, uses, name)


def _decorator(
    world: str,
    group: str,
    topics: Sequence[str],
    types: Sequence[str],
    publishes: Sequence[str],
    http: Sequence[str],
    uses: Sequence[str],
    name: str,
) -> Callable[[Callable[..., Any]], Handler]:
    for what, texts in (("topics", topics), ("types", types), ("publishes", publishes), ("http", http), ("uses", uses)):
        if isinstance(texts, str):
            raise TypeError(f"{what} is the text {texts!r}, must be a list: {what}=[{texts!r}]")
    for use in uses:
        if use not in USES:
            raise ValueError(f"uses has {use!r}, must be of {', '.join(USES)}")
    implied = {"publish": bool(publishes), "http": bool(http)}
    used = [use for use in USES if use in uses or implied.get(use)]

    def decorate(function: Callable[..., Any]) -> Handler:
        wanted, read = _reader(function, world)
        is_event = dataclasses.is_dataclass(wanted) and wanted is not Message
        named = list(types) or ([wanted.__name__] if is_event and isinstance(wanted, type) else [])
        takes_context = len(inspect.signature(function).parameters) > 1
        file = inspect.unwrap(function).__code__.co_filename
        return Handler(
            function=function,
            world=world,
            group=group,
            topics=list(topics),
            types=named,
            publishes=list(publishes),
            http=list(http),
            uses=used,
            name=name,
            read=read,
            takes_context=takes_context,
            file=file,
        )

    return decorate


def _reader(function: Callable[..., Any], world: str) -> tuple[Any, Callable[[Message], Any]]:
    """What the first argument of a function is, and how it is read from a message."""
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters:
        raise TypeError(f"{function.__name__} takes nothing: a handler takes what was sent, and a Context after it")
    try:
        wanted = typing.get_type_hints(function).get(parameters[0].name, dict)
    except NameError as problem:
        raise TypeError(f"the annotations of {function.__name__} cannot be read: {problem}") from None
    if world == "batch-handler":
        arguments = typing.get_args(wanted)
        wanted = arguments[0] if arguments else dict
        if wanted is Item:
            wanted = dict
    choices = typing.get_args(wanted) if typing.get_origin(wanted) in _UNIONS else ()
    takes_tombstones = type(None) in choices
    rest = [choice for choice in choices if choice is not type(None)]
    if takes_tombstones and len(rest) == 1:
        wanted = rest[0]
    else:
        takes_tombstones = wanted is Message
    if wanted is Message:
        return wanted, lambda message: message
    called = getattr(wanted, "__name__", str(wanted))
    decode = None if wanted is bytes else decoder(wanted)

    def read(message: Message) -> Any:
        if message.body is None:
            if takes_tombstones:
                return None
            raise Reject(f"the message is a tombstone: it has no body (a handler of Optional[{called}] takes it)")
        if decode is None:
            return message.body
        try:
            return decode(message.json(parse_float=exact), "")
        except Misfit as misfit:
            raise Reject(f"body is not a valid {called}: {misfit}") from None

    return wanted, read


_UNIONS = (typing.Union, getattr(types, "UnionType", typing.Union))
