//! Pages of lists, newest first, by the index that narrows them most.
//!
//! A list walks one or several ranges of an index from new to old and filters their rows. The walk
//! ends after a bounded number of rows. The page is truncated then, and its cursor leads to where
//! the walk ended, so that no row is skipped.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sqlx::{QueryBuilder, Sqlite, SqlitePool};

use super::columns::Columns;
use super::error::fault;
use crate::store::shared::paging::no_cursor;
use crate::store::{Listing, MAX_PAGE, Page, StoreError};

/// Most rows that one page reads, over all ranges.
pub(super) const SLICE_ROWS: usize = 50_000;
/// Rows that each range may read even if there are many ranges.
const LEAST_SLICE_ROWS: usize = 1_000;

/// A place in a list: the row's time, then two numbers that tell rows of one time apart. Lists
/// descend by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ListPlace(pub [i64; 3]);

impl ListPlace {
    fn encode(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.map(|number| number.to_string()).join("."))
    }

    fn decode(cursor: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
        let numbers: Vec<i64> = text.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Self(numbers.try_into().ok()?))
    }
}

/// Reads where a page begins and how many rows it may have.
pub(super) fn start(page: &Page) -> Result<(Option<ListPlace>, usize), StoreError> {
    let after = match &page.cursor {
        None => None,
        Some(cursor) => Some(ListPlace::decode(cursor).ok_or_else(|| no_cursor(cursor))?),
    };
    Ok((after, page.limit.clamp(1, MAX_PAGE) as usize))
}

/// The rows of a range.
pub(super) struct Slice<T> {
    /// Rows that pass the filter, newest first, one more than fits the page.
    pub rows: Vec<(ListPlace, T)>,
    /// Where the walk ended, if the range has more rows.
    pub ended: Option<ListPlace>,
}

/// A number of rows as a parameter.
pub(super) fn rows(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// How many rows each of `ranges` ranges may read.
pub(super) fn share(ranges: usize) -> usize {
    (SLICE_ROWS / ranges.max(1)).max(LEAST_SLICE_ROWS)
}

/// Reads where the walk over a range ends if the range has more than `share` rows. `places`
/// selects the three columns of the range's places, newest first.
pub(super) async fn end_of_slice(
    readers: &SqlitePool,
    mut places: QueryBuilder<Sqlite>,
    share: usize,
) -> Result<Option<ListPlace>, StoreError> {
    places.push(" LIMIT 1 OFFSET ").push_bind(rows(share - 1));
    let row = places.build().fetch_optional(readers).await.map_err(fault)?;
    row.map(|row| {
        let mut columns = Columns::of(&row);
        Ok(ListPlace([columns.take()?, columns.take()?, columns.take()?]))
    })
    .transpose()
}

/// Merges the rows of all ranges into one page.
pub(super) fn merge<T>(slices: Vec<Slice<T>>, limit: usize) -> Listing<T> {
    // Below the highest end, a range whose walk ended may have rows that were not read. The rows of
    // the other ranges there wait for the next page.
    let ended = slices.iter().filter_map(|slice| slice.ended).max();
    let mut rows: Vec<(ListPlace, T)> = slices.into_iter().flat_map(|slice| slice.rows).collect();
    rows.retain(|(place, _)| ended.is_none_or(|ended| *place >= ended));
    rows.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
    let full = rows.len() > limit;
    rows.truncate(limit);
    let next = if full { rows.last().map(|(place, _)| *place) } else { ended };
    Listing {
        items: rows.into_iter().map(|(_, row)| row).collect(),
        next: next.map(ListPlace::encode),
        truncated: !full && ended.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(times: &[i64], ended: Option<i64>) -> Slice<i64> {
        let rows = times.iter().map(|time| (ListPlace([*time, 0, 0]), *time)).collect();
        Slice { rows, ended: ended.map(|time| ListPlace([time, 0, 0])) }
    }

    fn cursor(time: i64) -> Option<String> {
        Some(ListPlace([time, 0, 0]).encode())
    }

    #[test]
    fn a_cursor_leads_back_to_its_place() {
        let place = ListPlace([i64::MIN, 0, i64::MAX]);
        assert_eq!(ListPlace::decode(&place.encode()), Some(place));
        assert_eq!(ListPlace::decode("not a cursor"), None);
    }

    #[test]
    fn a_full_page_goes_on_after_its_last_row() {
        let listing = merge(vec![slice(&[9, 5], None), slice(&[7, 6], None)], 3);
        assert_eq!((listing.items, listing.next, listing.truncated), (vec![9, 7, 6], cursor(6), false));
        let listing = merge(vec![slice(&[9, 5], None)], 3);
        assert_eq!((listing.items, listing.next, listing.truncated), (vec![9, 5], None, false));
    }

    /// The second range ended at 6, so that it may have a 4 and a 5 that were
    /// not looked at: the 5 of the first range must not come before them.
    #[test]
    fn rows_below_the_end_of_any_slice_wait() {
        let listing = merge(vec![slice(&[9, 5], None), slice(&[7], Some(6))], 3);
        assert_eq!((listing.items, listing.next, listing.truncated), (vec![9, 7], cursor(6), true));
    }
}
