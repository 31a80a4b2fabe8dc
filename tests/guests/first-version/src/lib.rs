//! A handler of version 1 of the contract, written without the SDK, which
//! speaks version 2: handlers that were built before it must run as they did.
//!
//! It publishes each message to the topic that `[binding.config] to` names, with the
//! same key and headers. For a message of type `Down` it answers `unavailable`.

wit_bindgen::generate!({ path: "../../../wit", world: "courier:plugin/handler@1.0.0" });

use courier::plugin::{config, log, publish, types};

struct FirstVersion;

impl Guest for FirstVersion {
    fn handle(message: Message, attempt: Attempt) -> Result<(), Failure> {
        log::log(log::Level::Info, &format!("attempt {} of version 1", attempt.number));
        if message.type_ == "Down" {
            return Err(Failure::Unavailable("first-version: down".to_owned()));
        }
        let Some(topic) = config::get("to") else {
            return Err(Failure::Reject("first-version: [binding.config] names no topic `to`".to_owned()));
        };
        let copy = types::Outgoing {
            topic,
            type_: "Copied".to_owned(),
            key: message.key,
            content_type: message.content_type,
            body: message.body,
            headers: message.headers,
        };
        match publish::publish(&copy) {
            Ok(_) => Ok(()),
            Err(refusal) => Err(Failure::Error(format!("first-version: {refusal}"))),
        }
    }
}

export!(FirstVersion);
