"""Handlers as the host would run them, without a host."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any, Optional, Union

import pytest

from courier_sdk import Context, HttpError, HttpResponse, Item, Message, Refused, Reject, Retry, Unavailable
from courier_sdk import batch_handler, handler
from courier_sdk.testing import Failure, TestContext, deliver_batch


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class Line:
    sku: str
    quantity: int


@dataclass
class OrderCreated:
    order_id: str
    lines: list[Line] = field(default_factory=list)
    price: float = 0.0
    size: Size = Size.SMALL
    at: Optional[datetime] = None
    total: Optional[Decimal] = None


class Rate(Enum):
    LOW = 0.5
    HIGH = 1.5


@dataclass
class Paid:
    total: Decimal
    parts: dict[str, list[Decimal]]
    either: Union[Decimal, str]
    share: float
    rate: Rate
    anything: Any
    others: dict
    huge: Decimal
    far: float


@dataclass
class StockReserved:
    order_id: str
    at: datetime


@handler(group="stock", topics=["order"], publishes=["stock"], uses=["state", "cache", "config", "http"])
def reserve(order: OrderCreated, ctx: Context) -> None:
    if not order.lines:
        raise Reject("an order of nothing")
    ctx.state.set_json(f"order/{order.order_id}", order)
    ctx.publish("stock", StockReserved(order.order_id, datetime(2026, 1, 2, tzinfo=timezone.utc)), key=order.order_id)
    ctx.log.info(f"reserved {sum(line.quantity for line in order.lines)}")


def fails_with(problem: Exception) -> Failure | None:
    @handler()
    def fails(event: dict, ctx: Context) -> None:
        raise problem

    return TestContext({}).deliver(fails)


def test_what_a_handler_did_is_recorded() -> None:
    test = TestContext(OrderCreated("o-1", [Line("tea", 2)]))
    assert test.deliver(reserve) is None
    [sent] = test.published
    assert (sent.topic, sent.type, sent.key, sent.content_type) == ("stock", "StockReserved", b"o-1", "application/json")
    assert sent.json() == {"order_id": "o-1", "at": "2026-01-02T00:00:00Z"}
    assert json.loads(test.stored["order/o-1"])["lines"] == [{"sku": "tea", "quantity": 2}]
    assert test.logs == [("info", "reserved 2")]


def test_the_types_are_the_dataclass_unless_given() -> None:
    assert (reserve.types, reserve.topics, reserve.group) == (["OrderCreated"], ["order"], "stock")
    assert reserve.uses == ["publish", "state", "cache", "config", "http"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"no json", "body is not valid JSON: Expecting value"),
        (b'{"order_id": NaN}', "NaN is not a JSON value"),
        (b"[]", "body is not a valid OrderCreated: must be an object, is a list"),
        (b"{}", "body is not a valid OrderCreated: order_id: is missing"),
        (b'{"order_id": 7}', "order_id: must be a text, is an integer"),
        (b'{"order_id": "o", "lines": [{"sku": "s", "quantity": true}]}', "lines[0].quantity: must be an integer, is a boolean"),
        (b'{"order_id": "o", "size": "huge"}', 'size: must be one of "small", "large", is \'huge\''),
        (b'{"order_id": "o", "at": "soon"}', "at: must be a time such as"),
        (None, "the message is a tombstone"),
    ],
)
def test_a_body_that_does_not_fit_is_rejected_with_its_path(body: bytes | None, why: str) -> None:
    ended = TestContext(body).deliver(reserve)
    assert ended is not None and ended.kind == "reject" and why in ended.reason, ended


def test_fields_become_what_they_are_annotated_with() -> None:
    seen: list[OrderCreated] = []

    @handler()
    def take(order: OrderCreated) -> None:
        seen.append(order)

    body = b'{"order_id":"o","size":"large","at":"2026-12-24T18:00:00Z","total":"0.10","price":3,"unknown":1}'
    assert TestContext(body).deliver(take) is None
    order = seen[0]
    assert (order.size, order.total, order.price) == (Size.LARGE, Decimal("0.10"), 3.0)
    assert order.at == datetime(2026, 12, 24, 18, tzinfo=timezone.utc)


def test_numbers_are_exact_where_a_decimal_is_declared_and_floats_elsewhere() -> None:
    seen: list[Paid] = []

    @handler()
    def take(paid: Paid) -> None:
        seen.append(paid)

    exact = "12345678901234567.89"
    body = (
        f'{{"total":{exact},"parts":{{"a":[10.00,-0.10,7]}},"either":{exact},"share":{exact},"rate":1.5,'
        f'"anything":[{{"x":0.1}}],"others":{{"y":[10.00]}},"huge":1e400,"far":1e99999999999999999999}}'
    )
    assert TestContext(body).deliver(take) is None
    paid = seen[0]
    assert (paid.total, paid.either, paid.huge) == (Decimal(exact), Decimal(exact), Decimal("1e400"))
    assert [str(part) for part in paid.parts["a"]] == ["10.00", "-0.10", "7"]
    assert (paid.share, paid.rate, paid.far) == (float(exact), Rate.HIGH, float("inf"))
    assert all(type(number) is float for number in (paid.share, paid.anything[0]["x"], paid.others["y"][0]))
    ended = TestContext(body.replace('"rate":1.5', '"rate":2.5')).deliver(take)
    assert ended is not None and "rate: must be one of 0.5, 1.5, is 2.5" in ended.reason


def test_a_body_that_is_not_typed_has_floats_unless_asked() -> None:
    @handler()
    def take(body: dict) -> None:
        assert type(body["a"]) is float

    assert TestContext(b'{"a":10.00}').deliver(take) is None
    assert TestContext(b'{"a":1.5,"deep":' + b"[" * 400 + b"1.5" + b"]" * 400 + b"}").deliver(take) is None
    message = Message(body=b'{"a":10.00}')
    assert (message.json(), str(message.json(parse_float=Decimal)["a"])) == ({"a": 10.0}, "10.00")


def test_integers_beyond_2_to_the_53_stay_exact() -> None:
    @handler(publishes=["out"])
    def echo(body: dict, ctx: Context) -> None:
        ctx.publish("out", body)

    for number in (2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1):
        test = TestContext(f'{{"id":{number}}}')
        assert test.deliver(echo) is None
        assert test.published[0].body == f'{{"id":{number}}}'.encode()


def test_each_exception_says_what_follows() -> None:
    assert fails_with(Retry("again")) == Failure("retry", "again", None)
    assert fails_with(Retry("again", after="5s")) == Failure("retry", "again", 5_000)
    assert fails_with(Retry("again", after=1.5)) == Failure("retry", "again", 1_500)
    assert fails_with(Unavailable("down", after=timedelta(minutes=1))) == Failure("unavailable", "down", 60_000)
    assert fails_with(Reject("never")) == Failure("reject", "never")
    assert fails_with(Refused("unavailable", "the store is away")) == Failure("unavailable", "unavailable: the store is away")
    assert fails_with(HttpError("unreachable", "no such name")) == Failure("unavailable", "http no such name")
    assert fails_with(HttpError("broken", "answer broke off")) == Failure("retry", "http answer broke off")
    for wrong in ("soon", -1, "5"):
        with pytest.raises(ValueError, match="after is"):
            Retry("x", after=wrong)


def test_an_uncaught_exception_names_the_line_of_the_handlers_own_code() -> None:
    @handler()
    def fails(event: dict, ctx: Context) -> None:
        json.loads("{")

    test = TestContext({})
    ended = test.deliver(fails)
    line = fails.function.__code__.co_firstlineno + 2
    assert ended is not None and ended.kind == "error"
    assert ended.reason.startswith("JSONDecodeError: Expecting property name")
    # The innermost line is in the library; what helps is the handler's own.
    assert ended.reason.endswith(f"(test_handlers.py:{line})"), ended.reason
    level, logged = test.logs[-1]
    assert level == "error" and logged.startswith("Traceback") and "courier_sdk/run.py" not in logged


def test_an_exit_is_an_error_and_running_out_of_memory_is_the_hosts_to_judge() -> None:
    ended = fails_with(SystemExit(3))  # type: ignore[arg-type]
    assert ended is not None and ended.reason.startswith("SystemExit: 3 (test_handlers.py:")
    with pytest.raises(MemoryError):
        fails_with(MemoryError())


def test_what_the_handler_does_not_declare_is_refused() -> None:
    @handler(uses=["config"])
    def sneaky(event: dict, ctx: Context) -> None:
        ctx.state.get("x")

    ended = TestContext({}).deliver(sneaky)
    assert ended is not None and "add uses=['config', 'state'] to its decorator" in ended.reason


def test_a_grant_that_is_missing_names_the_remedy() -> None:
    ended = TestContext(OrderCreated("o-1", [Line("tea", 2)]), grant=["state"]).deliver(reserve)
    assert ended is not None and 'add `publish = ["stock"]` to [binding.grant]' in ended.reason


def test_raw_messages_bytes_and_tombstones() -> None:
    seen: list[object] = []

    @handler()
    def raw(message: Message, ctx: Context) -> None:
        seen.append((message.body, message.key, message.header("h"), message.header("none")))

    @handler()
    def body(data: bytes) -> None:
        seen.append(data)

    @handler()
    def maybe(order: Optional[OrderCreated]) -> None:
        seen.append(order)

    odd = bytes(range(256))
    assert TestContext(odd, key=odd, headers={"h": odd, "none": None}).deliver(raw) is None
    assert TestContext(odd).deliver(body) is None
    assert TestContext(None, key="k").deliver(maybe) is None
    assert TestContext(None, key="k").deliver(raw) is None
    assert seen == [(odd, odd, odd, None), odd, None, (None, b"k", None, None)]


def test_publishing_takes_any_body() -> None:
    @handler(publishes=["out"])
    def publish(event: dict, ctx: Context) -> None:
        ctx.publish("out", b"\xff", key=b"\x00", headers={"a": "1", "b": None})
        ctx.publish("out", "text", key=7, type="T")
        ctx.publish("out", None, key="gone")
        with pytest.raises(Refused, match="a set cannot|cannot be written as JSON"):
            ctx.publish("out", {"f": object()})
        with pytest.raises(Refused, match="cannot be written as JSON"):
            ctx.publish("out", {"f": float("nan")})

    test = TestContext({})
    assert test.deliver(publish) is None
    raw, text, gone = test.published
    assert (raw.body, raw.key, [(h.name, h.value) for h in raw.headers]) == (b"\xff", b"\x00", [("a", b"1"), ("b", None)])
    assert (text.body, text.key, text.type) == (b"text", b"7", "T")
    assert (gone.body, gone.key, gone.content_type) == (None, b"gone", "")


def test_state_and_cache_take_bytes_and_text_and_refuse_the_rest() -> None:
    @handler(uses=["state", "cache"])
    def keep(event: dict, ctx: Context) -> None:
        ctx.state.set("a", "ä")
        ctx.state.set("b", b"\x00")
        ctx.state.delete("old")
        ctx.cache.set_json("n", {"x": 1})
        assert ctx.cache.get_json("n") == {"x": 1} and ctx.cache.get_json("none", 0) == 0
        with pytest.raises(TypeError, match="set_json"):
            ctx.state.set("c", 3)  # type: ignore[arg-type]

    test = TestContext({}, state={"old": "1"})
    assert test.deliver(keep) is None
    assert test.stored == {"a": "ä".encode(), "b": b"\x00"}


def test_http_is_answered_from_a_table_and_statuses_say_what_follows() -> None:
    @handler(uses=["http"])
    def ask(event: dict, ctx: Context) -> None:
        answer = ctx.http.post("http://a.example/x", json={"q": 1}, idempotent=True).raise_for_status()
        ctx.log.info(answer.json()["a"])

    url = ("POST", "http://a.example/x")
    test = TestContext({}, http={url: HttpResponse(200, body=b'{"a": 1}')})
    assert test.deliver(ask) is None
    assert test.requests[0].headers == [("content-type", b"application/json"), ("idempotency-key", b"test-delivery")]
    down = HttpResponse(503, [("Retry-After", b"7")])
    assert TestContext({}, http={url: down}).deliver(ask) == Failure("unavailable", "http 503", 7_000)
    for_ever = HttpResponse(503, [("Retry-After", b"9" * 20)])
    assert TestContext({}, http={url: for_ever}).deliver(ask) == Failure("unavailable", "http 503", 365 * 86_400_000)
    assert TestContext({}, http={url: 500}).deliver(ask) == Failure("retry", "http 500")
    assert TestContext({}, http={url: 404}).deliver(ask) == Failure("reject", "http 404")
    ended = TestContext({}).deliver(ask)
    assert ended is not None and ended.kind == "error" and "has no answer for POST" in ended.reason


def test_a_batch_has_an_outcome_for_each_item() -> None:
    @batch_handler(group="index", uses=["state"])
    def index(items: list[Item]) -> list[Exception | None]:
        for item in items:
            item.ctx.state.set(item.event["id"], "seen")
        return [Retry("later") if item.event["id"] == "b" else None for item in items]

    tests = [TestContext({"id": "a"}), TestContext(b"no json"), TestContext({"id": "b"})]
    outcomes = deliver_batch(index, tests)
    assert [outcome and outcome.kind for outcome in outcomes] == [None, "reject", "retry"]
    assert tests[0].stored == {"a": b"seen"}


def test_a_batch_that_loses_count_ends_the_call_and_of_one_it_is_the_outcome() -> None:
    @batch_handler()
    def loses(items: list) -> list:
        return []

    with pytest.raises(TypeError, match="0 outcomes for 2 items"):
        deliver_batch(loses, [TestContext({}), TestContext({})])
    ended = TestContext({}).deliver(loses)
    assert ended is not None and ended.kind == "error" and "0 outcomes for 1 items" in ended.reason


def test_mistakes_in_the_decorator_are_told() -> None:
    with pytest.raises(TypeError, match="topics is the text 'order', must be a list"):
        handler(topics="order")
    with pytest.raises(ValueError, match="uses has 'files', must be of publish, state"):
        handler(uses=["files"])
    with pytest.raises(TypeError, match="a handler cannot be sent a set|cannot be sent a complex"):

        @handler()
        def odd(event: complex) -> None:
            pass

    async def late(event: dict) -> None:
        pass

    ended = TestContext({}).deliver(handler()(late))
    assert ended is not None and "async" in ended.reason
