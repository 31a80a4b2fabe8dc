//! The id that Kafka gave a topic (KIP-516).
//!
//! A topic that was deleted and created anew has the same name and other
//! records; only its id tells. rdkafka does not wrap `DescribeTopics`, so this
//! file calls librdkafka itself, and it is the only one that does.

use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::time::{Duration, Instant};

use rdkafka::client::{Client, ClientContext};
use rdkafka_sys as sys;

/// The id of `topic`, or none when the broker tells none in time.
pub fn describe<C: ClientContext>(client: &Client<C>, topic: &str, wait: Duration) -> Option<String> {
    let name = CString::new(topic).ok()?;
    let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: every pointer is made by librdkafka in this block, is used only
    // while its owner lives, and is destroyed once, by the guards below, in
    // the reverse order of its making. `client` outlives the call.
    unsafe {
        let mut names: [*const c_char; 1] = [name.as_ptr()];
        let topics = Guard(sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1), |it| {
            sys::rd_kafka_TopicCollection_destroy(it);
        });
        let queue = Guard(sys::rd_kafka_queue_new(client.native_ptr()), |it| sys::rd_kafka_queue_destroy(it));
        let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = Guard(sys::rd_kafka_AdminOptions_new(client.native_ptr(), operation), |it| {
            sys::rd_kafka_AdminOptions_destroy(it);
        });
        sys::rd_kafka_AdminOptions_set_request_timeout(options.0, wait_ms, ptr::null_mut(), 0);
        sys::rd_kafka_DescribeTopics(client.native_ptr(), topics.0, options.0, queue.0);
        let begun = Instant::now();
        while begun.elapsed() < wait {
            let event = Guard(sys::rd_kafka_queue_poll(queue.0, wait_ms), |it| {
                if !it.is_null() {
                    sys::rd_kafka_event_destroy(it);
                }
            });
            if event.0.is_null() {
                return None;
            }
            let result = sys::rd_kafka_event_DescribeTopics_result(event.0);
            if result.is_null() {
                continue;
            }
            let mut count = 0;
            let found = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            if found.is_null() || count == 0 {
                return None;
            }
            let id = sys::rd_kafka_TopicDescription_topic_id(*found);
            if id.is_null() || sys::rd_kafka_Uuid_most_significant_bits(id) == 0 {
                return None;
            }
            let text = sys::rd_kafka_Uuid_base64str(id);
            return (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned());
        }
    }
    None
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
