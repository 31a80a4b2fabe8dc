"""What goes wrong with a message, by what the sender can do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Mapping

if TYPE_CHECKING:
    from .message import Draft


@dataclass(frozen=True)
class Problem:
    """An RFC 9457 problem document, as the host answers it."""

    title: str
    """The kind of problem in words."""
    type: str | None = None
    """Names the kind of problem, for example ``urn:courier:problem:id-is-taken``."""
    status: int | None = None
    """The status of HTTP."""
    detail: str | None = None
    """What was wrong here, and what would be right."""
    id: str | None = None
    """The message that it is about."""
    members: Mapping[str, Any] = field(default_factory=dict)
    """The whole document."""

    def __str__(self) -> str:
        return f"{self.title}: {self.detail}" if self.detail else self.title

    @classmethod
    def read(cls, document: Any, status: int) -> Problem:
        """A document, or where it is none, what its status says."""
        if not isinstance(document, dict) or not isinstance(document.get("title"), str):
            # Something between us and the host answered.
            return cls(title=f"answered {status}", status=status)
        known: dict[str, Any] = {name: document.get(name) for name in ("title", "type", "status", "detail", "id")}
        return cls(**known, members=document)


class CourierError(Exception):
    """What goes wrong with a message."""

    can_retry = False
    """Whether the same message may be taken later, without a change."""


class InvalidError(CourierError):
    """The message, or what was said of it, is wrong: correct it. Nothing was sent."""

    def __init__(self, why: str, id: str | None = None) -> None:
        super().__init__(f"the message is not valid: {why}")
        self.why = why
        self.id = id
        """The message's id, if it has one."""


class RefusedError(CourierError):
    """The host refuses it, as it would each time: correct the message, its id, or the token."""

    def __init__(self, status: int, problem: Problem, id: str | None = None) -> None:
        super().__init__(f"the host refuses it ({status}): {problem}")
        self.status = status
        """The status of HTTP; 409 means that the id is taken by another message."""
        self.problem = problem
        """What the host answered."""
        self.id = id if id is not None else problem.id
        """The message's id, if the answer is about one message."""


class GaveUpError(CourierError):
    """No host answered for certain within the publisher's time.

    A message may have been taken, since an answer can be lost: publish
    ``draft`` again, which cannot double it.
    """

    can_retry = True

    def __init__(self, tries: int, why: str, draft: Draft | None = None) -> None:
        of = f" on message {draft.id}" if draft else ""
        super().__init__(f"gave up{of} after {tries} tries: {why}")
        self.tries = tries
        """How often it was tried."""
        self.why = why
        """The last reason."""
        self.draft = draft
        """The message, with its id; none when one was asked for or cancelled."""
