"""What needs no host: how messages are written, and how answers and silences are taken."""

import asyncio
import json
import re
import sqlite3
import sys
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import pytest
from doors import answers, serve

from courier_client import (
    AsyncPublisher,
    Draft,
    GaveUpError,
    InvalidError,
    Message,
    Publisher,
    RefusedError,
    event,
    outbox_insert,
)
from courier_client.plan import NoAnswer, Request


@event(topic="order", key="order_id")
@dataclass
class OrderCreated:
    order_id: str


ORDER = OrderCreated("o-1")
AWAY = (503, {"title": "not available", "status": 503}, {})


def test_a_draft_is_written_as_the_host_reads_it():
    message = Message(
        "order", "OrderCreated", {"order_id": "茶"}, key=b"\xff", id="o-1", kind="broadcast", content_type="a/b",
        delay=timedelta(microseconds=1200), headers={"a": ["1", b"\x00\xff"], "b": None}, traceparent="00-a-b-01",
    )  # fmt: skip
    assert json.loads(Draft(message, "shop").json) == {
        "id": "o-1", "topic": "order", "type": "OrderCreated", "key_base64": "/w==", "source": "shop",
        "kind": "broadcast", "delay": "2ms", "body": {"order_id": "茶"},
        "headers": {"a": ["1", {"base64": "AP8="}], "b": None, "content-type": "a/b", "traceparent": "00-a-b-01"},
    }  # fmt: skip
    time = datetime(1970, 1, 1, 1, 0, 1, 500, tzinfo=timezone(timedelta(hours=1)))
    wire = json.loads(Draft(Message("order", "T", b"\x01", key="k", deliver_at=time)).json)
    assert re.fullmatch("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", wire.pop("id"))
    at = "1970-01-01T00:00:01.000500Z"
    assert wire == {"topic": "order", "type": "T", "key": "k", "deliver_at": at, "body_base64": "AQ=="}


def test_a_draft_keeps_the_body_that_it_was_made_with():
    body = {"n": 1}
    draft = Draft(Message("order", "T", body))
    body["n"] = 2
    assert json.loads(draft.json)["body"] == {"n": 1}
    assert outbox_insert("sqlite", draft)[1]["body"] == '{"n":1}'


def test_an_event_is_declared_once():
    draft = Publisher("http://a", source="shop").draft(ORDER)
    wire = json.loads(draft.json)
    assert wire == {
        "id": draft.id, "topic": "order", "type": "OrderCreated", "key": "o-1", "source": "shop",
        "body": {"order_id": "o-1"},
    }  # fmt: skip


@pytest.mark.parametrize(
    "message",
    [
        object(),
        Message("order", "T", object()),
        Message("order", "T", float("nan")),
        Message("order", "T", 1, kind="news"),
        Message("order", "T", 1, delay=timedelta(seconds=-1)),
        Message("order", "T", 1, deliver_at=datetime(2030, 1, 1)),
        Message("order", "T", 1, delay=timedelta(1), deliver_at=datetime.now(timezone.utc)),
    ],
)
def test_what_cannot_be_written_is_told_before_anything_is_sent(message):
    with answers(AWAY) as host:
        with pytest.raises(InvalidError):
            Publisher(host.url).publish(message)
        with pytest.raises(InvalidError):
            Publisher(host.url).publish_all([ORDER, message])
        assert host.asked == []


@pytest.mark.parametrize("url", ["", "localhost:7070", "ftp://a", "http://", "http://a:b"])
def test_a_host_that_is_no_url_is_told(url):
    with pytest.raises(InvalidError):
        Publisher(url)


def test_a_token_that_no_header_can_have_is_told():
    with answers(AWAY) as host, pytest.raises(InvalidError):
        Publisher(host.url, token="a\r\nb: c").publish(ORDER)


def test_a_message_is_tried_again_under_its_id_until_it_is_taken():
    taken = (202, {"id": "m", "state": "SEND_FAIL", "retrying": True}, {})
    with answers(None, AWAY, (202, "<html>", {"connection": "close"}), taken) as host:
        publisher = Publisher(f"{host.url}/courier/", token="secret", traceparent=lambda: "00-a-b-01")
        receipt = publisher.publish(ORDER)
    assert (receipt.id, receipt.state, receipt.retrying) == ("m", "SEND_FAIL", True)
    assert len(host.asked) == 4 and len({body for _, _, body in host.asked}) == 1
    path, headers, body = host.asked[0]
    assert path == "/courier/v1/messages"
    assert (headers["authorization"], headers["traceparent"]) == ("Bearer secret", "00-a-b-01")
    assert json.loads(body)["headers"] == {"traceparent": "00-a-b-01"}


def test_what_would_be_refused_each_time_is_not_tried_again():
    problem = {"type": "urn:courier:problem:id-is-taken", "title": "id is taken", "status": 409, "detail": "x", "id": "m"}
    with answers((409, problem, {}), (302, "", {"location": "http://127.0.0.1:1/"})) as host:
        with pytest.raises(RefusedError, match="id is taken: x") as refused:
            Publisher(host.url).publish(ORDER)
        assert (refused.value.id, refused.value.problem.type) == ("m", problem["type"])
        with pytest.raises(RefusedError) as refused:
            Publisher(host.url, token="secret").publish(ORDER)
        assert refused.value.status == 302 and len(host.asked) == 2


def test_a_wait_that_the_host_asks_for_is_kept_within_the_time_there_is():
    with answers((429, "", {"retry-after": "60"})) as host:
        with pytest.raises(GaveUpError) as gave_up:
            Publisher(host.url, timeout=5).publish(ORDER)
    assert (gave_up.value.tries, len(host.asked)) == (1, 1)


def test_a_publisher_that_gave_up_hands_the_message_back():
    with answers(AWAY) as host:
        publisher = Publisher(host.url, timeout=0.3)
        with pytest.raises(GaveUpError) as gave_up:
            publisher.publish(ORDER)
        assert gave_up.value.can_retry and gave_up.value.tries > 1
        with pytest.raises(GaveUpError):
            publisher.publish(gave_up.value.draft)
    assert len({body for _, _, body in host.asked}) == 1


def test_an_answer_that_trickles_ends_with_the_try():
    """A time-out of each read let a byte now and then last for ever."""

    def trickle(_number, handler, _body):
        try:
            while not handler.server.ended.wait(0.02):
                handler.wfile.write(b"HTTP/1.1 202 OK\r\n" if not getattr(handler, "begun", False) else b"a: b\r\n")
                handler.begun = True
        except OSError:
            pass

    with serve(trickle) as host, pytest.raises(GaveUpError):
        Publisher(host.url, timeout=0.5, try_timeout=0.2).publish(ORDER)


def test_of_many_only_those_without_an_answer_are_sent_again():
    first = [
        {"id": "a", "state": "COMMITTED"},
        {"id": "b", "state": "SEND_FAIL", "problem": {"title": "not available", "status": 503}},
        {"id": "c", "state": "SEND_FAIL", "problem": {"title": "invalid message", "status": 400}},
    ]
    again = (400, {"title": "nothing accepted", "items": [{"id": "b", "state": "COMMITTED"}]}, {})
    with answers((202, {"items": first}, {}), again) as host:
        a, b, c = Publisher(host.url).publish_all([ORDER] * 3)
    assert (a.state, b.state, c.status) == ("COMMITTED", "COMMITTED", 400)
    assert [len(json.loads(body)) for _, _, body in host.asked] == [3, 1]


def test_many_messages_go_in_several_requests_in_their_order():
    with answers((503, "", {"retry-after": "60"})) as host:
        given_up = Publisher(host.url).publish_all([Message("order", "T", at, id=str(at)) for at in range(501)])
    assert [error.draft.id for error in given_up] == [str(at) for at in range(501)]
    assert [len(json.loads(body)) for _, _, body in host.asked] == [500, 1]


def test_connections_are_kept():
    ports = set()

    def respond(_number, handler, _body):
        ports.add(handler.client_address)
        return 202, {"id": "m", "state": "COMMITTED"}, {}

    with serve(respond) as host, Publisher(host.url) as publisher:
        for _ in range(5):
            publisher.publish(ORDER)
    assert len(ports) == 1


def test_the_asynchronous_publisher_asks_several_at_once():
    async def publish_many(url):
        async with AsyncPublisher(url) as publisher:
            return await asyncio.gather(*(publisher.publish(ORDER) for _ in range(8)))

    import threading

    together = threading.Barrier(8, timeout=20)

    def respond(_number, _handler, _body):
        together.wait()
        return 202, {"id": "m", "state": "COMMITTED"}, {}

    with serve(respond) as host:
        assert len(asyncio.run(publish_many(host.url))) == 8


def test_an_outbox_row_has_the_columns_of_the_published_table():
    draft = Draft(Message("order", "OrderCreated", {"a": "茶"}, key="k", id="o-1", headers={"a": "1"}), "shop")
    statement, values = outbox_insert("postgres", draft, "shop.outbox")
    assert statement == (
        'INSERT INTO "shop"."outbox" (id, source, topic, type, key, kind, body, headers) '
        "VALUES (:id, :source, :topic, :type, :key, :kind, :body, CAST(CAST(:headers AS text) AS jsonb))"
    )
    assert values == {
        "id": "o-1", "source": "shop", "topic": "order", "type": "OrderCreated", "key": "k", "kind": "event",
        "body": '{"a":"茶"}', "headers": '{"a": "1"}',
    }  # fmt: skip
    later = Draft(Message("order", "T", 1, delay=timedelta(seconds=1.5)))
    assert "clock_timestamp() + CAST(:deliver_at AS bigint)" in outbox_insert("postgres", later)[0]
    statement, values = outbox_insert("sqlite", later)
    assert "'now', :deliver_at)" in statement and values["deliver_at"] == "+1.501 seconds"
    assert "source" not in values
    for wrong in ("a; drop", ""):
        with pytest.raises(InvalidError):
            outbox_insert("postgres", draft, wrong)
    with pytest.raises(InvalidError):
        outbox_insert("mysql", draft)
    with pytest.raises(InvalidError):
        outbox_insert("postgres", Draft(Message("order", "T", b"\xff")))


def test_what_is_no_transaction_is_told():
    publisher = Publisher("http://a")
    with pytest.raises(InvalidError, match="outbox_insert"):
        publisher.publish_in(object(), ORDER)
    with pytest.raises(InvalidError, match="BEGIN"):
        publisher.publish_in(sqlite3.connect(":memory:", isolation_level=None), ORDER)


TABLE = "CREATE TABLE courier_outbox (id, source, topic, type, key, kind, body, headers, deliver_at)"


def rows(connection):
    return connection.execute("SELECT count(*) FROM courier_outbox").fetchone()[0]


def test_a_row_that_would_be_committed_by_itself_is_refused(tmp_path):
    publisher = Publisher("http://a")
    connection = sqlite3.connect(tmp_path / "own.db", isolation_level=None)
    connection.execute(TABLE)
    for tx in (connection, connection.cursor()):
        with pytest.raises(InvalidError, match="BEGIN"):
            publisher.publish_in(tx, ORDER)
        connection.execute("BEGIN")
        publisher.publish_in(tx, ORDER)
        connection.execute("ROLLBACK")
    assert rows(connection) == 0
    # Python begins it.
    usual = sqlite3.connect(tmp_path / "own.db")
    publisher.publish_in(usual.cursor(), ORDER)
    usual.rollback()
    assert rows(usual) == 0
    if sys.version_info >= (3, 12):
        committing = sqlite3.connect(tmp_path / "own.db", autocommit=True)
        with pytest.raises(InvalidError, match="BEGIN"):
            publisher.publish_in(committing, ORDER)


def test_an_asynchronous_connection_is_refused_by_the_publisher_that_does_not_wait(tmp_path):
    class Connection:
        """As psycopg's asynchronous one, by the module that its class comes from."""

        __module__ = "psycopg"
        autocommit = False

        async def execute(self, statement, values):
            raise AssertionError("it was carried out")

    with pytest.raises(InvalidError, match="AsyncPublisher"):
        Publisher("http://a").publish_in(Connection(), ORDER)


def test_a_draft_takes_no_other_delay_or_kind():
    publisher = Publisher("http://a")
    draft = publisher.draft(ORDER)
    for call in (
        lambda: publisher.publish_after(draft, 60),
        lambda: publisher.publish_at(draft, datetime.now(timezone.utc)),
        lambda: publisher.publish_broadcast(draft),
    ):
        with pytest.raises(InvalidError, match="as it was made"):
            call()


def test_half_a_character_is_told_before_anything_is_sent():
    with serve(lambda *_: pytest.fail("it was sent")) as host, pytest.raises(InvalidError, match="half of a character"):
        Publisher(host.url).publish_all([ORDER, Message("order", "T", {"cut": "\ud83d"})])


def test_a_type_of_content_is_found_in_any_case():
    draft = Draft(Message("order", "T", b"a,b", headers={"Content-Type": "text/csv"}))
    assert json.loads(outbox_insert("postgres", draft)[1]["headers"]) == {"Content-Type": "text/csv"}


def test_an_address_of_ipv6_needs_no_port():
    for url, port in (("http://[::1]", 80), ("https://[2001:db8::5]/x", 443), ("http://[::1]:7373", 7373)):
        transport = Publisher(url)._transport
        assert (transport._host, transport._port) == (url.split("[")[1].split("]")[0], port)


def test_a_request_whose_time_is_over_is_not_sent():
    # It waited for a thread of the asynchronous publisher until then.
    with serve(lambda *_: AWAY) as host:
        late = Request("GET", "/v1/messages/o-1", None, None, time.monotonic() - 0.1)
        assert isinstance(Publisher(host.url)._transport.ask(late), NoAnswer)
        assert host.asked == []
