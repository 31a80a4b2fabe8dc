//! Reserves stock for an order and publishes `StockReserved`.
//!
//! The message is committed together with this handler's success: when the
//! attempt fails or traps, nobody sees it, and when it succeeds it cannot be
//! lost. Bind it with the grant of its topic:
//!
//! ```toml
//! [[binding]]
//! group = "stock"
//! topics = ["order"]
//! types = ["OrderCreated"]
//! plugin = "stock-reserver"
//! [binding.grant]
//! publish = ["stock"]
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
    #[serde(default = "one")]
    quantity: u32,
}

fn one() -> u32 {
    1
}

/// An order whose stock is reserved.
#[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
#[event(topic = "stock")]
struct StockReserved {
    #[primary_key]
    order_id: String,
    order_name: String,
    quantity: u32,
    /// The delivery that reserved it, the same for all its attempts, by which a
    /// consumer can tell a repetition from a second reservation.
    reservation: String,
}

#[handler(group = "stock", publishes = ["stock"])]
fn reserve(order: OrderCreated, ctx: &Context) -> Result<(), Failure> {
    if order.quantity == 0 {
        return Err(Failure::reject("quantity is 0: there is nothing to reserve"));
    }
    let id = ctx.publish(&StockReserved {
        order_id: order.order_id,
        order_name: order.order_name,
        quantity: order.quantity,
        reservation: ctx.attempt().delivery.clone(),
    })?;
    ctx.info(format_args!("stock is reserved by message {id}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(quantity: u32) -> OrderCreated {
        OrderCreated { order_id: "o-1".into(), order_name: "tea".into(), quantity }
    }

    #[test]
    fn an_order_gets_its_stock() {
        let ctx = Context::test().build();
        assert_eq!(reserve(order(3), &ctx), Ok(()));

        let published = ctx.published();
        assert_eq!(published.len(), 1);
        assert_eq!(published[0].topic, "stock");
        assert_eq!(published[0].type_, "StockReserved");
        assert_eq!(published[0].key, Some(b"o-1".to_vec()));
        assert_eq!(
            published[0].event::<StockReserved>().unwrap(),
            StockReserved {
                order_id: "o-1".into(),
                order_name: "tea".into(),
                quantity: 3,
                reservation: "test-delivery".into(),
            }
        );
    }

    #[test]
    fn nothing_is_published_for_an_order_of_nothing() {
        let ctx = Context::test().event(&order(0)).build();
        assert!(matches!(ctx.deliver(reserve), Err(Failure::Reject(_))));
        assert_eq!(ctx.published(), []);
    }

    #[test]
    fn a_missing_grant_is_told() {
        let ctx = Context::test().deny_publish().build();
        let failure = reserve(order(1), &ctx).unwrap_err();
        assert!(failure.reason().contains("publish = [\"stock\"]"), "{failure}");
    }
}
