//! Reads headers from JSON, equally for every source, and says which names a
//! sender may not set and what is wrong with the values that records carry in headers.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use courier_core::message::Header;
use serde_json::Value;

use super::names::{MAX_HEADERS, MAX_NAME_CHARS, shown, valid_name};
use super::receipt::SendProblem;
use crate::kafka::{is_attribute, is_hops, names_whole_events};

/// The header with the media type of the body.
const CONTENT_TYPE: &str = "content-type";
/// The header with the message's type.
const TYPE: &str = "ce_type";

/// Base64 as it is read and shown: the standard alphabet, written with padding,
/// read with or without.
pub const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Takes the media type of the body out of the headers.
///
/// # Errors
/// When it is empty or not text.
pub fn take_content_type(headers: &mut Vec<Header>) -> Result<Option<String>, String> {
    let Some(at) = headers.iter().position(|header| header.name.eq_ignore_ascii_case(CONTENT_TYPE)) else {
        return Ok(None);
    };
    let value = headers.remove(at).value.unwrap_or_default();
    let text = std::str::from_utf8(&value).ok().filter(|text| !text.is_empty());
    text.map(|text| Some(text.to_owned())).ok_or_else(|| "the header `content-type` is no media type".to_owned())
}

/// Takes the type of the message out of the raw headers of a record.
///
/// # Errors
/// When it is not text.
pub fn take_type(headers: &mut Vec<Header>) -> Result<Option<String>, String> {
    let Some(at) = headers.iter().position(|header| header.name.eq_ignore_ascii_case(TYPE)) else {
        return Ok(None);
    };
    let value = headers.remove(at).value.unwrap_or_default();
    let text = std::str::from_utf8(&value).map_err(|_| format!("the header `{TYPE}` is no text"))?;
    Ok(Some(text.to_owned()))
}

/// What is wrong with the type of a message, if anything is.
#[must_use]
pub fn wrong_type(type_name: &str) -> Option<SendProblem> {
    if type_name.is_empty() {
        return Some(SendProblem::invalid("it has no type: write `type`, for example \"OrderCreated\""));
    }
    (!valid_name(type_name)).then(|| {
        SendProblem::invalid(format!(
            "type {:?} is not valid: 1 to {MAX_NAME_CHARS} characters without control characters",
            shown(type_name)
        ))
    })
}

/// What is wrong with the media type of a body, if anything is.
#[must_use]
pub fn wrong_content_type(content_type: &str) -> Option<SendProblem> {
    let wrong = content_type.chars().count() > MAX_NAME_CHARS || content_type.chars().any(char::is_control);
    if wrong {
        return Some(SendProblem::invalid("the content type is not valid"));
    }
    // Whoever reads such a record takes its id and source from the body, which nobody
    // checked against the sender's token.
    names_whole_events(content_type).then(|| {
        SendProblem::invalid(format!(
            "the content type {:?} says that the body is a whole CloudEvent with an id and a source of its own; publish \
             that event itself, or give its body another content type",
            shown(content_type)
        ))
    })
}

/// What is wrong with the headers of a sender, if anything is.
#[must_use]
pub fn wrong_headers(headers: &[Header]) -> Option<SendProblem> {
    if headers.len() > MAX_HEADERS {
        let count = headers.len();
        return Some(SendProblem::invalid(format!("the message has {count} headers; at most {MAX_HEADERS} are taken")));
    }
    if let Some(bad) = headers.iter().find(|header| !valid_name(&header.name)) {
        return Some(SendProblem::invalid(format!(
            "header {:?} is not valid: names have 1 to {MAX_NAME_CHARS} characters without control characters",
            shown(&bad.name)
        )));
    }
    headers.iter().find_map(|header| reserved_header(&header.name)).map(SendProblem::invalid)
}

/// The value of a header: text, null for none, `{"base64": ".."}` for bytes.
///
/// # Errors
/// When it is anything else.
pub fn header_value(name: &str, value: Value) -> Result<Option<Bytes>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.into_bytes().into())),
        Value::Object(object) if object.len() == 1 && object.contains_key("base64") => {
            let text = object["base64"].as_str().unwrap_or("?");
            BASE64
                .decode(text)
                .map(|bytes| Some(bytes.into()))
                .map_err(|error| format!("the header `{name}` has `base64` that is no Base64: {error}"))
        }
        _ => Err(format!("the header `{name}` is neither text nor {{\"base64\": \"..\"}}")),
    }
}

/// Why a sender may not set this header, if so: it would repeat a field of the
/// message, or a counter of Courier.
#[must_use]
pub fn reserved_header(name: &str) -> Option<String> {
    if is_hops(name) {
        return Some(format!(
            "the header `{name}` belongs to Courier, which counts in it how often one message led to another; leave \
             it out"
        ));
    }
    if name.eq_ignore_ascii_case("content-type") {
        return Some(format!("the header `{name}` is given twice; give it once"));
    }
    is_attribute(name).then(|| {
        format!(
            "the header `{name}` belongs to Courier; write `id`, `source`, `type` or `key` as a field of the message"
        )
    })
}
