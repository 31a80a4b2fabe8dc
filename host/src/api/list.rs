//! A page of a list, as every list operation returns it.

use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use crate::store::{Page, StoreError};

/// A page of a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct List<T: ToSchema> {
    /// The items.
    pub items: Vec<T>,
    /// Give this as `cursor` to get the next page; null after the last.
    #[schema(required = true)]
    pub next: Option<String>,
    /// Whether items may be missing because only part of the time range was searched.
    pub truncated: bool,
}

/// The page of `items` that begins after the cursor, which is the name of the
/// last item before it. Items come sorted by name.
pub fn by_name<T: ToSchema>(items: Vec<T>, name: impl Fn(&T) -> &str, page: &Page) -> List<T> {
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let mut rest = items.into_iter().filter(|item| page.cursor.as_deref().is_none_or(|last| name(item) > last));
    let items: Vec<T> = rest.by_ref().take(limit).collect();
    let next = rest.next().and(items.last()).map(|last| name(last).to_owned());
    List { items, next, truncated: false }
}

/// The problem for an error of the store. Only the cursor of a list can be not
/// found.
pub fn refused(error: StoreError) -> Problem {
    match error {
        StoreError::NotFound(why) => {
            let detail = format!("the query parameter `cursor` is none that a page of this list gave out: {why}");
            Problem::bad_request("bad parameter", detail)
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_that_nobody_gave_out_is_the_clients_fault() {
        assert_eq!(refused(StoreError::NotFound("there is no cursor \"x\"".into())).status, 400);
        assert_eq!(refused(StoreError::Unavailable("x".into())).status, 503);
    }

    #[test]
    fn pages_join_without_gap_or_overlap() {
        let names: Vec<String> = ["a", "b", "c", "d", "e"].map(String::from).to_vec();
        let mut seen = Vec::new();
        let mut page = Page { cursor: None, limit: 2 };
        loop {
            let list = by_name(names.clone(), |name| name, &page);
            seen.extend(list.items);
            match list.next {
                Some(next) => page.cursor = Some(next),
                None => break,
            }
        }
        assert_eq!(seen, names);
    }
}
