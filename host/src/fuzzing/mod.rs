//! Fuzz targets for the code that reads untrusted bytes.
//!
//! Each target takes any bytes and passes them to the code that reads such bytes in a
//! running host. It panics when that code panics or breaks an invariant. `tests/fuzz`
//! builds a libFuzzer program of each; the ordinary tests replay the corpus there and
//! mutations of it (`replay`).

#[cfg(test)]
mod replay;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use courier_core::message::{Header, Offset, Timestamp};
use percent_decoding::decoded;

use crate::api::messages::fields::Defaults;
use crate::api::messages::form::Form;
use crate::config;
use crate::engine;
use crate::kafka::header_name;
use crate::kafka::record::Record;
use crate::publish::transactions::check_back::CheckUrls;
use crate::store::redrive::{RedriveFilter, RedriveId};
use crate::store::troubles::DeadLetterFilter;
use crate::store::undelivered::UndeliveredFilter;
use crate::store::{
    self, AuditFilter, DelayedFilter, DeliveryFilter, DeliveryKey, MessageFilter, Page, SharedStore, StoreError,
};

/// A function that takes any bytes.
pub type Target = fn(&[u8]);

/// Every target by the name of its corpus.
pub const TARGETS: [(&str, Target); 7] = [
    ("upload", upload),
    ("configuration", configuration),
    ("structured_event", structured_event),
    ("binary_event", binary_event),
    ("record", record),
    ("cursor", cursor),
    ("check_url", check_url),
];

/// The value of every secret in [`configuration`].
const CANARY: &str = "canary-7c1f0b9e42";
/// The pattern of [`check_url`].
const ALLOWED: &str = "https://shop.example.com/tx/*";

/// An upload: inspected, but not compiled.
pub fn upload(bytes: &[u8]) {
    if let Ok(inspection) = engine::inspect(bytes) {
        assert!(!inspection.exports.is_empty(), "a handler exports something");
    }
}

/// A configuration. No output shows a secret, whatever the errors are.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // The text may name a file of this machine by chance. It must not be read:
    // reading a device may never end.
    if text.contains(['/', '\\']) && text.contains("\"/") {
        return;
    }
    let shown = match config::parse("nowhere/courier.toml", text, &|_| Some(CANARY.to_owned())) {
        Ok(config) => format!("{config:?}"),
        Err(error) => format!("{error}{error:?}"),
    };
    assert!(!shown.contains(CANARY) || text.contains(CANARY), "a secret is shown: {shown}");
}

/// CloudEvents over HTTP in structured form, one and a batch.
pub fn structured_event(bytes: &[u8]) {
    for form in [Form::Structured, Form::Batch, Form::Json] {
        let body = Bytes::copy_from_slice(bytes);
        if let Ok(published) = form.read(&HeaderMap::new(), body, &Defaults::default()) {
            let messages = published.items.len();
            assert!(published.many || messages == 1, "one message and not {messages}");
        }
    }
}

/// A CloudEvent over HTTP in binary form: header lines, an empty line, the body.
pub fn binary_event(bytes: &[u8]) {
    let end = bytes.windows(2).position(|two| two == b"\n\n").unwrap_or(bytes.len());
    let (head, body) = (&bytes[..end], bytes.get(end + 2..).unwrap_or_default());
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n').take(64) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let parts = (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(value.trim_ascii()));
        if let (Ok(name), Ok(value)) = parts {
            headers.append(name, value);
        }
    }
    let Ok(form) = Form::of(&headers) else { return };
    let read = form.read(&headers, Bytes::copy_from_slice(body), &Defaults::new(None, "fuzz", &headers));
    if let (Form::Binary, Ok(published)) = (form, read) {
        for draft in published.items.iter().flatten() {
            assert_eq!(draft.body, body, "the body is what was sent");
        }
    }
}

/// A record with any headers, as it comes from Kafka and as the store keeps it.
pub fn record(bytes: &[u8]) {
    let whole = Bytes::copy_from_slice(bytes);
    if let Ok(record) = Record::decode(&whole) {
        assert_eq!(record.encode(), whole, "one record has one form");
        read_and_produce(&record);
    }
    // Lines of `name=value`, and the value after an empty one.
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let headers = lines.by_ref().take_while(|line| !line.is_empty()).map(|line| {
        let equals = line.iter().position(|byte| *byte == b'=');
        let (name, value) = line.split_at(equals.unwrap_or(line.len()));
        let text = header_name::read(name);
        assert_eq!(*header_name::raw(&text), *name, "a name keeps its bytes");
        Header { name: text, value: equals.map(|_| Bytes::copy_from_slice(&value[1..])) }
    });
    let headers = headers.collect();
    let value = lines.next().map(Bytes::copy_from_slice);
    read_and_produce(&Record { timestamp: Timestamp(0), key: None, value, headers, left_out: None });
}

/// A record that is read and produced again stays the same message.
fn read_and_produce(record: &Record) {
    let message = record.to_message("order", 0, Offset(7));
    let again = Record::from_message(&message).to_message("order", 0, Offset(7));
    assert_eq!((&again.id, &again.source, &again.type_name), (&message.id, &message.source, &message.type_name));
    assert_eq!((&again.key, &again.body), (&message.key, &message.body));
    assert_eq!(record.lane_key(), message.key, "a record waits for others of its message's key");
}

/// The cursor of a list, and the id of a delivery.
pub fn cursor(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(key) = text.parse::<DeliveryKey>() {
        assert_eq!(key.to_string().parse::<DeliveryKey>().ok(), Some(key));
    }
    let (runtime, store) = &*STORE;
    runtime.block_on(async {
        let page = Page { cursor: Some(text.to_owned()), limit: 2 };
        let page = &page;
        refused_or_empty(store.messages(&MessageFilter::default(), page).await.map(|found| found.items.len()));
        refused_or_empty(store.deliveries(&DeliveryFilter::default(), page).await.map(|found| found.items.len()));
        refused_or_empty(store.audit_entries(&AuditFilter::default(), page).await.map(|found| found.items.len()));
        refused_or_empty(store.halves(None, None, page).await.map(|found| found.items.len()));
        refused_or_empty(store.delayed(&DelayedFilter::default(), page).await.map(|found| found.items.len()));
        refused_or_empty(store.redrives(&RedriveFilter::default(), page).await.map(|found| found.items.len()));
        refused_or_empty(store.redrive_items(RedriveId(1), page).await.map(|found| found.items.len()));
        refused_or_empty(store.parked("stock", None, page).await.map(|found| found.items.len()));
        refused_or_empty(store.dead_letters(&DeadLetterFilter::default(), page).await.map(|found| found.items.len()));
        refused_or_empty(store.undelivered(&UndeliveredFilter::default(), page).await.map(|found| found.items.len()));
    });
}

/// An empty store of SQLite, and its runtime.
static STORE: LazyLock<(tokio::runtime::Runtime, SharedStore)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    let file: PathBuf = std::env::temp_dir().join(format!("courier-fuzz-{}.db", uuid::Uuid::now_v7().simple()));
    let opened = runtime.block_on(store::open(&format!("sqlite://{}", file.display())));
    (runtime, opened.unwrap_or_else(|error| panic!("no store: {error}")))
});

/// An invalid cursor is refused as not found; a valid one is past the end of an empty
/// list.
fn refused_or_empty(found: Result<usize, StoreError>) {
    match found {
        Ok(items) => assert_eq!(items, 0, "the store is empty"),
        Err(StoreError::NotFound(_)) => {}
        Err(error) => panic!("a cursor is a fault of the store: {error}"),
    }
}

/// A check URL. An allowed URL has the host of the pattern and lies below its path, even
/// for a server that decodes it twice.
pub fn check_url(bytes: &[u8]) {
    static URLS: LazyLock<Arc<CheckUrls>> = LazyLock::new(|| {
        let urls = CheckUrls::new(&[ALLOWED.to_owned()]);
        Arc::new(urls.unwrap_or_else(|error| panic!("no HTTP client: {error}")))
    });
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(url) = URLS.allow(text) else { return };
    assert_eq!((url.scheme(), url.host_str(), url.port()), ("https", Some("shop.example.com"), None));
    assert!(url.username().is_empty() && url.password().is_none());
    let path = decoded(url.path());
    assert!(path.starts_with("/tx/"), "{url}");
    assert!(!path.split(['/', '\\']).any(|step| step == ".."), "{url}");
    assert!(!url.query_pairs().any(|(name, _)| name.eq_ignore_ascii_case("id")), "{url}");
}

mod percent_decoding {
    /// The text with every `%xx` decoded once, as a careless server does.
    pub fn decoded(text: &str) -> String {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((first, after)) = rest.split_first() {
            let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
            match digits.and_then(|two| u8::from_str_radix(two, 16).ok()).filter(|_| *first == b'%') {
                Some(byte) => {
                    bytes.push(byte);
                    rest = &after[2..];
                }
                None => {
                    bytes.push(*first);
                    rest = after;
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
