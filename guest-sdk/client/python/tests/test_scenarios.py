"""The scenarios that all clients share, against the hosts that COURIER_TEST_HOSTS
describes: ``cargo xtask test --only clients`` starts them. Each runs with both
publishers."""

import asyncio
import base64
import dataclasses
import json
import os
import re
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from inspect import isawaitable
from pathlib import Path

import pytest
from databases import ASYNC, SYNC
from doors import lossy, silent

from courier_client import AsyncPublisher, CourierError, GaveUpError, InvalidError, Message, Publisher, RefusedError

PATIENCE_S = 30.0
POLL_S = 0.05
HERE = Path(__file__).parent
SCENARIOS = json.loads((HERE / "../../scenarios.json").read_text())["scenarios"]

if "COURIER_TEST_HOSTS" not in os.environ:
    pytest.exit("COURIER_TEST_HOSTS names no file: run `cargo xtask test --only clients`, which starts the hosts", 1)
HOSTS = json.loads(Path(os.environ["COURIER_TEST_HOSTS"]).read_text())


def matches(expected, value):
    """Whether a value has all that is expected of it."""
    if isinstance(expected, dict):
        return isinstance(value, dict) and all(matches(one, value.get(name)) for name, one in expected.items())
    if isinstance(expected, list):
        return isinstance(value, list) and len(value) == len(expected) and all(map(matches, expected, value))
    return type(expected) is type(value) and expected == value


def shown(error):
    kind = {RefusedError: "refused", GaveUpError: "gave_up", InvalidError: "invalid"}[type(error)]
    draft = getattr(error, "draft", None)
    problem = getattr(error, "problem", None)
    return {
        "kind": kind,
        "status": getattr(error, "status", None),
        "problem": problem and dataclasses.asdict(problem),
        "id": draft.id if draft else getattr(error, "id", None),
        "can_retry": error.can_retry,
    }


def message_of(wanted):
    """The message that the table describes."""
    more = dict(wanted)
    decoded = base64.b64decode

    def header(value):
        if isinstance(value, list):
            return [header(one) for one in value]
        return decoded(value["base64"]) if isinstance(value, dict) else value

    if "key_base64" in more:
        more["key"] = decoded(more.pop("key_base64"))
    if "body_base64" in more:
        more["body"] = decoded(more.pop("body_base64"))
    if "body_letters" in more:
        more["body"] = "x" * more.pop("body_letters")
    if "body_text_bytes" in more:
        more["body"] = more.pop("body_text_bytes").encode()
    if "delay_ms" in more:
        more["delay"] = timedelta(milliseconds=more.pop("delay_ms"))
    if "headers" in more:
        more["headers"] = {name: header(value) for name, value in more["headers"].items()}
    return Message(**more)


class Run:
    """One run of a scenario with one publisher."""

    def __init__(self, publisher_class, transaction):
        self.publisher_class = publisher_class
        self.transaction = transaction
        self.names = {}
        self.draft = None

    def named(self, value):
        if isinstance(value, str):
            return re.sub(r"\$(\w+)", lambda name: self.names.setdefault(name[1], f"{name[1]}-py-{uuid.uuid4()}"), value)
        if isinstance(value, list):
            return [self.named(one) for one in value]
        return {name: self.named(one) for name, one in value.items()} if isinstance(value, dict) else value

    def publisher(self, by):
        options = {name: by[name] for name in ("source", "traceparent") if name in by}
        options |= {name[:-3]: by[name] / 1000 for name in ("timeout_ms", "try_timeout_ms") if name in by}
        token = HOSTS["tokens"][by.get("token", "shop")]
        return self.publisher_class(self.urls[by.get("host", "main")], token=token, **options)

    def act(self, step):
        """Does what a step says; with the asynchronous publisher it is to be awaited."""
        publisher = self.publisher(step.get("by", {}))
        which = {"topic": step["topic"]} if "topic" in step else {}
        match step["do"]:
            case "publish":
                message = message_of(step["message"])
                if "after_ms" in step:
                    return publisher.publish_after(message, step["after_ms"] / 1000)
                if "at_in_ms" in step:
                    at = datetime.now(timezone.utc) + timedelta(milliseconds=step["at_in_ms"])
                    return publisher.publish_at(message, at)
                return publisher.publish_broadcast(message) if step.get("broadcast") else publisher.publish(message)
            case "publish_again":
                return publisher.publish(self.draft)
            case "publish_all":
                return publisher.publish_all([message_of(one) for one in step["messages"]])
            case "ask":
                return publisher.ask(step["id"], **which)
            case "cancel":
                return publisher.cancel(step["id"], **which)
            case "transaction":
                return self.transaction(HOSTS, step["end"], publisher, [message_of(one) for one in step["messages"]])
            case "requests":
                return len(self.doors[step["host"]].asked)

    async def done(self, step):
        try:
            answer = self.act(step)
            if isawaitable(answer):
                answer = await answer
        except CourierError as error:
            self.draft = getattr(error, "draft", None) or self.draft
            return None, shown(error)
        if isinstance(answer, list):
            return [{"error": shown(one)} if isinstance(one, Exception) else dataclasses.asdict(one) for one in answer], None
        return (dataclasses.asdict(answer) if dataclasses.is_dataclass(answer) else answer), None

    async def run(self, scenario):
        with ExitStack() as stack:
            main = HOSTS["main"]["url"]
            self.doors = {"lossy": stack.enter_context(lossy(main)), "silent": stack.enter_context(silent(main))}
            self.urls = {"main": main, "away": HOSTS["away"]["url"], "closed": "http://127.0.0.1:1"}
            self.urls |= {name: door.url for name, door in self.doors.items()}
            for written in scenario["steps"]:
                await self.step(self.named(written))

    async def step(self, step):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer, error = await self.done(step)
            is_unknown = error is not None and error["status"] == 404
            # What was published becomes visible, and handled, a moment later.
            is_early = step["do"] == "ask" and "error" not in step and (is_unknown or not matches(step["expect"], answer))
            if not is_early or time.monotonic() > deadline:
                break
            await asyncio.sleep(POLL_S)
        said = json.dumps({"step": step, "answer": answer, "error": error}, indent=1, default=str)
        if "error" in step:
            assert error is not None and matches(step["error"], error), said
        else:
            assert error is None and matches(step.get("expect", {}), {} if answer is None else answer), said
        if "save_id" in step:
            self.names[step["save_id"]] = (answer or error)["id"]
        if step.get("not_early"):
            assert answer["deliver_at"] and answer["deliveries"][0]["attempts"][0]["started_at"] >= answer["deliver_at"], said


def cases():
    for scenario in SCENARIOS:
        for publisher_class, databases in ((Publisher, SYNC), (AsyncPublisher, ASYNC)):
            name = f"{scenario['name']} ({publisher_class.__name__})"
            if not scenario.get("databases"):
                yield pytest.param(scenario, publisher_class, None, id=name)
            else:
                for database, transaction in databases.items():
                    yield pytest.param(scenario, publisher_class, transaction, id=f"{name[:-1]}, {database})")


@pytest.mark.parametrize(("scenario", "publisher_class", "transaction"), list(cases()))
def test_scenario(scenario, publisher_class, transaction):
    asyncio.run(Run(publisher_class, transaction).run(scenario))


def test_the_example_of_the_readme_runs():
    example = re.search(r"```python\n(.*?)```", (HERE / "../README.md").read_text(), re.DOTALL)[1]
    env = {**os.environ, "COURIER_URL": HOSTS["main"]["url"], "COURIER_TOKEN": HOSTS["tokens"]["shop"]}
    ran = subprocess.run([sys.executable, "-"], input=example, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and "cancelled" in ran.stdout, ran.stderr
