"""Rows of the outbox, within the service's own transaction."""

from __future__ import annotations

import json
import re
from typing import Any, Callable

from .errors import InvalidError
from .message import Draft, text_of

OUTBOX = "courier_outbox"
"""The outbox table, unless told otherwise."""


def outbox_insert(
    dialect: str, draft: Draft, table: str = OUTBOX, *, mark: Callable[[str], str] | None = None
) -> tuple[str, dict[str, Any]]:
    """The statement that writes a message into an outbox, and its parameters by
    name, for other database libraries than those of ``publish_in``.

    ``dialect`` is ``"postgres"`` or ``"sqlite"``; ``mark`` writes a parameter,
    by its name (``:name`` unless given). Raises ``InvalidError`` when the
    message cannot be a row.
    """
    if dialect not in ("postgres", "sqlite"):
        raise InvalidError(f"an outbox lies in 'postgres' or 'sqlite', not in {dialect!r}", draft.id)
    is_postgres = dialect == "postgres"
    mark = mark or (lambda name: f":{name}")
    message = draft.message
    key = None if message.key is None else text_of(message.key)
    if message.key is not None and key is None:
        raise InvalidError("a key in an outbox is text, and this one is not", draft.id)
    body = text_of(draft.body)
    if body is None:
        raise InvalidError("a body in an outbox is text, and this one is not", draft.id)
    headers = dict(draft.headers)
    if isinstance(draft.body, bytes) and "content-type" not in map(str.lower, headers):
        headers["content-type"] = "application/octet-stream"
    values: dict[str, Any] = {"id": draft.id}
    # An outbox of one's own may have no such column.
    if draft.source is not None:
        values["source"] = draft.source
    values.update(topic=message.topic, type=message.type, key=key, kind=message.kind, body=body)
    values["headers"] = json.dumps(headers)
    written = {name: mark(name) for name in values}
    if is_postgres:
        written["headers"] = f"CAST(CAST({mark('headers')} AS text) AS jsonb)"
    at = mark("deliver_at")
    if draft.deliver_at is not None:
        values["deliver_at"] = draft.deliver_at
        written["deliver_at"] = f"CAST(CAST({at} AS text) AS timestamptz)" if is_postgres else at
    elif draft.delay_ms is not None:
        # The clock is the database's, as is that of everything else in the row.
        if is_postgres:
            values["deliver_at"] = draft.delay_ms
            written["deliver_at"] = f"clock_timestamp() + CAST({at} AS bigint) * interval '1 millisecond'"
        else:
            # SQLite cuts its clock to milliseconds: one more, so that nothing is early.
            values["deliver_at"] = f"+{(draft.delay_ms + 1) / 1000:.3f} seconds"
            written["deliver_at"] = f"strftime('%Y-%m-%dT%H:%M:%fZ', 'now', {at})"
    columns, marks = ", ".join(written), ", ".join(written.values())
    return f"INSERT INTO {_quoted(table, draft.id)} ({columns}) VALUES ({marks})", values


def write_row(tx: Any, draft: Draft, table: str) -> Any:
    """Writes a row through a library that is told by where its class comes
    from; what an asynchronous one answers is to be awaited."""
    libraries = {base.__module__.partition(".")[0] for base in type(tx).__mro__}
    if libraries & {"psycopg", "psycopg2"}:
        statement, values = outbox_insert("postgres", draft, table, mark=lambda name: f"%({name})s")
        connection = getattr(tx, "connection", tx)
        # IDLE is 0 in both versions: a row would be committed by itself.
        if getattr(connection, "autocommit", False) and connection.info.transaction_status == 0:
            raise InvalidError("no transaction has begun on this connection, which is in autocommit mode", draft.id)
        # psycopg2 has it on cursors only.
        target = tx if hasattr(tx, "execute") else tx.cursor()
        return target.execute(statement, values)
    if libraries & {"sqlite3", "_sqlite3", "aiosqlite"}:
        statement, values = outbox_insert("sqlite", draft, table)
        if not _begins(getattr(tx, "connection", tx)):
            raise InvalidError("no transaction has begun on this connection: execute BEGIN first", draft.id)
        return tx.execute(statement, values)
    if "sqlalchemy" in libraries and hasattr(tx, "execute"):
        from sqlalchemy import text

        name = (tx.get_bind() if hasattr(tx, "get_bind") else tx).dialect.name
        statement, values = outbox_insert({"postgresql": "postgres"}.get(name, name), draft, table)
        return tx.execute(text(statement), values)
    raise InvalidError(
        f"{type(tx).__module__}.{type(tx).__qualname__} is no connection of psycopg, sqlite3 or SQLAlchemy: "
        "outbox_insert makes the statement for others",
        draft.id,
    )


def _begins(connection: Any) -> bool:
    """Whether a statement on a connection of SQLite is part of a transaction: one that
    has begun, or one that Python begins before it."""
    if getattr(connection, "in_transaction", True):
        return True
    # Since Python 3.12; -1 means that isolation_level decides, as before.
    autocommit = getattr(connection, "autocommit", -1)
    if isinstance(autocommit, bool):
        return not autocommit
    return getattr(connection, "isolation_level", "") is not None


def _quoted(table: str, id: str) -> str:
    parts = table.split(".")
    if not all(re.fullmatch(r"[A-Za-z0-9_]+", part) for part in parts):
        raise InvalidError(f"the outbox table {table!r} is no plain name", id)
    return ".".join(f'"{part}"' for part in parts)
