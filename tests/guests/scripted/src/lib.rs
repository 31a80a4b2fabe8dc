//! A handler that carries out the script in its message, for tests and for checks
//! from outside. `words` has the script's words.

mod words;

use courier_sdk::{Context, Failure, Message, handler};

#[handler(group = "scripted")]
fn scripted(message: Message, ctx: &Context) -> Result<(), Failure> {
    words::act(&message, ctx)
}
