//! Names of headers that are not text.
//!
//! Kafka takes any bytes for the name of a header, and a message names its
//! headers by text. A byte that no text can have, and NUL, which nothing that
//! shows or stores text can be trusted with, stands in the name as a character
//! of its own: U+10FF00 and the byte. Nothing is lost by it, so that a dead
//! letter carries the very name of its record; and such a name is never that of
//! an attribute, since those are plain ASCII.

use std::borrow::Cow;

use rdkafka::bindings as rdsys;
use rdkafka::message::{BorrowedHeaders, Header as KafkaHeader, OwnedHeaders};

/// The character that stands for the byte 0; those of the others follow.
const ESCAPE: u32 = 0x10_FF00;

/// The name as text.
#[must_use]
pub fn read(raw: &[u8]) -> String {
    // Every escape begins with this byte in UTF-8, and hardly any name has it.
    const FIRST_OF_ESCAPES: u8 = 0xF4;
    match std::str::from_utf8(raw) {
        Ok(text) if !raw.iter().any(|byte| matches!(*byte, 0 | FIRST_OF_ESCAPES)) => text.to_owned(),
        _ => escaped(raw),
    }
}

fn escaped(raw: &[u8]) -> String {
    let mut name = String::with_capacity(raw.len() * 2);
    let escape = |byte: u8| char::from_u32(ESCAPE + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER);
    for chunk in raw.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '\0' || byte_of(character).is_some() {
                // A character that would be taken for an escape is escaped too.
                name.extend(character.encode_utf8(&mut [0; 4]).bytes().map(escape));
            } else {
                name.push(character);
            }
        }
        name.extend(chunk.invalid().iter().copied().map(escape));
    }
    name
}

fn byte_of(character: char) -> Option<u8> {
    u32::from(character).checked_sub(ESCAPE).and_then(|byte| u8::try_from(byte).ok())
}

/// The bytes of a name that [`read`] made text of.
#[must_use]
pub fn raw(name: &str) -> Cow<'_, [u8]> {
    if !name.chars().any(|character| byte_of(character).is_some()) {
        return Cow::Borrowed(name.as_bytes());
    }
    let mut bytes = Vec::with_capacity(name.len());
    for character in name.chars() {
        match byte_of(character) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Cow::Owned(bytes)
}

/// Adds a header to those of a record that is to be produced, under the very
/// name that it had.
#[must_use]
pub fn add(headers: OwnedHeaders, name: &str, value: Option<&[u8]>) -> OwnedHeaders {
    let Cow::Owned(bytes) = raw(name) else { return headers.insert(KafkaHeader { key: name, value }) };
    let list = std::ptr::from_ref::<BorrowedHeaders>(headers.as_borrowed());
    let (data, size) = value.map_or((std::ptr::null(), 0), |value| (value.as_ptr(), value.len()));
    // SAFETY: `BorrowedHeaders` is librdkafka's list itself, which `headers`
    // owns and nobody else refers to; name and value are copied in the call.
    // The binding's own `insert` does the same with a name that is text.
    unsafe {
        rdsys::rd_kafka_header_add(
            list.cast_mut().cast::<rdsys::rd_kafka_headers_t>(),
            bytes.as_ptr().cast(),
            bytes.len().cast_signed(),
            data.cast(),
            size.cast_signed(),
        );
    }
    headers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_names_stay_as_they_are() {
        for name in ["ce_id", "traceparent", "Größe", ""] {
            assert_eq!(read(name.as_bytes()), name);
            assert!(matches!(raw(name), Cow::Borrowed(bytes) if bytes == name.as_bytes()));
        }
    }

    #[test]
    fn a_name_with_a_nul_is_that_of_no_attribute() {
        let name = read(b"ce_id\0x");
        assert!(name != "ce_id" && !name.contains('\0'), "{name:?}");
        assert!(!super::super::is_attribute(&name));
        assert_ne!(read(b"ce_id\0"), "ce_id");
        assert_ne!(read(b"ce_id\xff"), read(b"ce_id\xfe"), "bytes that are not text are told apart");
    }

    proptest! {
        #[test]
        fn no_byte_of_a_name_is_lost(name in proptest::collection::vec(any::<u8>(), 0..20)) {
            let raw_again = raw(&read(&name)).into_owned();
            prop_assert_eq!(raw_again, name);
        }

        #[test]
        fn what_looks_like_an_escape_is_told_from_one(name in "[a\\x00\u{10FF00}-\u{10FFFD}é]{0,8}") {
            prop_assert_eq!(raw(&read(name.as_bytes())).into_owned(), name.into_bytes());
        }
    }
}
