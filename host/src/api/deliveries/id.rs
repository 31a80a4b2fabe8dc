//! The id of a delivery, which is the text of its key in the store.
//!
//! It is opaque to clients. A delivery has one id: other spellings of the same
//! numbers are refused.

use crate::api::problem::Problem;
use crate::store::DeliveryKey;

/// Writes the id of a delivery.
#[must_use]
pub fn write(key: DeliveryKey) -> String {
    key.to_string()
}

/// Reads the id of a delivery.
///
/// # Errors
/// 404 for a text that is no id, as for an id of no delivery.
pub fn read(text: &str) -> Result<DeliveryKey, Problem> {
    text.parse().ok().filter(|key| write(*key) == text).ok_or_else(|| unknown(text))
}

/// The 404 for an unknown delivery.
#[must_use]
pub fn unknown(text: &str) -> Problem {
    Problem::not_found(format!("no delivery {text:?} is known: it is past retention, or the id is none"))
}

#[cfg(test)]
mod tests {
    use courier_core::message::Offset;

    use super::*;
    use crate::store::PositionId;

    #[test]
    fn an_id_leads_back_to_its_delivery() {
        for (position, offset) in [(1, 0), (255, 4_711), (i64::MAX, i64::MAX)] {
            let key = DeliveryKey { position: PositionId(position), offset: Offset(offset) };
            let id = write(key);
            assert_eq!(read(&id).unwrap(), key);
            assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
        }
    }

    #[test]
    fn other_spellings_are_no_ids() {
        for wrong in ["", "-", "1", "1-", "-1", "d1-1", "01-1", "+1-1", "1-a", "1-1 ", "1-1-1", "1-9223372036854775808"]
        {
            assert_eq!(read(wrong).unwrap_err().status, 404, "{wrong}");
        }
    }
}
