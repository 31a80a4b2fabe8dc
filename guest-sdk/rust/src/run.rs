//! Reads the input of a context, calls the handler and returns its outcome.
//!
//! The exports of a component and the tests of a handler both use this.

use crate::{Context, Failure, Input};

/// One item of a batch: the input, and the context of its own attempt.
///
/// The effects made through `ctx` belong to this item and are committed when this
/// item's outcome is a success, whatever the others' outcomes are.
#[derive(Clone, Debug)]
pub struct Item<T> {
    /// The input, read from the message.
    pub event: T,
    /// The message, the attempt and the effects of this item.
    pub ctx: Context,
}

/// The argument of a batch handler, from which the macros read its topics and types.
#[diagnostic::on_unimplemented(
    message = "a batch handler cannot take a `{Self}`",
    note = "it takes `Vec<Item<E>>`, where `E` is a `Message` or has `#[derive(Event, Deserialize)]`"
)]
pub trait Items {
    /// The topics of the items.
    const TOPICS: &'static [&'static str];
    /// The types of the items.
    const TYPES: &'static [&'static str];
}

impl<I: Input> Items for Vec<Item<I>> {
    const TOPICS: &'static [&'static str] = I::TOPICS;
    const TYPES: &'static [&'static str] = I::TYPES;
}

/// Runs a handler for the message of a context.
pub fn one<I: Input, F: Into<Failure>>(
    ctx: &Context,
    handler: impl FnOnce(I, &Context) -> Result<(), F>,
) -> Result<(), Failure> {
    let input = I::read(ctx.message())?;
    handler(input, ctx).map_err(Into::into)
}

/// Runs a batch handler for the messages of several contexts.
///
/// A message that cannot be read is rejected without a call of the handler. When
/// the handler returns a wrong number of outcomes, they cannot be assigned to
/// messages, so this panics, and the host runs each message alone.
pub fn batch<I: Input, F: Into<Failure>>(
    contexts: Vec<Context>,
    handler: impl FnOnce(Vec<Item<I>>) -> Vec<Result<(), F>>,
) -> Vec<Result<(), Failure>> {
    let mut items = Vec::with_capacity(contexts.len());
    let read: Vec<Result<(), Failure>> = contexts
        .into_iter()
        .map(|ctx| {
            let event = I::read(ctx.message())?;
            items.push(Item { event, ctx });
            Ok(())
        })
        .collect();

    let count = items.len();
    let outcomes = if count == 0 { Vec::new() } else { handler(items) };
    assert_eq!(outcomes.len(), count, "the batch handler must return one outcome for each item, in their order");

    let mut outcomes = outcomes.into_iter();
    read.into_iter()
        .map(|read| match read {
            Ok(()) => match outcomes.next() {
                Some(outcome) => outcome.map_err(Into::into),
                // The lengths were compared above.
                None => unreachable!("an outcome is missing"),
            },
            Err(failure) => Err(failure),
        })
        .collect()
}
