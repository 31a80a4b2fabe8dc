//! A batch handler that carries out the script of `scripted` for each item.

#[path = "../../scripted/src/words.rs"]
mod words;

use courier_sdk::{Failure, Item, Message, batch_handler};

#[batch_handler(group = "scripted-batch")]
fn scripted(items: Vec<Item<Message>>) -> Vec<Result<(), Failure>> {
    items.iter().map(|item| words::act(&item.event, &item.ctx)).collect()
}
