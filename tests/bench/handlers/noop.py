"""Does nothing with the event that was read from its JSON body."""

from courier_sdk import Context, handler


@handler(group="noop", topics=["bench"])
def noop(_event: object, _ctx: Context) -> None:
    return
