//! The identity of a message: its topic, its source and its id.
//!
//! A message with the identity of another one repeats it. A message that differs in
//! one of the three is another message, also under the same id.

use std::cell::RefCell;

use sha2::{Digest as _, Sha256};

use super::{MessageRow, NewMessage, OutboundRow};

/// The identity of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The id that its sender gave it, or the host.
    pub id: String,
    /// The sending service; empty when unknown.
    pub source: String,
    /// The topic that it was published on.
    pub topic: String,
}

impl Identity {
    /// The identity with this topic, source and id.
    #[must_use]
    pub fn new(topic: &str, source: &str, id: &str) -> Self {
        Self { id: id.to_owned(), source: source.to_owned(), topic: topic.to_owned() }
    }
}

/// Who handed a message in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentBy {
    /// The name of the token, or `outbox:` and the name of an outbox.
    pub sender: String,
    /// Whether the message's source is known to be this sender's.
    pub source_proven: bool,
}

impl SentBy {
    /// Reads the sender from the two columns of a row.
    #[must_use]
    pub fn from_columns(sender: Option<String>, source_proven: Option<bool>) -> Option<Self> {
        sender.map(|sender| Self { sender, source_proven: source_proven.unwrap_or(false) })
    }

    /// Whether a message that was refused makes room for one by `new`. Only the same
    /// sender replaces it, or a sender whose source is proven where the other's was not.
    #[must_use]
    pub fn makes_room(refused: Option<&Self>, new: Option<&Self>) -> bool {
        match (refused, new) {
            // A row of an earlier version, whose sender is unknown.
            (None, _) => true,
            (Some(_), None) => false,
            (Some(old), Some(new)) => old.sender == new.sender || (new.source_proven && !old.source_proven),
        }
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.source.as_str() {
            "" => write!(f, "{:?} on topic {:?}", self.id, self.topic),
            source => write!(f, "{:?} from {source:?} on topic {:?}", self.id, self.topic),
        }
    }
}

impl MessageRow {
    /// The message's identity.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::new(&self.topic, &self.source, &self.id)
    }
}

impl NewMessage {
    /// The message's identity.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::new(&self.topic, &self.source, &self.id)
    }
}

impl OutboundRow {
    /// The identity of the message that it carries.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::new(&self.published_on, &self.source, &self.message_id)
    }
}

/// The hash of a source, which deliveries keep in place of its text: 8 bytes, however
/// long the text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceHash(pub i64);

impl SourceHash {
    /// Hashes a source in the form in which the stores keep its text.
    #[must_use]
    pub fn of(source: &str) -> Self {
        thread_local! {
            /// The last source and its hash: consecutive messages mostly have the same source,
            /// or none.
            static LAST: RefCell<(String, SourceHash)> = RefCell::new((String::new(), SourceHash::computed("")));
        }
        LAST.with_borrow_mut(|(last, hash)| {
            if last != source {
                (*last, *hash) = (source.to_owned(), Self::computed(source));
            }
            *hash
        })
    }

    fn computed(source: &str) -> Self {
        let digest = Sha256::digest(source.replace('\0', "\u{fffd}").as_bytes());
        let (first, _) = digest.split_at(8);
        Self(first.iter().fold(0, |hash, byte| (hash << 8) | i64::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stores keep these numbers: they never change.
    #[test]
    fn a_source_has_the_hash_that_stores_keep() {
        assert_eq!(SourceHash::of("shop").0, i64::from_be_bytes(Sha256::digest(b"shop")[..8].try_into().unwrap()));
        assert_ne!(SourceHash::of("/eu"), SourceHash::of("/us"));
        assert_eq!(SourceHash::of(""), SourceHash(0xe3b0_c442_98fc_1c14_u64.cast_signed()));
        let again = ["/eu", "/us", "/eu", "", "/eu", "/eu"];
        assert_eq!(again.map(SourceHash::of), again.map(SourceHash::computed), "each source keeps its own hash");
    }

    #[test]
    fn a_refused_message_is_replaced_only_by_its_own_sender() {
        let by = |sender: &str, source_proven| Some(SentBy { sender: sender.to_owned(), source_proven });
        let room = |old: Option<SentBy>, new: Option<SentBy>| SentBy::makes_room(old.as_ref(), new.as_ref());
        assert!(room(by("shop", false), by("shop", false)) && room(by("shop", true), by("shop", true)));
        assert!(!room(by("shop", false), by("other", false)) && !room(by("shop", true), by("other", true)));
        assert!(room(by("other", false), by("shop", true)), "whose source it is comes before who only says so");
        assert!(!room(by("outbox:shop", false), by("other", false)) && !room(by("shop", false), None));
        assert!(room(None, by("shop", false)), "of an earlier version nobody knows");
    }

    #[test]
    fn an_identity_is_told_in_words() {
        assert_eq!(Identity::new("order", "shop", "1").to_string(), "\"1\" from \"shop\" on topic \"order\"");
        assert_eq!(Identity::new("order", "", "1").to_string(), "\"1\" on topic \"order\"");
    }
}
