//! How headers are read from JSON, the same at every door.
//!
//! Which names a header may have is [`Draft::ready`](super::draft)'s to say.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use courier_core::message::Header;
use serde_json::Value;

/// The name of the header that says the media type of the body.
const CONTENT_TYPE: &str = "content-type";

/// Base64 as it is read and shown: the standard alphabet, written with padding,
/// read with or without.
pub const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Takes the media type of the body out of the headers.
///
/// # Errors
/// When it is empty or no text.
pub fn take_content_type(headers: &mut Vec<Header>) -> Result<Option<String>, String> {
    let Some(at) = headers.iter().position(|header| header.name.eq_ignore_ascii_case(CONTENT_TYPE)) else {
        return Ok(None);
    };
    let value = headers.remove(at).value.unwrap_or_default();
    let text = std::str::from_utf8(&value).ok().filter(|text| !text.is_empty());
    text.map(|text| Some(text.to_owned())).ok_or_else(|| "the header `content-type` is no media type".to_owned())
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
