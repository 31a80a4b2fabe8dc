"""Publishes messages through Courier, and asks what became of them.

``Publisher`` is what a service holds, ``AsyncPublisher`` the same for asyncio.
``Message`` is what it sends, ``Receipt`` what it is told, and the errors say
what it can do when that fails.
"""

from .aio import AsyncPublisher
from .answers import Attempt, Delivery, MessageView, PlaceView, Receipt
from .errors import CourierError, GaveUpError, InvalidError, Problem, RefusedError
from .message import Draft, Message, event
from .outbox import outbox_insert
from .publisher import Publisher

__all__ = [
    "AsyncPublisher",
    "Attempt",
    "CourierError",
    "Delivery",
    "Draft",
    "GaveUpError",
    "InvalidError",
    "Message",
    "MessageView",
    "PlaceView",
    "Problem",
    "Publisher",
    "Receipt",
    "RefusedError",
    "event",
    "outbox_insert",
]
