//! Events, their keys, and the types that a handler can take.

use serde::de::DeserializeOwned;

use crate::{Failure, Message};

/// A type of message: its topic, its name, and the key by which its messages stay
/// in order. Derive it:
///
/// ```
/// use courier_sdk::Event;
///
/// #[derive(Event)]
/// #[event(topic = "order")]
/// struct OrderCreated {
///     #[primary_key]
///     order_id: String,
/// }
///
/// assert_eq!((OrderCreated::TOPIC, OrderCreated::TYPE), ("order", "OrderCreated"));
/// assert_eq!(OrderCreated { order_id: "o-1".into() }.key(), Some(b"o-1".to_vec()));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    note = "add `#[derive(Event)]` and `#[event(topic = \"..\")]` to it"
)]
pub trait Event {
    /// The topic of its messages.
    const TOPIC: &'static str;
    /// The name of the type, for example `OrderCreated`.
    const TYPE: &'static str;
    /// The primary key of this message; `None` when order does not matter.
    fn key(&self) -> Option<Vec<u8>>;
}

/// A value that can be a primary key, as bytes.
///
/// A text is its UTF-8 bytes and a number its decimal digits, so that clients in
/// other languages make the same key.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a primary key",
    note = "texts, integers, bytes and options of them can; for a type of your own implement `courier_sdk::Key`"
)]
pub trait Key {
    /// The bytes of the key; `None` leaves the message without a key.
    fn key(&self) -> Option<Vec<u8>>;
}

impl Key for str {
    fn key(&self) -> Option<Vec<u8>> {
        Some(self.as_bytes().to_vec())
    }
}

impl Key for String {
    fn key(&self) -> Option<Vec<u8>> {
        self.as_str().key()
    }
}

impl Key for [u8] {
    fn key(&self) -> Option<Vec<u8>> {
        Some(self.to_vec())
    }
}

impl Key for Vec<u8> {
    fn key(&self) -> Option<Vec<u8>> {
        Some(self.clone())
    }
}

impl<const N: usize> Key for [u8; N] {
    fn key(&self) -> Option<Vec<u8>> {
        Some(self.to_vec())
    }
}

impl<K: Key> Key for Option<K> {
    fn key(&self) -> Option<Vec<u8>> {
        self.as_ref().and_then(Key::key)
    }
}

impl<K: Key + ?Sized> Key for &K {
    fn key(&self) -> Option<Vec<u8>> {
        (**self).key()
    }
}

impl<K: Key + ?Sized> Key for Box<K> {
    fn key(&self) -> Option<Vec<u8>> {
        (**self).key()
    }
}

macro_rules! decimal_keys {
    ($($integer:ty)*) => {$(
        impl Key for $integer {
            fn key(&self) -> Option<Vec<u8>> {
                Some(self.to_string().into_bytes())
            }
        }
    )*};
}

decimal_keys!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

/// The first parameter of a handler: an [`Event`] that serde can read, an `Option`
/// of one (`None` for a tombstone), or the raw [`Message`].
#[diagnostic::on_unimplemented(
    message = "a handler cannot be sent a `{Self}`",
    note = "it takes a `Message`, a type with `#[derive(Event, Deserialize)]`, or an `Option` of one"
)]
pub trait Input: Sized {
    /// The topics of the input; empty when the binding alone decides.
    const TOPICS: &'static [&'static str];
    /// The types of message of the input; empty when the binding alone decides.
    const TYPES: &'static [&'static str];
    /// Reads the input from a message.
    fn read(message: &Message) -> Result<Self, Failure>;
}

impl Input for Message {
    const TOPICS: &'static [&'static str] = &[];
    const TYPES: &'static [&'static str] = &[];

    fn read(message: &Message) -> Result<Self, Failure> {
        Ok(message.clone())
    }
}

/// `None` for a tombstone, otherwise the event.
impl<E: Event + DeserializeOwned> Input for Option<E> {
    const TOPICS: &'static [&'static str] = &[E::TOPIC];
    // A tombstone of another producer may have no type.
    const TYPES: &'static [&'static str] = &[];

    fn read(message: &Message) -> Result<Self, Failure> {
        if message.body.is_none() { Ok(None) } else { message.event().map(Some) }
    }
}

impl<E: Event + DeserializeOwned> Input for E {
    const TOPICS: &'static [&'static str] = &[E::TOPIC];
    const TYPES: &'static [&'static str] = &[E::TYPE];

    fn read(message: &Message) -> Result<Self, Failure> {
        message.event()
    }
}
