//! The simplest handler: it logs every order that is created.
//!
//! To start your own, copy this folder, rename it in `Cargo.toml`, change the
//! event to yours and put your work where the log line is. `cargo test` runs
//! the tests below without a host; `courier plugin build` makes the component.
//! Bind it with:
//!
//! ```toml
//! [[binding]]
//! group = "order"
//! topics = ["order"]
//! types = ["OrderCreated"]
//! plugin = "order-handler"
//! ```

use courier_sdk::{Context, Event, Failure, handler};
use serde::{Deserialize, Serialize};

/// An order, as the shop publishes it.
#[derive(Event, Serialize, Deserialize)]
#[event(topic = "order")]
struct OrderCreated {
    #[primary_key]
    order_id: String,
    order_name: String,
    /// The quantity; 1 when it is missing.
    #[serde(default = "one")]
    quantity: u32,
}

fn one() -> u32 {
    1
}

#[handler(group = "order")]
fn order(order: OrderCreated, ctx: &Context) -> Result<(), Failure> {
    ctx.info(format_args!("order {}: {} x {}", order.order_id, order.quantity, order.order_name));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_noted() {
        let ctx = Context::test().body(r#"{"order_id": "o-1", "order_name": "tea"}"#).build();
        assert_eq!(ctx.deliver(order), Ok(()));
        assert_eq!(ctx.logs()[0].text, "order o-1: 1 x tea");
    }

    #[test]
    fn orders_of_one_id_stay_in_order() {
        let event = OrderCreated { order_id: "o-1".into(), order_name: "tea".into(), quantity: 2 };
        assert_eq!(event.key(), Some(b"o-1".to_vec()));
    }

    #[test]
    fn what_is_no_order_is_rejected() {
        let ctx = Context::test().body("tea, please").build();
        let failure = ctx.deliver(order).unwrap_err();
        assert!(matches!(failure, Failure::Reject(_)));
        assert!(failure.reason().starts_with("body is not a valid OrderCreated"));
    }
}
