//! The generated bindings of the contract in `wit/v2/`, and the exports. Generated
//! types appear only here.

#![allow(missing_docs)]

use std::{rc::Rc, sync::Once, time::Duration};

use crate::{Context, Header, Kind, Level, Outgoing, Refusal, context::Effects};

pub use single::courier::plugin::types::{Attempt, Delivery, Failure, Message};
use single::courier::plugin::{cache, config, log, publish, state, types};

/// World `handler`.
pub mod single {
    wit_bindgen::generate!({
        path: "../../wit/v2",
        world: "courier:plugin/handler@2.0.0",
        pub_export_macro: true,
        export_macro_name: "export_handler",
        default_bindings_module: "courier_sdk::wire::single",
    });
}

/// World `batch-handler`; it uses the types of `single` for what both share.
pub mod batch {
    wit_bindgen::generate!({
        path: "../../wit/v2",
        world: "courier:plugin/batch-handler@2.0.0",
        pub_export_macro: true,
        export_macro_name: "export_batch_handler",
        default_bindings_module: "courier_sdk::wire::batch",
        with: {
            "courier:plugin/types@2.0.0": super::single::courier::plugin::types,
            "courier:plugin/cache@2.0.0": super::single::courier::plugin::cache,
            "courier:plugin/config@2.0.0": super::single::courier::plugin::config,
            "courier:plugin/log@2.0.0": super::single::courier::plugin::log,
        },
    });
}

use batch::courier::plugin::{batch_publish, batch_state};

/// The export `handle`.
pub fn handle(
    message: Message,
    attempt: Attempt,
    invoke: fn(&Context) -> Result<(), crate::Failure>,
) -> Result<(), Failure> {
    tell_panics();
    invoke(&Context::new(message.into(), attempt.into(), Rc::new(Single))).map_err(Failure::from)
}

/// The export `handle-batch`.
pub fn handle_batch(
    items: Vec<Delivery>,
    invoke: fn(Vec<Context>) -> Vec<Result<(), crate::Failure>>,
) -> Vec<Result<(), Failure>> {
    tell_panics();
    let contexts = (0..)
        .zip(items)
        .map(|(index, item)| Context::new(item.message.into(), item.attempt.into(), Rc::new(InBatch(index))))
        .collect();
    invoke(contexts).into_iter().map(|outcome| outcome.map_err(Failure::from)).collect()
}

/// Logs the message of a panic: the trap that follows has no text, and the
/// attempt's log has.
fn tell_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| log::log(log::Level::Error, &panic.to_string())));
    });
}

/// The imports of world `handler`.
struct Single;

impl Effects for Single {
    fn publish(&self, message: Outgoing) -> Result<String, Refusal> {
        Ok(publish::publish(&message.into())?)
    }

    fn state_get(&self, key: &str) -> Result<Option<Vec<u8>>, Refusal> {
        Ok(state::get(key)?)
    }

    fn state_set(&self, key: &str, value: Option<&[u8]>) -> Result<(), Refusal> {
        Ok(state::set(key, value)?)
    }

    fn cache_get(&self, key: &str) -> Result<Option<Vec<u8>>, Refusal> {
        Ok(cache::get(key)?)
    }

    fn cache_set(&self, key: &str, value: Option<&[u8]>) -> Result<(), Refusal> {
        Ok(cache::set(key, value)?)
    }

    fn config(&self, key: &str) -> Option<String> {
        config::get(key)
    }

    fn secret(&self, key: &str) -> Option<String> {
        config::secret(key)
    }

    fn log(&self, level: Level, text: &str) {
        log::log(level.into(), text);
    }
}

/// The imports of world `batch-handler`, for the item of this index.
struct InBatch(u32);

impl Effects for InBatch {
    fn publish(&self, message: Outgoing) -> Result<String, Refusal> {
        Ok(batch_publish::publish(self.0, &message.into())?)
    }

    fn state_get(&self, key: &str) -> Result<Option<Vec<u8>>, Refusal> {
        Ok(batch_state::get(self.0, key)?)
    }

    fn state_set(&self, key: &str, value: Option<&[u8]>) -> Result<(), Refusal> {
        Ok(batch_state::set(self.0, key, value)?)
    }

    fn cache_get(&self, key: &str) -> Result<Option<Vec<u8>>, Refusal> {
        Single.cache_get(key)
    }

    fn cache_set(&self, key: &str, value: Option<&[u8]>) -> Result<(), Refusal> {
        Single.cache_set(key, value)
    }

    fn config(&self, key: &str) -> Option<String> {
        Single.config(key)
    }

    fn secret(&self, key: &str) -> Option<String> {
        Single.secret(key)
    }

    fn log(&self, level: Level, text: &str) {
        Single.log(level, text);
    }
}

impl From<types::Message> for crate::Message {
    fn from(message: types::Message) -> Self {
        crate::Message {
            id: message.id,
            key: message.key,
            source: message.source,
            topic: message.topic,
            type_: message.type_,
            kind: match message.kind {
                types::Kind::Event => Kind::Event,
                types::Kind::Broadcast => Kind::Broadcast,
            },
            time: message.time,
            content_type: message.content_type,
            body: message.body,
            headers: message
                .headers
                .into_iter()
                .map(|header| Header { name: header.name, value: header.value })
                .collect(),
        }
    }
}

impl From<types::Attempt> for crate::Attempt {
    fn from(attempt: types::Attempt) -> Self {
        crate::Attempt {
            group: attempt.group,
            delivery: attempt.delivery,
            number: attempt.number,
            counted: attempt.counted,
            max_attempts: attempt.max_attempts,
            partition: attempt.partition,
            offset: attempt.offset,
            deadline: attempt.deadline,
        }
    }
}

impl From<Outgoing> for types::Outgoing {
    fn from(message: Outgoing) -> Self {
        types::Outgoing {
            topic: message.topic,
            type_: message.type_,
            key: message.key,
            content_type: message.content_type,
            body: message.body,
            headers: message
                .headers
                .into_iter()
                .map(|header| types::Header { name: header.name, value: header.value })
                .collect(),
        }
    }
}

impl From<crate::Failure> for types::Failure {
    fn from(failure: crate::Failure) -> Self {
        match failure {
            crate::Failure::Error(reason) => types::Failure::Error(reason),
            crate::Failure::Retry { reason, after } => {
                types::Failure::Retry(types::Retry { reason, after_ms: after.map(millis) })
            }
            crate::Failure::Reject(reason) => types::Failure::Reject(reason),
            crate::Failure::Unavailable { reason, after } => {
                types::Failure::Unavailable(types::Unavailable { reason, after_ms: after.map(millis) })
            }
        }
    }
}

/// A longer wait means "never"; the host bounds it.
fn millis(wait: Duration) -> u64 {
    wait.as_millis().try_into().unwrap_or(u64::MAX)
}

impl From<types::Refusal> for Refusal {
    fn from(refusal: types::Refusal) -> Self {
        match refusal {
            types::Refusal::Denied(text) => Refusal::Denied(text),
            types::Refusal::Limit(text) => Refusal::Limit(text),
            types::Refusal::Invalid(text) => Refusal::Invalid(text),
            types::Refusal::Unavailable(text) => Refusal::Unavailable(text),
        }
    }
}

impl From<Level> for log::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Debug => log::Level::Debug,
            Level::Info => log::Level::Info,
            Level::Warn => log::Level::Warn,
            Level::Error => log::Level::Error,
        }
    }
}
