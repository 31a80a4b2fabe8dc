"""Publishes a notification for each order, and counts the orders of a customer.

A sample in Python: one dataclass comes in, another goes out, and the number of a
customer's orders is kept in the group's state. Orders of one customer share the
message's key, so they are handled one after another and no count is lost.
"""

from dataclasses import dataclass

from courier_sdk import Context, Reject, handler


@dataclass
class OrderCreated:
    """The fields of an order that this handler reads."""

    order_id: str
    order_name: str = ""


@dataclass
class NotificationRequested:
    """The notification of an order, which this handler publishes."""

    order_id: str
    text: str


@handler(group="notification", topics=["order"], publishes=["notification"], uses=["state"])
def notify(order: OrderCreated, ctx: Context) -> None:
    customer = ctx.message.key
    if not customer:
        raise Reject("an order without a customer: the message has no key")
    count = f"orders/{customer.decode()}"
    number = ctx.state.get_json(count, 0) + 1
    ctx.state.set_json(count, number)
    text = f"order {order.order_id} of {order.order_name}, number {number} of {customer.decode()}"
    ctx.publish("notification", NotificationRequested(order.order_id, text), key=customer)
    ctx.log.info(text)
