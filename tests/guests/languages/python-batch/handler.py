"""The batch scenarios of tests/languages.rs in Python: `do` names one."""

from dataclasses import dataclass
from typing import Optional

from courier_sdk import Item, Reject, Retry, batch_handler


@dataclass
class Scenario:
    do: str
    topic: str = ""


@batch_handler(topics=["scenarios"], publishes=["scenarios-out"], uses=["state"])
def scenarios(items: list[Scenario]) -> list[Optional[Exception]]:
    return [outcome(item, len(items)) for item in items]


def outcome(item: Item, size: int) -> Optional[Exception]:
    event, ctx = item.event, item.ctx
    if event.do == "effects":
        ctx.log.info(f"one of {size}")
        ctx.state.set_json(f"batch/{(ctx.message.key or b'').decode()}", {"size": size})
        ctx.publish(event.topic, {"size": size}, type="Batched", key=ctx.message.key)
        return None
    if event.do == "reject":
        ctx.publish(event.topic, {}, type="Rejected", key="never")
        return Reject("never")
    if event.do == "retry":
        return Retry("once more", after=0.1) if ctx.attempt.number == 1 else None
    if event.do == "throw":
        raise RuntimeError("it spoils the batch")
    return Reject(f"there is no scenario {event.do}")
