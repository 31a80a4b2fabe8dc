//! Rejects orders that cannot be right, with a reason that names the field.
//!
//! A rejected message is not tried again: it is HANDLE_FAIL with the reason, and
//! goes to the dead letters if the binding has `dead_letter`. The handler also
//! reads a setting: `max_quantity` of `[binding.config]` is the largest quantity.
//! Bind it with:
//!
//! ```toml
//! [[binding]]
//! group = "validation"
//! topics = ["order"]
//! types = ["OrderCreated"]
//! plugin = "order-validator"
//! dead_letter = true
//! [binding.config]
//! max_quantity = "500"
//! ```

use courier_sdk::{Context, Event, Failure, handler};
use serde::{Deserialize, Serialize};

/// The largest quantity when the binding sets none.
const MAX_QUANTITY: i64 = 1_000;

/// An order, as the shop publishes it.
///
/// Numbers are signed, although a sound order has none below zero, so that this
/// handler can name a wrong value and the parser does not reject it first.
#[derive(Event, Serialize, Deserialize)]
#[event(topic = "order")]
struct OrderCreated {
    #[primary_key]
    order_id: String,
    order_name: String,
    #[serde(default)]
    quantity: Option<i64>,
    /// The price in hundredths of the currency's unit.
    #[serde(default)]
    price_cents: Option<i64>,
}

#[handler(group = "validation")]
fn validate(order: OrderCreated, ctx: &Context) -> Result<(), Failure> {
    let problems = problems(&order, max_quantity(ctx)?);
    if problems.is_empty() {
        ctx.debug(format_args!("order {} is valid", order.order_id));
        return Ok(());
    }
    Err(Failure::reject(problems.join("; ")))
}

/// Every problem of an order, so that the sender can mend all at once.
fn problems(order: &OrderCreated, max_quantity: i64) -> Vec<String> {
    let mut problems = Vec::new();
    if order.order_id.trim().is_empty() {
        problems.push("order_id is empty".into());
    }
    if order.order_name.trim().is_empty() {
        problems.push("order_name is empty".into());
    }
    match order.quantity {
        Some(quantity) if quantity < 1 => problems.push(format!("quantity is {quantity}, must be at least 1")),
        Some(quantity) if quantity > max_quantity => {
            problems.push(format!("quantity is {quantity}, must be at most {max_quantity}"));
        }
        _ => {}
    }
    if let Some(price) = order.price_cents.filter(|price| *price < 0) {
        problems.push(format!("price_cents is {price}, must not be negative"));
    }
    problems
}

/// The largest quantity. A wrong setting is the binding's fault and not the
/// order's, so it is an error and no rejection: the order is handled afterwards.
fn max_quantity(ctx: &Context) -> Result<i64, Failure> {
    match ctx.config("max_quantity") {
        None => Ok(MAX_QUANTITY),
        Some(text) => text.parse().map_err(|_| {
            Failure::error(format_args!("max_quantity in [binding.config] is \"{text}\", must be a number"))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validate_body(body: &str) -> Result<(), Failure> {
        Context::test().body(body).build().deliver(validate)
    }

    #[test]
    fn a_good_order_passes() {
        let good = r#"{"order_id": "o-1", "order_name": "tea", "quantity": 2, "price_cents": 350}"#;
        assert_eq!(validate_body(good), Ok(()));
        assert_eq!(validate_body(r#"{"order_id": "o-1", "order_name": "tea"}"#), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_rejected_by_name() {
        for (body, reason) in [
            (r#"{"order_id": "", "order_name": "tea"}"#, "order_id is empty"),
            (r#"{"order_id": "o-1", "order_name": " "}"#, "order_name is empty"),
            (r#"{"order_id": "o-1", "order_name": "tea", "quantity": 0}"#, "quantity is 0, must be at least 1"),
            (r#"{"order_id": "o-1", "order_name": "tea", "quantity": 1001}"#, "quantity is 1001, must be at most 1000"),
            (
                r#"{"order_id": "o-1", "order_name": "tea", "price_cents": -5}"#,
                "price_cents is -5, must not be negative",
            ),
            (r#"{"order_id": "", "order_name": ""}"#, "order_id is empty; order_name is empty"),
        ] {
            assert_eq!(validate_body(body), Err(Failure::reject(reason)), "{body}");
        }
    }

    #[test]
    fn the_largest_quantity_is_a_setting() {
        let order =
            OrderCreated { order_id: "o-1".into(), order_name: "tea".into(), quantity: Some(11), price_cents: None };
        let ctx = Context::test().event(&order).config("max_quantity", "10").build();
        assert_eq!(ctx.deliver(validate), Err(Failure::reject("quantity is 11, must be at most 10")));

        let ctx = Context::test().event(&order).config("max_quantity", "ten").build();
        assert!(matches!(ctx.deliver(validate), Err(Failure::Error(_))));
    }
}
