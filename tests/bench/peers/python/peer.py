"""A consumer with aiokafka and asyncpg that writes a statement a batch."""

import asyncio
import json
import os
import time

import aiohttp
import asyncpg
import uvloop
from aiokafka import AIOKafkaConsumer

TOPIC = os.environ["BENCH_TOPIC"]
WORK = os.environ["BENCH_WORK"]
EFFECTS = os.environ.get("BENCH_EFFECTS", "")
RECORDS = 2_000
FILL_MS = 50
ATTEMPTS = 3
RETRY_SECONDS = 0.02
TELL_EVERY_SECONDS = 0.5
HANDLED, HANDLE_FAIL = 5, 4
INSERT = """
INSERT INTO delivery (position_id, record_offset, message_id, key, state, reason, record_time, received_at,
                      started_at, settled_at)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[], $5::smallint[], $6::text[],
                     $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[])
ON CONFLICT DO NOTHING
"""


class Failed(Exception):
    """What the handler says of a record that it does not take."""


calls = 0


def now():
    return time.time_ns() // 1_000


def validate(body):
    order = json.loads(body)
    if not isinstance(order.get("sequence"), int):
        raise Failed("sequence is no whole number")
    if not order.get("key"):
        raise Failed("key is empty")
    if not order.get("amount", 0) > 0:
        raise Failed("amount is not above zero")
    if not isinstance(order.get("items"), list) or not order["items"]:
        raise Failed("items is empty")


def handle(record):
    """The handler of all work that waits for nothing."""
    global calls
    calls += 1
    if WORK == "json":
        validate(record.value)
    elif WORK == "failing" and record.key.endswith(b"00"):
        raise Failed("this key always fails")


async def effect(session, record):
    global calls
    calls += 1
    sequence = json.loads(record.value)["sequence"]
    async with session.get(f"{EFFECTS}/?key={record.key.decode()}&sequence={sequence}") as answer:
        await answer.read()


def row(record, received, started, reason):
    return (
        record.partition,
        record.offset,
        f"{TOPIC}:{record.partition}:{record.offset}",
        record.key,
        HANDLED if reason is None else HANDLE_FAIL,
        reason,
        record.timestamp * 1_000,
        received,
        started,
        now(),
    )


async def settle(session, record, received):
    """A row, after as many attempts as the record needs or may have."""
    attempt = 0
    while True:
        attempt += 1
        started = now()
        try:
            if WORK == "effect":
                await effect(session, record)
            else:
                handle(record)
            return row(record, received, started, None)
        except (Failed, aiohttp.ClientError) as failure:
            if attempt == ATTEMPTS:
                return row(record, received, started, str(failure))
            await asyncio.sleep(RETRY_SECONDS)


async def settle_all(session, records):
    """Rows of one batch: the records of a key one after another, the keys at once."""
    received = now()
    if WORK in ("none", "json"):
        return [await settle(session, record, received) for record in records]
    lanes = {}
    for record in records:
        lanes.setdefault(record.key, []).append(record)

    async def run(lane):
        return [await settle(session, record, received) for record in lane]

    return [row for rows in await asyncio.gather(*map(run, lanes.values())) for row in rows]


async def tell():
    while True:
        print(json.dumps({"calls": calls}), flush=True)
        await asyncio.sleep(TELL_EVERY_SECONDS)


async def main():
    database = await asyncpg.connect(os.environ["BENCH_DATABASE"])
    insert = await database.prepare(INSERT)
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=os.environ["BENCH_BOOTSTRAP"],
        group_id=os.environ["BENCH_GROUP"],
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
        session_timeout_ms=6_000,
        heartbeat_interval_ms=1_000,
    )
    await consumer.start()
    telling = asyncio.create_task(tell())
    async with aiohttp.ClientSession() as session:
        while not telling.done():
            fetched = await consumer.getmany(timeout_ms=FILL_MS, max_records=RECORDS)
            if not fetched:
                continue
            records = [record for of_partition in fetched.values() for record in of_partition]
            rows = await settle_all(session, records)
            await insert.fetch(*zip(*rows))
            await consumer.commit({partition: of[-1].offset + 1 for partition, of in fetched.items()})


if __name__ == "__main__":
    uvloop.run(main())
