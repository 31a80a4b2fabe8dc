//! The macros of `courier-sdk`; use them through that crate, which documents them
//! with examples.
//!
//! `event` derives [`Event`](macro@Event), and `handler` adds the export of a
//! component to a function. Both only check and arrange: code that can be a plain
//! function is in the SDK and is called from here.

mod event;
mod handler;

use proc_macro::TokenStream;

/// Implements `Event` for a struct: its topic, the name of its type, and the field
/// that is its primary key.
///
/// `#[event(topic = "order")]` on the struct is required; `type = ".."` beside it
/// is the struct's name unless given. Messages with equal values of the field with
/// `#[primary_key]` are handled in order.
#[proc_macro_derive(Event, attributes(event, primary_key))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    event::derive(&input).unwrap_or_else(|problem| problem.to_compile_error()).into()
}

/// Exports a function as the handler of a component (world `handler`).
///
/// `group = ".."` is required. `topics = [..]` and `types = [..]` are those of the
/// event unless given; `publishes = [..]` names the topics that the handler
/// publishes to, so that tools can print the grant that it needs.
#[proc_macro_attribute]
pub fn handler(arguments: TokenStream, item: TokenStream) -> TokenStream {
    handler::expand(handler::World::Single, arguments.into(), item.into())
        .unwrap_or_else(|problem| problem.to_compile_error())
        .into()
}

/// Exports a function as the batch handler of a component (world
/// `batch-handler`); takes the arguments of [`macro@handler`].
#[proc_macro_attribute]
pub fn batch_handler(arguments: TokenStream, item: TokenStream) -> TokenStream {
    handler::expand(handler::World::Batch, arguments.into(), item.into())
        .unwrap_or_else(|problem| problem.to_compile_error())
        .into()
}
