//! The words of `scripted`, done for each item of a batch in turn.

#[path = "../../scripted/src/words.rs"]
mod words;

use courier_sdk::{Failure, Item, Message, batch_handler};

#[batch_handler(group = "scripted-batch")]
fn scripted(items: Vec<Item<Message>>) -> Vec<Result<(), Failure>> {
    items.iter().map(|item| words::act(&item.event, &item.ctx)).collect()
}
