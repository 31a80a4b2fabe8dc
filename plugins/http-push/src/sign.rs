//! Signatures as Standard Webhooks describes them: HMAC-SHA-256 over the id,
//! the time and the body, so that nobody else can send or alter a message.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The beginning of a key as text.
const PREFIX: &str = "whsec_";
/// The length of a key in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// The most keys at once: a new key and the one that it replaces.
const MAX_KEYS: usize = 2;

/// A key for signatures.
pub struct Key(Vec<u8>);

impl Key {
    /// Reads the keys of a secret, separated by spaces.
    ///
    /// # Errors
    /// What is wrong with a key, without showing it.
    pub fn read_all(text: &str) -> Result<Vec<Self>, String> {
        let example = "write whsec_ and base64 of 24 to 64 random bytes, and two of them only for a rotation";
        let keys: Option<Vec<Self>> = text.split_whitespace().map(Self::read).collect();
        keys.filter(|keys| (1..=MAX_KEYS).contains(&keys.len()))
            .ok_or_else(|| format!("[binding.secrets] signing_key is no key: {example}"))
    }

    fn read(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?;
        KEY_BYTES.contains(&bytes.len()).then_some(Self(bytes))
    }

    fn sign(&self, id: &str, seconds: u64, body: &[u8]) -> Option<String> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body);
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    }
}

/// The value of `webhook-signature`: one signature for each key.
pub fn signatures(keys: &[Key], id: &str, seconds: u64, body: &[u8]) -> String {
    let all: Vec<String> = keys.iter().filter_map(|key| key.sign(id, seconds, body)).collect();
    all.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks libraries.
    #[test]
    fn a_signature_is_that_of_the_reference() {
        let keys = Key::read_all("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = signatures(&keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn two_keys_make_two_signatures() {
        let (old, new) = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let sign = |text: &str| signatures(&Key::read_all(text).unwrap(), "1-2", 3, b"{}");
        assert_eq!(sign(&format!("{old} {new}")), format!("{} {}", sign(old), sign(new)));
    }

    #[test]
    fn what_is_no_key_is_told_without_showing_it() {
        let good = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        for wrong in ["", "secret", "whsec_", "whsec_c2hvcnQ=", "whsec_!!", &format!("{good} {good} {good}")] {
            let why = Key::read_all(wrong).map(drop).unwrap_err();
            assert!(why.contains("whsec_ and base64") && !why.contains("c2hvcnQ"), "{why}");
        }
    }
}
