//! A record as it lies in Kafka, and as bytes that the store keeps.
//!
//! Keys, values and header values may be any bytes and are never changed.
//! Reading never fails on what a foreign producer wrote; only
//! [`Record::decode`], which reads what this program encoded, can refuse.
//! [`Record::to_message`] and [`Record::from_message`] are in `cloudevents.rs`.

use std::ffi::{CStr, c_char};
use std::ptr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use courier_core::message::{Header, Timestamp};
use rdkafka::Message as _;
use rdkafka::bindings as rdsys;
use rdkafka::message::BorrowedMessage;
use thiserror::Error;

use super::header_name;
pub use super::partitioner::{murmur2_hash, murmur2_partition, shard_of};

/// The layout that [`Record::encode`] writes, as its first byte.
const VERSION: u8 = 1;
/// The length that stands for "absent".
const ABSENT: u32 = u32::MAX;
/// Bytes of a key, and of all headers, that are kept of a record which is too
/// large to be kept: they name its lane, its id and its type.
const MAX_LEFT_OVER: usize = 16 * 1024;
/// What the two lengths of a header take when encoded.
const HEADER_OVERHEAD: usize = 8;
/// What version, time, two lengths and the count of headers take when encoded.
const RECORD_OVERHEAD: usize = 1 + 8 + 4 + 4 + 4;

/// A record: key, value and headers as they lie in Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Kafka's time of the record.
    pub timestamp: Timestamp,
    pub key: Option<Bytes>,
    /// The raw value; absent in a tombstone.
    pub value: Option<Bytes>,
    /// All headers, in order; names may repeat.
    pub headers: Vec<Header>,
    /// The record's bytes in Kafka, when they were more than may be kept: then
    /// only what tells the record from others is here, see
    /// [`Record::from_kafka`]. 0 when nothing of the record is left in Kafka.
    pub left_out: Option<usize>,
}

/// Bytes that are not an encoded record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadRecord {
    /// A newer version of this program wrote it, or nobody did.
    #[error("stored record has the unknown version {0}")]
    Version(u8),
    /// It ends too early or a length is wrong.
    #[error("stored record is cut short or damaged")]
    Damaged,
    /// A header's name is not UTF-8.
    #[error("stored record has a header whose name is not UTF-8")]
    HeaderName,
}

impl Record {
    /// What is known of a record that Kafka removed: the key in its open row. It is not
    /// encoded for the store, where it would be taken for the record.
    #[must_use]
    pub fn removed(key: Option<Bytes>) -> Self {
        Self { timestamp: Timestamp(0), key, value: None, headers: Vec::new(), left_out: Some(0) }
    }

    /// The record as bytes for the store.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.size());
        out.put_u8(VERSION);
        out.put_i64_le(self.timestamp.0);
        put(&mut out, self.key.as_deref());
        put(&mut out, self.value.as_deref());
        out.put_u32_le(u32::try_from(self.headers.len()).unwrap_or(ABSENT));
        for header in &self.headers {
            put(&mut out, Some(header.name.as_bytes()));
            put(&mut out, header.value.as_deref());
        }
        out.freeze()
    }

    /// The record that [`encode`](Self::encode) wrote; key, value and header
    /// values share the memory of `bytes`.
    ///
    /// # Errors
    /// When `bytes` are anything else.
    pub fn decode(bytes: &Bytes) -> Result<Self, BadRecord> {
        let mut rest = bytes.clone();
        match rest.try_get_u8() {
            Ok(VERSION) => {}
            Ok(other) => return Err(BadRecord::Version(other)),
            Err(_) => return Err(BadRecord::Damaged),
        }
        let timestamp = Timestamp(rest.try_get_i64_le().map_err(|_| BadRecord::Damaged)?);
        let key = take(&mut rest)?;
        let value = take(&mut rest)?;
        let count = usize::try_from(rest.try_get_u32_le().map_err(|_| BadRecord::Damaged)?).unwrap_or(usize::MAX);
        // A damaged count must not reserve memory that its headers cannot fill.
        let mut headers = Vec::with_capacity(count.min(rest.len() / HEADER_OVERHEAD));
        for _ in 0..count {
            let name = take(&mut rest)?.ok_or(BadRecord::Damaged)?;
            let name = std::str::from_utf8(&name).map_err(|_| BadRecord::HeaderName)?.to_owned();
            headers.push(Header { name, value: take(&mut rest)? });
        }
        if rest.is_empty() {
            Ok(Self { timestamp, key, value, headers, left_out: None })
        } else {
            Err(BadRecord::Damaged)
        }
    }

    /// How many bytes [`encode`](Self::encode) makes of it; what it counts for
    /// in every bound on bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize =
            self.headers.iter().map(|header| HEADER_OVERHEAD + header.name.len() + length(&header.value)).sum();
        RECORD_OVERHEAD + length(&self.key) + length(&self.value) + headers
    }

    /// Copies a record out of librdkafka's memory, into one buffer that key,
    /// value and header values share.
    ///
    /// Of a record of more than `max` bytes only small keys and headers are
    /// copied, and its size is told: what nobody bounded before Kafka would
    /// otherwise be held, stored and shown by the hundred MiB.
    ///
    /// A header name that is not text (foreign producers may write one) is
    /// read as [`header_name`] says: the binding's own iterator would panic on
    /// it, or cut it at a NUL.
    #[must_use]
    pub fn from_kafka(message: &BorrowedMessage<'_>, max: usize) -> Self {
        let (mut key, mut value) = (message.key(), message.payload());
        let native = RawHeaders::of(message);
        let header_bytes: usize = native.iter().map(|(_, value)| value.map_or(0, <[u8]>::len)).sum();
        let header_size: usize =
            header_bytes + native.iter().map(|(name, _)| HEADER_OVERHEAD + name.len()).sum::<usize>();
        let part = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        let size = RECORD_OVERHEAD + part(key) + part(value) + header_size;
        let left_out = (size > max).then_some(size);
        let with_headers = left_out.is_none() || header_size <= MAX_LEFT_OVER;
        if left_out.is_some() {
            value = None;
            key = key.filter(|key| key.len() <= MAX_LEFT_OVER);
        }
        let header_bytes = if with_headers { header_bytes } else { 0 };
        let mut buffer =
            BytesMut::with_capacity(key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + header_bytes);
        buffer.extend_from_slice(key.unwrap_or_default());
        buffer.extend_from_slice(value.unwrap_or_default());
        for (_, value) in native.iter().filter(|_| with_headers) {
            buffer.extend_from_slice(value.unwrap_or_default());
        }
        let mut buffer = buffer.freeze();
        let mut cut = |part: Option<&[u8]>| part.map(|part| buffer.split_to(part.len()));
        let (key, value) = (cut(key), cut(value));
        let mut headers = Vec::with_capacity(native.count);
        for (name, value) in native.iter().filter(|_| with_headers) {
            headers.push(Header { name: header_name::read(name), value: cut(value) });
        }
        let millis = message.timestamp().to_millis().unwrap_or(0);
        Self { timestamp: Timestamp(millis.saturating_mul(1_000)), key, value, headers, left_out }
    }
}

/// The headers of a borrowed message, read without the binding's assumption
/// that names are UTF-8.
struct RawHeaders<'a> {
    list: *mut rdsys::rd_kafka_headers_t,
    count: usize,
    message: &'a BorrowedMessage<'a>,
}

impl<'a> RawHeaders<'a> {
    fn of(message: &'a BorrowedMessage<'a>) -> Self {
        let mut list = ptr::null_mut();
        // SAFETY: the pointer belongs to a live message; librdkafka parses its
        // headers on the first call and keeps them with the message.
        let error = unsafe { rdsys::rd_kafka_message_headers(message.ptr(), &raw mut list) };
        let none = error != rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || list.is_null();
        // SAFETY: `list` was just returned for the live message.
        let count = if none { 0 } else { unsafe { rdsys::rd_kafka_header_cnt(list) } };
        Self { list, count, message }
    }

    fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        (0..self.count).map_while(|index| self.get(index))
    }

    fn get(&self, index: usize) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        let _alive: &'a BorrowedMessage<'a> = self.message;
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        // SAFETY: `list` lives as long as the message, which `self` borrows;
        // name and value point into it, the name with a NUL at its end.
        unsafe {
            let error = rdsys::rd_kafka_header_get_all(self.list, index, &raw mut name, &raw mut value, &raw mut size);
            if error != rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
                return None;
            }
            let value = (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size));
            Some((name_of(name, value), value))
        }
    }
}

/// The whole name of a header, of which librdkafka only tells where it begins.
///
/// It keeps the value right behind the name and its NUL (`rd_kafka_header_add`),
/// by which a NUL within the name is told from the one at its end. Without a
/// value such a name is cut at its first NUL, and names no attribute, since an
/// attribute has a value.
///
/// # Safety
/// `name` and `value` are those of one header of librdkafka that lives for `'a`.
unsafe fn name_of<'a>(name: *const c_char, value: Option<&'a [u8]>) -> &'a [u8] {
    // SAFETY: librdkafka ends every name with a NUL.
    let upto_nul = unsafe { CStr::from_ptr::<'a>(name) }.to_bytes();
    let between = value.and_then(|value| value.as_ptr().addr().checked_sub(name.addr() + 1));
    match between.filter(|length| *length > upto_nul.len()) {
        // SAFETY: name, NUL and value are one allocation of librdkafka, in this
        // order, so that all bytes up to the value are readable.
        Some(length) => unsafe { std::slice::from_raw_parts(name.cast::<u8>(), length) },
        None => upto_nul,
    }
}

fn put(out: &mut BytesMut, part: Option<&[u8]>) {
    match part {
        None => out.put_u32_le(ABSENT),
        Some(part) => {
            // A part of 4 GiB cannot come out of Kafka, whose sizes are i32.
            out.put_u32_le(u32::try_from(part.len()).unwrap_or(ABSENT));
            out.put_slice(part);
        }
    }
}

fn take(rest: &mut Bytes) -> Result<Option<Bytes>, BadRecord> {
    let length = rest.try_get_u32_le().map_err(|_| BadRecord::Damaged)?;
    if length == ABSENT {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| BadRecord::Damaged)?;
    if length > rest.len() { Err(BadRecord::Damaged) } else { Ok(Some(rest.split_to(length))) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kafka::producer::OrderedSends;

    fn bytes() -> impl Strategy<Value = Option<Bytes>> {
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from))
    }

    fn record() -> impl Strategy<Value = Record> {
        let header = ("\\PC{0,12}", bytes()).prop_map(|(name, value)| Header { name, value });
        (any::<i64>(), bytes(), bytes(), proptest::collection::vec(header, 0..6)).prop_map(
            |(timestamp, key, value, headers)| Record {
                timestamp: Timestamp(timestamp),
                key,
                value,
                headers,
                left_out: None,
            },
        )
    }

    /// What a consumer that keeps at most `max` bytes of a record makes of `sent`.
    async fn through_kafka(sent: &Record, max: usize) -> Record {
        use std::time::Duration;

        use rdkafka::consumer::{BaseConsumer, Consumer as _};

        use super::super::embedded::Embedded;
        use super::super::producer::Producer;

        let broker = Embedded::start(&["odd".to_owned()]).unwrap();
        let servers = vec![broker.servers().unwrap()];
        let producer = Producer::new(&servers, &std::collections::BTreeMap::new()).unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        producer.send(&OrderedSends::default(), "odd", 0, sent, deadline).await.unwrap().await.unwrap();
        let read = tokio::task::spawn_blocking(move || {
            let mut config = rdkafka::ClientConfig::new();
            config.set("bootstrap.servers", &servers[0]).set("group.id", "reader").set("auto.offset.reset", "earliest");
            let consumer: BaseConsumer = config.create().unwrap();
            let mut place = rdkafka::TopicPartitionList::new();
            place.add_partition_offset("odd", 0, rdkafka::Offset::Beginning).unwrap();
            consumer.assign(&place).unwrap();
            loop {
                if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                    return Record::from_kafka(&message.unwrap(), max);
                }
            }
        });
        tokio::time::timeout(Duration::from_secs(20), read).await.unwrap().unwrap()
    }

    fn named(name: &[u8], value: Option<&'static [u8]>) -> Header {
        Header { name: header_name::read(name), value: value.map(Bytes::from_static) }
    }

    /// A name with a NUL was cut at it, so that `ce_id\0x` was taken for the id;
    /// one that is not UTF-8 was altered.
    #[tokio::test(flavor = "multi_thread")]
    async fn names_of_headers_that_are_not_text_go_through_kafka_unharmed() {
        use courier_core::message::Offset;

        let headers = vec![
            named(b"ce_id\0x", Some(b"1")),
            named(b"\xff\xfe", Some(b"")),
            named(b"plain", None),
            named(b"\0", Some(b"v")),
            named(b"", Some(b"v")),
        ];
        let sent = Record { timestamp: Timestamp(7_000), key: None, value: None, headers, left_out: None };
        let read = through_kafka(&sent, sent.size()).await;
        assert_eq!(read, sent);
        assert_eq!(read.to_message("odd", 0, Offset(5)).id, "odd:0:5", "no such header is the id");
    }

    /// A record that inflates to 150 MB was held, stored and answered.
    #[tokio::test(flavor = "multi_thread")]
    async fn of_a_record_above_the_bound_only_what_names_it_is_kept() {
        let sent = Record {
            timestamp: Timestamp(7_000),
            key: Some(Bytes::from_static(b"o-1")),
            value: Some(Bytes::from(vec![b'x'; 100_000])),
            headers: vec![named(b"ce_id", Some(b"m-1"))],
            left_out: None,
        };
        let read = through_kafka(&sent, sent.size() - 1).await;
        assert_eq!(read, Record { value: None, left_out: Some(sent.size()), ..sent.clone() });
        let headers = vec![named(b"ce_id", Some(b"m-1")), named(b"large", Some(&[0; MAX_LEFT_OVER]))];
        let read = through_kafka(&Record { headers, ..sent.clone() }, sent.size()).await;
        assert_eq!((read.value, read.headers.len(), read.key), (None, 0, sent.key));
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(record in record()) {
            let encoded = record.encode();
            prop_assert_eq!(encoded.len(), record.size());
            prop_assert_eq!(Record::decode(&encoded), Ok(record));
        }

        #[test]
        fn damage_is_an_error_and_never_a_panic(record in record(), cut in any::<prop::sample::Index>(), flip: u8) {
            let mut damaged = record.encode().to_vec();
            let at = cut.index(damaged.len());
            prop_assert!(Record::decode(&Bytes::copy_from_slice(&damaged[..at])).is_err());
            damaged[at] ^= flip;
            let _any_answer = Record::decode(&Bytes::from(damaged));
        }
    }

    #[test]
    fn a_newer_layout_is_named() {
        assert_eq!(Record::decode(&Bytes::from_static(&[9, 0])), Err(BadRecord::Version(9)));
        assert_eq!(Record::decode(&Bytes::new()), Err(BadRecord::Damaged));
    }
}
