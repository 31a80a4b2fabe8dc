"""The scenarios of tests/languages.rs in Python: `do` names one."""

import logging
import os
import random
import time
from dataclasses import dataclass
from typing import Optional

from courier_sdk import Context, HttpError, Reject, Retry, Unavailable, handler

from explode import explode


@dataclass
class Scenario:
    do: str
    topic: str = ""
    number: Optional[int] = None


FOLLOWS = {"refused": "error", "unreachable": "unavailable", "broken": "retry"}
"""The verdict of an HttpError that the handler does not catch, by its kind."""

calls = 0
"""Counts the calls of this instance: a leak from one message to the next would show."""


@handler(topics=["scenarios"], publishes=["scenarios-out"], uses=["state", "cache", "config", "http"])
def scenario(event: Scenario, ctx: Context) -> None:
    global calls
    calls += 1
    first = ctx.attempt.number == 1
    match event.do:
        case "success":
            return
        case "error":
            raise RuntimeError("it went wrong")
        case "retry":
            if first:
                raise Retry("once more")
        case "retry-after":
            if first:
                raise Retry("a little later", after="1200ms")
        case "reject":
            raise Reject("never")
        case "unavailable":
            if first:
                raise Unavailable("it is down", after="1s")
        case "exception":
            explode(event.do)
        case "exit":
            raise SystemExit("it leaves")
        case "trap":
            os.abort()
        case "memory":
            held = []
            while True:
                held.append(bytearray(b"x" * (1 << 20)))
        case "recursion":
            deeper(0)
        case "endless":
            while True:
                pass
        case "sleep":
            time.sleep(60)
        case "log":
            ctx.log.debug("quietly")
            print("printed", {"a": [1, "b"]})
            logging.getLogger("library").warning("mind %d", 42)
        case "publish":
            body = {"from": ctx.message.id}
            sent = ctx.publish(event.topic, body, type="Published", key="k", headers={"odd": b"\x00\xff"})
            ctx.log.info(f"published {sent}")
        case "publish-and-fail":
            ctx.publish(event.topic, {"lost": True}, type="Published")
            raise Reject("nothing goes out")
        case "publish-elsewhere":
            ctx.publish("not-granted", {})
        case "state":
            count = ctx.state.get_json("count", 0) + 1
            ctx.state.set_json("count", count)
            ctx.log.info(f"state {count} {ctx.state.get_json('count')}")
            ctx.state.set("bytes", b"\x00\xff")
            ctx.state.delete("nothing")
        case "cache":
            ctx.cache.set_json("k", {"cached": True})
            ctx.log.info(f"cache {ctx.cache.get('k')!r} {ctx.cache.get('other')}")
        case "config":
            ctx.log.info(f"region {ctx.config('region')} {ctx.config('other')}")
        case "secret":
            ctx.log.info(f"secret of {len(ctx.secret('token') or '')} characters")
        case "message":
            message, attempt = ctx.message, ctx.attempt
            key = (message.key or b"").decode()
            kept = (message.header("kept") or b"").decode()
            ctx.log.info(f"{message.topic} {message.type} key {key} {str(attempt.group != '').lower()} {kept}")
        case "big":
            if event.number != 2**63 - 1:
                raise ValueError(f"it came as {event.number}")
            ctx.publish(event.topic, {"number": event.number}, type="Big")
            ctx.log.info(f"number {event.number}")
        case "random":
            ctx.log.info(f"random {random.random()} {os.urandom(4).hex()}")
        case "calls":
            ctx.log.info(f"call {calls}")
        case "fetch":
            answers = [ctx.http.post(f"{event.topic}/{path}", body=path).raise_for_status().json() for path in "ab"]
            ctx.log.info(f"fetched {answers}")
        case "fetch-failures":
            for url in event.topic.split(","):
                try:
                    ctx.http.get(url)
                except HttpError as error:
                    ctx.log.info(f"{FOLLOWS[error.kind]}: {error}")
        case _:
            raise Reject(f"no scenario {event.do}")


def deeper(depth: int) -> int:
    return deeper(depth + 1) + depth
