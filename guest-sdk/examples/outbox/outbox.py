"""An order and its message in one transaction, with PostgreSQL or SQLite.

    pip install "psycopg[binary]"                      # PostgreSQL only
    courier outbox schema --for sqlite | sqlite3 shop.db
    python outbox.py sqlite:shop.db                    # or postgresql://..

Courier relays the row once the transaction has committed, and never when it
rolled back. `[[outbox]]` in courier.toml names the database.
"""

import json
import sqlite3
import sys
import uuid


def connect(url):
    """A connection, and how its driver writes a parameter."""
    if url.startswith("sqlite:"):
        # The relay reads beside this program: wait for it instead of failing.
        return sqlite3.connect(url.removeprefix("sqlite:"), timeout=5.0), "?"
    import psycopg

    return psycopg.connect(url), "%s"


def create_order(connection, mark, name):
    """Writes the order and its message, or neither. Returns the order's id."""
    order = f"o-{uuid.uuid4()}"
    body = json.dumps({"order_id": order, "order_name": name})
    columns = "topic, type, key, body"
    values = ("order", "OrderCreated", order, body)
    marks = ", ".join([mark] * len(values))
    try:
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE IF NOT EXISTS shop_order (id text PRIMARY KEY, name text NOT NULL)")
        cursor.execute(f"INSERT INTO shop_order (id, name) VALUES ({mark}, {mark})", (order, name))
        cursor.execute(f"INSERT INTO courier_outbox ({columns}) VALUES ({marks})", values)
        connection.commit()
    except Exception:
        connection.rollback()
        raise
    return order


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(create_order(*connect(sys.argv[1]), "tea"))
