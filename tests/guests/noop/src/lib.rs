//! A handler that does nothing: what a benchmark measures with it is what the
//! host costs.

use courier_sdk::{Context, Failure, Message, handler};

#[handler(group = "noop")]
fn noop(_message: Message, _ctx: &Context) -> Result<(), Failure> {
    Ok(())
}
