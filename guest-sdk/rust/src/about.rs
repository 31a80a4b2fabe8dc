//! The description that a handler carries: one JSON object in the custom section
//! `courier:handler` of the component, from which tools print the binding to add.
//! It is built at compile time, so that it needs no run and cannot differ from
//! the code.

/// The contents of the section.
pub struct About<'a> {
    /// The crate's name, which is the plugin's.
    pub name: &'a str,
    /// The world: `handler` or `batch-handler`.
    pub world: &'a str,
    /// The consumer group.
    pub group: &'a str,
    /// The topics it wants to be bound to.
    pub topics: &'a [&'a str],
    /// The types of message it handles.
    pub types: &'a [&'a str],
    /// The topics it publishes to.
    pub publishes: &'a [&'a str],
}

impl About<'_> {
    /// The length of the JSON in bytes.
    pub const fn length(&self) -> usize {
        self.write(&mut [])
    }

    /// The JSON; `N` is its length.
    pub const fn json<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        let written = self.write(&mut bytes);
        assert!(written == N, "N must be what length() returns");
        bytes
    }

    /// Writes as much as fits into `out` and returns the length of the whole.
    const fn write(&self, out: &mut [u8]) -> usize {
        let mut at = raw(out, 0, "{\"name\":");
        at = text(out, at, self.name);
        at = raw(out, at, ",\"world\":");
        at = text(out, at, self.world);
        at = raw(out, at, ",\"group\":");
        at = text(out, at, self.group);
        at = raw(out, at, ",\"topics\":");
        at = texts(out, at, self.topics);
        at = raw(out, at, ",\"types\":");
        at = texts(out, at, self.types);
        at = raw(out, at, ",\"publishes\":");
        at = texts(out, at, self.publishes);
        byte(out, at, b'}')
    }
}

const fn byte(out: &mut [u8], at: usize, byte: u8) -> usize {
    if at < out.len() {
        out[at] = byte;
    }
    at + 1
}

const fn raw(out: &mut [u8], mut at: usize, text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut index = 0;
    while index < bytes.len() {
        at = byte(out, at, bytes[index]);
        index += 1;
    }
    at
}

/// Writes a JSON string. Bytes beyond ASCII are UTF-8 and stay as they are.
const fn text(out: &mut [u8], mut at: usize, text: &str) -> usize {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    at = byte(out, at, b'"');
    let mut index = 0;
    while index < bytes.len() {
        let value = bytes[index];
        if value < 0x20 {
            at = raw(out, at, "\\u00");
            at = byte(out, at, HEX[(value >> 4) as usize]);
            at = byte(out, at, HEX[(value & 15) as usize]);
        } else {
            if value == b'"' || value == b'\\' {
                at = byte(out, at, b'\\');
            }
            at = byte(out, at, value);
        }
        index += 1;
    }
    byte(out, at, b'"')
}

const fn texts(out: &mut [u8], mut at: usize, texts: &[&str]) -> usize {
    at = byte(out, at, b'[');
    let mut index = 0;
    while index < texts.len() {
        if index > 0 {
            at = byte(out, at, b',');
        }
        at = text(out, at, texts[index]);
        index += 1;
    }
    byte(out, at, b']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_json_whatever_the_names() {
        const ABOUT: About<'static> = About {
            name: "a \"quoted\" \\ name",
            world: "handler",
            group: "tab\tand 订单",
            topics: &["order", "stock"],
            types: &[],
            publishes: &["x"],
        };
        const LENGTH: usize = ABOUT.length();
        static SECTION: [u8; LENGTH] = ABOUT.json();

        let parsed: serde_json::Value = serde_json::from_slice(&SECTION).unwrap();
        assert_eq!(
            parsed,
            serde_json::json!({
                "name": "a \"quoted\" \\ name", "world": "handler", "group": "tab\tand 订单",
                "topics": ["order", "stock"], "types": [], "publishes": ["x"],
            })
        );
    }
}
