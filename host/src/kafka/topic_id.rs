//! The ids that Kafka gave topics (KIP-516).
//!
//! A topic that was deleted and created anew has the same name and other
//! records; only its id tells. rdkafka does not wrap `DescribeTopics`, so this
//! file calls librdkafka itself.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::client::{Client, ClientContext};
use rdkafka_sys as sys;

/// How long a broker may take to tell ids.
const WAIT: Duration = Duration::from_secs(2);
/// How long a broker that told none is not asked again: older ones, and the
/// embedded one, do not answer at all.
const SILENCE: Duration = Duration::from_secs(60);

/// What Kafka says of a topic's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicNow {
    /// There is a topic of this name.
    Present {
        /// Kafka's id of it.
        id: String,
        /// How many partitions it has.
        partitions: i32,
    },
    /// There is none.
    Missing,
    /// Kafka does not say, and why.
    Untold(String),
}

/// What became of a question for ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// What Kafka says of each topic.
    Topics(HashMap<String, TopicNow>),
    /// This broker tells no ids.
    NoIds,
    /// There was no answer; asking again may help.
    Nothing,
}

/// Asks for ids, and remembers a broker that tells none.
#[derive(Debug, Default)]
pub struct TopicIds {
    known: Mutex<IdSupport>,
    /// Nobody is asked: this broker is known to tell none.
    is_without: bool,
}

#[derive(Debug, Default)]
struct IdSupport {
    /// Since when the broker is taken for one that tells no ids.
    silent_since: Option<Instant>,
    /// It told one before, so that no answer now means nothing.
    tells: bool,
}

impl TopicIds {
    /// The ids of a broker that has none. The embedded one leaves the question without
    /// an answer, and the first sender to a topic would wait for it.
    pub fn none() -> Self {
        Self { is_without: true, ..Self::default() }
    }

    /// The id of one topic; empty when the broker tells none now.
    pub fn one<C: ClientContext>(&self, client: &Client<C>, topic: &str) -> String {
        match self.of(client, &[topic.to_owned()]) {
            Told::Topics(mut told) => match told.remove(topic) {
                Some(TopicNow::Present { id, .. }) => id,
                _ => String::new(),
            },
            Told::NoIds | Told::Nothing => String::new(),
        }
    }

    /// What Kafka says of each of `topics`, in one request.
    pub fn of<C: ClientContext>(&self, client: &Client<C>, topics: &[String]) -> Told {
        if self.is_without {
            return Told::NoIds;
        }
        // Two plain values are kept here, which no panic can leave half written.
        let mut known = self.known.lock();
        if known.silent_since.is_some_and(|since| since.elapsed() < SILENCE) {
            return Told::NoIds;
        }
        let told = match describe(client, topics, WAIT) {
            // A broker that is slow or away is not one without ids. Taken for one, it
            // would hide for a minute that a topic was created anew.
            Told::Nothing if !known.tells && answers(client, topics) => Told::NoIds,
            told => told,
        };
        known.silent_since = (told == Told::NoIds).then(Instant::now);
        if let Told::Topics(topics) = &told {
            known.tells |= topics.values().any(|topic| matches!(topic, TopicNow::Present { .. }));
        }
        told
    }
}

/// Whether the cluster answers an ordinary question.
fn answers<C: ClientContext>(client: &Client<C>, topics: &[String]) -> bool {
    topics.first().is_some_and(|topic| client.fetch_metadata(Some(topic), WAIT).is_ok())
}

fn describe<C: ClientContext>(client: &Client<C>, topics: &[String], wait: Duration) -> Told {
    let names: Vec<CString> = topics.iter().filter_map(|topic| CString::new(topic.as_str()).ok()).collect();
    let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: every pointer is made by librdkafka in this block, is used only
    // while its owner lives, and is destroyed once, by the guards below, in
    // the reverse order of its making. `client` and `names` outlive the call.
    unsafe {
        let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        let collection =
            Guard(sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()), |it| {
                sys::rd_kafka_TopicCollection_destroy(it);
            });
        let queue = Guard(sys::rd_kafka_queue_new(client.native_ptr()), |it| sys::rd_kafka_queue_destroy(it));
        let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = Guard(sys::rd_kafka_AdminOptions_new(client.native_ptr(), operation), |it| {
            sys::rd_kafka_AdminOptions_destroy(it);
        });
        sys::rd_kafka_AdminOptions_set_request_timeout(options.0, wait_ms, ptr::null_mut(), 0);
        sys::rd_kafka_DescribeTopics(client.native_ptr(), collection.0, options.0, queue.0);
        let begun = Instant::now();
        while begun.elapsed() < wait {
            let event = Guard(sys::rd_kafka_queue_poll(queue.0, wait_ms), |it| {
                if !it.is_null() {
                    sys::rd_kafka_event_destroy(it);
                }
            });
            if event.0.is_null() {
                return Told::Nothing;
            }
            let result = sys::rd_kafka_event_DescribeTopics_result(event.0);
            if result.is_null() {
                continue;
            }
            let mut count = 0;
            let found = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            if found.is_null() || count == 0 {
                return Told::Nothing;
            }
            return told(std::slice::from_raw_parts(found, count));
        }
    }
    Told::Nothing
}

/// Reads descriptions.
///
/// # Safety
/// The pointers are of a result of `DescribeTopics` that is not destroyed yet.
unsafe fn told(found: &[*const sys::rd_kafka_TopicDescription_t]) -> Told {
    let mut topics = HashMap::with_capacity(found.len());
    for description in found.iter().copied() {
        // SAFETY: as the caller says; what is read belongs to the description.
        unsafe {
            let name = CStr::from_ptr(sys::rd_kafka_TopicDescription_name(description)).to_string_lossy();
            let code = sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(description));
            let now = match code {
                sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    let id = sys::rd_kafka_TopicDescription_topic_id(description);
                    if id.is_null() || sys::rd_kafka_Uuid_most_significant_bits(id) == 0 {
                        return Told::NoIds;
                    }
                    let text = sys::rd_kafka_Uuid_base64str(id);
                    if text.is_null() {
                        return Told::Nothing;
                    }
                    let mut partitions = 0;
                    sys::rd_kafka_TopicDescription_partitions(description, &raw mut partitions);
                    TopicNow::Present {
                        id: CStr::from_ptr(text).to_string_lossy().into_owned(),
                        partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
                    }
                }
                sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
                | sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC => TopicNow::Missing,
                code => TopicNow::Untold(CStr::from_ptr(sys::rd_kafka_err2str(code)).to_string_lossy().into_owned()),
            };
            topics.insert(name.into_owned(), now);
        }
    }
    Told::Topics(topics)
}

/// Destroys what librdkafka made, also on an early return.
struct Guard<T>(*mut T, unsafe fn(*mut T));

impl<T> Drop for Guard<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from the matching constructor and is not
        // used after this.
        unsafe { (self.1)(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::admin::AdminClient;
    use rdkafka::client::DefaultClientContext;

    use super::*;

    #[test]
    fn a_broker_without_ids_is_not_asked() {
        // Nobody listens there: an answer can only come from what is known.
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", "127.0.0.1:1");
        let client: AdminClient<DefaultClientContext> = config.create().unwrap();
        let topics = ["order".to_owned()];
        assert_eq!(TopicIds::none().of(client.inner(), &topics), Told::NoIds);
        assert_eq!(TopicIds::default().of(client.inner(), &topics), Told::Nothing);
    }
}
