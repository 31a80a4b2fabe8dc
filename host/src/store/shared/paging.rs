//! Pages of lists that both dialects cut alike, and their cursors.

use courier_core::message::{Offset, Timestamp};

use crate::store::{DeliveryKey, Listing, StoreError};

/// The error for a cursor that no page has returned.
pub(in crate::store) fn no_cursor(text: &str) -> StoreError {
    StoreError::NotFound(format!("there is no cursor {text:?}"))
}

/// Reads a cursor that is a number.
pub(in crate::store) fn number_of(cursor: Option<&str>) -> Result<Option<i64>, StoreError> {
    cursor.map(|text| text.parse().map_err(|_| no_cursor(text))).transpose()
}

/// Reads a cursor of [`key_cursor`]: position and offset.
pub(in crate::store) fn key_of(cursor: Option<&str>) -> Result<Option<(i64, i64)>, StoreError> {
    cursor.map(|text| key_in(text).ok_or_else(|| no_cursor(text))).transpose()
}

/// The cursor of a delivery's key: `12.345`.
pub(in crate::store) fn key_cursor(key: DeliveryKey) -> String {
    let Offset(offset) = key.offset;
    format!("{}.{offset}", key.position.0)
}

fn key_in(text: &str) -> Option<(i64, i64)> {
    let (position, offset) = text.split_once('.')?;
    Some((position.parse().ok()?, offset.parse().ok()?))
}

/// Reads a cursor of [`time_and_key_cursor`]: the time, position and offset.
pub(in crate::store) fn time_and_key_of(cursor: Option<&str>) -> Result<Option<(i64, i64, i64)>, StoreError> {
    let parse = |text: &str| {
        let (time, key) = text.split_once('/')?;
        let (position, offset) = key_in(key)?;
        Some((time.parse().ok()?, position, offset))
    };
    cursor.map(|text| parse(text).ok_or_else(|| no_cursor(text))).transpose()
}

/// The cursor of a time and a delivery's key: `678/12.345`.
pub(in crate::store) fn time_and_key_cursor(time: Timestamp, key: DeliveryKey) -> String {
    format!("{}/{}", time.0, key_cursor(key))
}

/// Reads a cursor of [`time_and_id_cursor`]: the time and the id.
pub(in crate::store) fn time_and_id_of(cursor: Option<&str>) -> Result<Option<(i64, String)>, StoreError> {
    let parse = |text: &str| {
        let (time, id) = text.split_once('.')?;
        Some((time.parse().ok()?, id.to_owned()))
    };
    cursor.map(|text| parse(text).ok_or_else(|| no_cursor(text))).transpose()
}

/// The cursor of a time and an id: `678.abc`.
pub(in crate::store) fn time_and_id_cursor(time: Timestamp, id: &str) -> String {
    format!("{}.{id}", time.0)
}

/// Makes a page of items that were read up to one more than `limit`. That one only shows
/// that there is a next page; `cursor` names the last item of this one.
pub(in crate::store) fn page_of<T>(mut items: Vec<T>, limit: usize, cursor: impl FnOnce(&T) -> String) -> Listing<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(cursor);
    Listing { items, next, truncated: false }
}

#[cfg(test)]
mod tests {
    use crate::store::PositionId;

    use super::*;

    #[test]
    fn a_cursor_leads_back_to_where_it_came_from() {
        let key = DeliveryKey { position: PositionId(12), offset: Offset(345) };
        assert_eq!(key_of(Some(&key_cursor(key))).unwrap(), Some((12, 345)));
        assert_eq!(time_and_key_of(Some(&time_and_key_cursor(Timestamp(-6), key))).unwrap(), Some((-6, 12, 345)));
        let id = "a.b/c";
        assert_eq!(time_and_id_of(Some(&time_and_id_cursor(Timestamp(6), id))).unwrap(), Some((6, id.to_owned())));
        assert_eq!(number_of(Some("7")).unwrap(), Some(7));
        assert_eq!((number_of(None).unwrap(), key_of(None).unwrap()), (None, None));
    }

    #[test]
    fn a_text_that_is_no_cursor_is_not_found_and_named() {
        let errors = [
            number_of(Some("x")).map(drop),
            key_of(Some("1")).map(drop),
            time_and_key_of(Some("1.2")).map(drop),
            time_and_id_of(Some("x.y")).map(drop),
        ];
        for error in errors {
            let error = error.unwrap_err();
            assert!(
                matches!(&error, StoreError::NotFound(text) if text.starts_with("there is no cursor \"")),
                "{error}"
            );
        }
    }

    #[test]
    fn only_a_page_with_a_next_one_has_a_cursor() {
        let name = |number: &i32| number.to_string();
        let full = page_of(vec![3, 2, 1], 2, name);
        assert_eq!((full.items, full.next), (vec![3, 2], Some("2".to_owned())));
        let last = page_of(vec![3, 2], 2, name);
        assert_eq!((last.items, last.next), (vec![3, 2], None));
    }
}
