//! The filter and the page of the lists of messages.

use axum::Json;

use super::view::MessageView;
use crate::api::auth::Caller;
use crate::api::list::List;
use crate::api::params::KnownParams;
use crate::api::problem::Problem;
use crate::store::{Listing, MessageFilter, MessageRow};

/// The filter in the parameters of a list, which refused unknown ones before.
///
/// # Errors
/// 400 for a wrong value, 403 for a topic out of the caller's scope.
pub(super) fn read(params: &KnownParams, caller: &Caller) -> Result<MessageFilter, Problem> {
    let topic = params.text("topic");
    if let Some(topic) = &topic {
        caller.topic(topic)?;
    }
    let (from, to) = params.between()?;
    Ok(MessageFilter {
        topic,
        topics: caller.topics(),
        type_name: params.text("type"),
        key: params.key()?,
        source: params.text("source"),
        state: params.state("state")?,
        from,
        to,
    })
}

/// A page of the messages that the caller may see.
pub(super) fn page(listing: &Listing<MessageRow>, caller: &Caller) -> Json<List<MessageView>> {
    let visible = listing.items.iter().filter(|row| caller.sees_topic(&row.topic));
    Json(List {
        items: visible.map(MessageView::of_row).collect(),
        next: listing.next.clone(),
        truncated: listing.truncated,
    })
}
