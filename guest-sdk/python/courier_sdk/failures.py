"""How an attempt can fail, and how the host can refuse a call."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")

MAX_WAIT_MS = 365 * _UNITS_MS["d"]
"""A longer wait is as good as none that ends, and the contract's number cannot hold any."""


def wait_ms(after: timedelta | float | str | None) -> int | None:
    """A wait in milliseconds: of a timedelta, of seconds, or of a text like `5s`."""
    if after is None:
        return None
    if isinstance(after, str):
        match = _DURATION.fullmatch(after.strip())
        if match is None:
            raise ValueError(f'after is {after!r}, must be a number and a unit, as "500ms", "5s", "10m", "2h" or "1d"')
        wait = float(match[1]) * _UNITS_MS[match[2]]
    elif isinstance(after, timedelta):
        wait = after.total_seconds() * 1_000
    else:
        wait = after * 1_000
    if wait < 0:
        raise ValueError(f"after is {after!r}, must not be negative")
    return round(min(wait, MAX_WAIT_MS))


class Retry(Exception):
    """The attempt failed and another one is worth while."""

    def __init__(self, reason: object, after: timedelta | float | str | None = None) -> None:
        super().__init__(str(reason))
        self.reason = str(reason)
        self.after_ms = wait_ms(after)


class Reject(Exception):
    """The message can never be handled: no further attempt is made."""

    def __init__(self, reason: object) -> None:
        super().__init__(str(reason))
        self.reason = str(reason)


class Unavailable(Exception):
    """Something that the handler depends on is down.

    The binding pauses, for `after` at least and for five minutes at most before
    it looks again. The attempt is not counted.
    """

    def __init__(self, reason: object, after: timedelta | float | str | None = None) -> None:
        super().__init__(str(reason))
        self.reason = str(reason)
        self.after_ms = wait_ms(after)


class Refused(Exception):
    """The host refused a call of the context; `kind` says in which way.

    `denied`: the binding does not grant it, and the text says what to add.
    `limit`: it broke a limit. `invalid`: the arguments make no sense.
    `unavailable`: the host could not do it now; left uncaught, the binding pauses.
    """

    _WORDS = {"denied": "denied", "limit": "over a limit", "invalid": "invalid", "unavailable": "unavailable"}

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{self._WORDS[kind]}: {text}")
        self.kind = kind
        self.text = text
