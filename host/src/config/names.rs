//! Reads names, which are held to what every place that carries them can take.

use super::reader::Value;
use super::units;

/// The name of a topic, group or node.
pub(super) fn name(value: &Value<'_>, example: &str) -> Option<String> {
    let text = value.text(example)?;
    match units::name(text) {
        Ok(()) => Some(text.to_owned()),
        Err(remedy) => {
            value.wrong(format!("`{}` is {text:?}", value.path), remedy);
            None
        }
    }
}

/// An array of names of topics or groups.
pub(super) fn names(value: &Value<'_>, example: &str) -> Option<Vec<String>> {
    value.texts(example, |item, _| name(item, example))
}

/// The name of a plugin or an outbox.
pub(super) fn plugin_name(value: &Value<'_>, example: &str) -> Option<String> {
    let text = value.text(example)?;
    match units::plugin_name(text) {
        Ok(()) => Some(text.to_owned()),
        Err(remedy) => {
            value.wrong(format!("`{}` is {text:?}", value.path), remedy);
            None
        }
    }
}
