//! A handler that does what the body of its message tells it, for tests and
//! for checks from outside. `words` says which words it knows.

mod words;

use courier_sdk::{Context, Failure, Message, handler};

#[handler(group = "scripted")]
fn scripted(message: Message, ctx: &Context) -> Result<(), Failure> {
    words::act(&message, ctx)
}
