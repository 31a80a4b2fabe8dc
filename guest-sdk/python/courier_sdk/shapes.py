"""From JSON to the type that a handler names, and from any value to JSON.

A decoder is made once for a type. It is given numbers with a point as Decimals,
and makes floats of them where no Decimal is declared. What does not fit is said
with its path in the body: `lines[2].quantity: must be an integer, is a text`.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timezone
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any
from uuid import UUID

Decoder = Callable[[Any, str], Any]


class Misfit(Exception):
    """A value is not of the type; `at` is its path in the body."""

    def __init__(self, at: str, why: str) -> None:
        super().__init__(f"{at}: {why}" if at else why)


def exact(text: str) -> Decimal | float:
    """A JSON number with a point or an exponent, with all its digits."""
    try:
        return Decimal(text)
    except InvalidOperation:
        # Its exponent is beyond what a Decimal can have.
        return float(text)


def _inexact(value: Any) -> Any:
    """A copy with floats for Decimals, as JSON has them elsewhere."""
    # Without recursion: what JSON's reader could nest may be deeper than Python's calls.
    whole: list[Any] = [value]
    unread: list[Any] = [whole]
    while unread:
        part = unread.pop()
        for at, inner in enumerate(part) if isinstance(part, list) else part.items():
            if isinstance(inner, Decimal):
                part[at] = float(inner)
            elif isinstance(inner, (list, dict)):
                part[at] = inner.copy()
                unread.append(part[at])
    return whole[0]


def _name(value: Any) -> str:
    names = {type(None): "null", bool: "a boolean", int: "an integer", float: "a number", Decimal: "a number", str: "a text"}
    return names.get(type(value)) or ("a list" if isinstance(value, list) else "an object")


def _plain(wanted: type, name: str) -> Decoder:
    def decode(value: Any, at: str) -> Any:
        # True is an int to Python and none to JSON.
        if type(value) is wanted:
            return value
        if wanted is float and type(value) in (int, Decimal):
            return float(value)
        raise Misfit(at, f"must be {name}, is {_name(value)}")

    return decode


def _read(wanted: Any, name: str, parse: Callable[[str], Any], takes: tuple[type, ...] = (str,)) -> Decoder:
    def decode(value: Any, at: str) -> Any:
        if type(value) not in takes:
            raise Misfit(at, f"must be {name}, is {_name(value)}")
        try:
            return parse(value)
        except (ValueError, ArithmeticError):
            raise Misfit(at, f"must be {name}, is {value!r}") from None

    return decode


def _datetime(text: str) -> datetime:
    # Python 3.10 reads no Z.
    parsed = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)


def _decimal(value: Any) -> Decimal:
    try:
        return Decimal(str(value))
    except InvalidOperation as problem:
        raise ValueError(str(problem)) from None


_LEAVES: dict[Any, Decoder] = {
    str: _plain(str, "a text"),
    int: _plain(int, "an integer"),
    float: _plain(float, "a number"),
    bool: _plain(bool, "a boolean"),
    type(None): _plain(type(None), "null"),
    UUID: _read(UUID, "a UUID", UUID),
    datetime: _read(datetime, "a time such as 2026-12-24T18:00:00Z", _datetime),
    date: _read(date, "a date such as 2026-12-24", date.fromisoformat),
    Decimal: _read(Decimal, "a decimal number", _decimal, (str, int, float, Decimal)),
}


@lru_cache(maxsize=None)
def decoder(wanted: Any) -> Decoder:
    """Makes what turns a JSON value into this type."""
    if wanted is Any or wanted is object:
        return lambda value, at: _inexact(value)
    leaf = _LEAVES.get(wanted)
    if leaf:
        return leaf
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is typing.Union or origin is getattr(types, "UnionType", None):
        return _union(arguments)
    if origin is typing.Literal:
        return _choice(arguments, lambda value: value)
    if origin is typing.Annotated:
        return decoder(arguments[0])
    base = origin or wanted
    if base in (list, tuple, set, frozenset, Sequence, typing.List):
        return _list(base, arguments)
    if base in (dict, Mapping):
        return _dict(arguments)
    if isinstance(wanted, type) and dataclasses.is_dataclass(wanted):
        return _dataclass(wanted)
    if isinstance(wanted, type) and issubclass(wanted, enum.Enum):
        return _choice([member.value for member in wanted], wanted)
    raise TypeError(
        f"a handler cannot be sent a {getattr(wanted, '__name__', wanted)}: it takes a dataclass, dict, Message or bytes, and a "
        "dataclass may have fields of str, int, float, bool, list, dict, Optional, Enum, datetime, date, Decimal, UUID and "
        "dataclasses"
    )


def _union(choices: tuple[Any, ...]) -> Decoder:
    optional = type(None) in choices
    decoders = [decoder(choice) for choice in choices if choice is not type(None)]

    def decode(value: Any, at: str) -> Any:
        if value is None and optional:
            return None
        misfits = []
        for one in decoders:
            try:
                return one(value, at)
            except Misfit as misfit:
                misfits.append(misfit)
        raise misfits[0] if len(misfits) == 1 else Misfit(at, f"is none of what it may be, but {_name(value)}")

    return decode


def _choice(values: Sequence[Any], make: Callable[[Any], Any]) -> Decoder:
    def decode(value: Any, at: str) -> Any:
        value = _inexact(value)
        if not any(type(value) is type(known) and value == known for known in values):
            raise Misfit(at, f"must be one of {', '.join(json.dumps(known) for known in values)}, is {value!r}")
        return make(value)

    return decode


def _list(base: Any, arguments: tuple[Any, ...]) -> Decoder:
    if base is tuple and arguments and arguments[-1] is not Ellipsis:
        each = [decoder(argument) for argument in arguments]
    else:
        each = []
    item = decoder(arguments[0]) if arguments else decoder(Any)
    make = base if base in (tuple, set, frozenset) else list

    def decode(value: Any, at: str) -> Any:
        if not isinstance(value, list):
            raise Misfit(at, f"must be a list, is {_name(value)}")
        if each:
            if len(each) != len(value):
                raise Misfit(at, f"must have {len(each)} items, has {len(value)}")
            return tuple(one(part, f"{at}[{index}]") for index, (one, part) in enumerate(zip(each, value)))
        return make(item(part, f"{at}[{index}]") for index, part in enumerate(value))

    return decode


def _dict(arguments: tuple[Any, ...]) -> Decoder:
    key = decoder(arguments[0]) if arguments else decoder(str)
    item = decoder(arguments[1]) if arguments else decoder(Any)

    def decode(value: Any, at: str) -> Any:
        if not isinstance(value, dict):
            raise Misfit(at, f"must be an object, is {_name(value)}")
        if not arguments:
            return _inexact(value)
        return {key(name, at): item(part, f"{at}.{name}" if at else name) for name, part in value.items()}

    return decode


def _dataclass(wanted: type) -> Decoder:
    try:
        hints = typing.get_type_hints(wanted)
    except NameError:
        # A class within a function names what only that function knows.
        hints = {}
    module = sys.modules.get(wanted.__module__)
    fields: list[tuple[str, Decoder, bool]] = []

    def prepare() -> None:
        for one in dataclasses.fields(wanted):
            if not one.init:
                continue
            hint = hints.get(one.name, one.type)
            if isinstance(hint, str):
                hint = eval(hint, vars(module) if module else {}, {wanted.__name__: wanted})
            optional = one.default is not dataclasses.MISSING or one.default_factory is not dataclasses.MISSING
            fields.append((one.name, decoder(hint), optional))

    def decode(value: Any, at: str) -> Any:
        if not fields:
            prepare()
        if not isinstance(value, dict):
            raise Misfit(at, f"must be an object, is {_name(value)}")
        given = {}
        for name, one, optional in fields:
            path = f"{at}.{name}" if at else name
            if name in value:
                given[name] = one(value[name], path)
            elif not optional:
                raise Misfit(path, "is missing")
        return wanted(**given)

    return decode


def encode(value: Any) -> bytes:
    """Any value of a handler as JSON: dataclasses become objects, times text."""
    return json.dumps(value, default=_plain_value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _plain_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (UUID, Decimal)):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")
