"""Tests of the sample, without a host."""

from courier_sdk.testing import Failure, TestContext

from handler import OrderCreated, notify


def test_each_order_is_announced_with_its_number() -> None:
    test = TestContext(OrderCreated("o-1", "tea"), key="customer-7", state={"orders/customer-7": "2"})
    assert test.deliver(notify) is None
    [sent] = test.published
    assert (sent.topic, sent.type, sent.key) == ("notification", "NotificationRequested", b"customer-7")
    assert sent.json()["text"] == "order o-1 of tea, number 3 of customer-7"
    assert test.stored["orders/customer-7"] == b"3"


def test_an_order_without_a_customer_is_rejected() -> None:
    ended = TestContext(OrderCreated("o-1")).deliver(notify)
    assert ended == Failure("reject", "an order without a customer: the message has no key")
