//! A handler that does nothing, by which benchmarks measure the cost of the host
//! alone.

use courier_sdk::{Context, Failure, Message, handler};

#[handler(group = "noop")]
fn noop(_message: Message, _ctx: &Context) -> Result<(), Failure> {
    Ok(())
}
