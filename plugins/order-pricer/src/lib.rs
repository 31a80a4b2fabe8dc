//! Prices orders from a list that broadcasts keep fresh on each node.
//!
//! `PriceChanged` is sent as a broadcast: every node gets it and writes the
//! price into the cache that the group's handlers on that node share.
//! `OrderCreated` is an event: one node handles it, finds the price in its
//! cache, and publishes `OrderPriced`. A cache is empty when its node starts, so
//! the group's state, which is durable and slower, keeps the prices as well. An
//! order of an article without a price is tried again. Bind it with its grants:
//! what it needs, with:
//!
//! ```toml
//! [[binding]]
//! group = "pricing"
//! topics = ["order", "price"]
//! types = ["OrderCreated", "PriceChanged"]
//! plugin = "order-pricer"
//! [binding.retry]
//! max_attempts = 5
//! [binding.grant]
//! publish = ["invoice"]
//! state = true
//! cache = true
//! ```

use courier_sdk::{Context, Event, Failure, Message, handler};
use serde::{Deserialize, Serialize};

/// A new price of an article.
#[derive(Event, Serialize, Deserialize)]
#[event(topic = "price")]
struct PriceChanged {
    #[primary_key]
    article: String,
    /// The price in hundredths of the currency's unit.
    price_cents: u64,
}

/// An order, as the shop publishes it.
#[derive(Event, Serialize, Deserialize)]
#[event(topic = "order")]
struct OrderCreated {
    #[primary_key]
    order_id: String,
    /// The article that is ordered.
    order_name: String,
    #[serde(default = "one")]
    quantity: u64,
}

fn one() -> u64 {
    1
}

/// The price of an order.
#[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
#[event(topic = "invoice")]
struct OrderPriced {
    #[primary_key]
    order_id: String,
    total_cents: u64,
}

/// A handler of two types of message: it takes the raw message, and reads the
/// event by its type.
#[handler(
    group = "pricing",
    topics = ["order", "price"],
    types = ["OrderCreated", "PriceChanged"],
    publishes = ["invoice"]
)]
fn pricing(message: Message, ctx: &Context) -> Result<(), Failure> {
    match message.type_.as_str() {
        PriceChanged::TYPE => learn(&message.event()?, ctx),
        OrderCreated::TYPE => price(message.event()?, ctx),
        other => Err(Failure::reject(format_args!("there is nothing to price in a message of type {other:?}"))),
    }
}

fn learn(changed: &PriceChanged, ctx: &Context) -> Result<(), Failure> {
    let price = changed.price_cents.to_be_bytes();
    ctx.state_set(&changed.article, price)?;
    ctx.cache_set(&changed.article, price)?;
    ctx.info(format_args!("{} costs {} cents from now on", changed.article, changed.price_cents));
    Ok(())
}

fn price(order: OrderCreated, ctx: &Context) -> Result<(), Failure> {
    let Some(price_cents) = known_price(&order.order_name, ctx)? else {
        return Err(Failure::retry(format_args!("no price of {:?} is known yet", order.order_name)));
    };
    let Some(total_cents) = price_cents.checked_mul(order.quantity) else {
        return Err(Failure::reject(format_args!("{} times {price_cents} cents is no amount", order.quantity)));
    };
    ctx.publish(&OrderPriced { order_id: order.order_id, total_cents })?;
    Ok(())
}

/// The price of an article from the cache, otherwise from the state; `learn` wrote
/// both. A price from the state is not put into the cache, since a broadcast may
/// have put a newer one there meanwhile.
fn known_price(article: &str, ctx: &Context) -> Result<Option<u64>, Failure> {
    let known = match ctx.cache_get(article)? {
        Some(price) => Some(price),
        None => ctx.state_get(article)?,
    };
    Ok(known.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(quantity: u64) -> OrderCreated {
        OrderCreated { order_id: "o-1".into(), order_name: "tea".into(), quantity }
    }

    #[test]
    fn a_broadcast_sets_the_price_on_its_node() {
        let changed = PriceChanged { article: "tea".into(), price_cents: 350 };
        let ctx = Context::test().event(&changed).build();
        assert_eq!(ctx.deliver(pricing), Ok(()));
        assert_eq!(ctx.cache()["tea"], 350u64.to_be_bytes());
        assert_eq!(ctx.state()["tea"], 350u64.to_be_bytes());
    }

    #[test]
    fn a_node_that_has_just_started_finds_prices_in_the_state() {
        let ctx = Context::test().event(&order(2)).build();
        ctx.state_set("tea", 350u64.to_be_bytes()).unwrap();
        assert_eq!(ctx.deliver(pricing), Ok(()));
        assert_eq!(ctx.published()[0].event::<OrderPriced>().unwrap().total_cents, 700);
    }

    #[test]
    fn an_order_is_priced_from_the_cache() {
        let ctx = Context::test().event(&order(3)).build();
        ctx.cache_set("tea", 350u64.to_be_bytes()).unwrap();
        assert_eq!(ctx.deliver(pricing), Ok(()));
        let published = ctx.published();
        assert_eq!(published.len(), 1);
        assert_eq!(
            published[0].event::<OrderPriced>().unwrap(),
            OrderPriced { order_id: "o-1".into(), total_cents: 1050 }
        );
    }

    #[test]
    fn a_price_that_is_not_known_yet_is_worth_another_attempt() {
        let ctx = Context::test().event(&order(1)).build();
        assert!(matches!(ctx.deliver(pricing), Err(Failure::Retry { .. })));
        assert_eq!(ctx.published(), []);
    }

    #[test]
    fn what_cannot_be_priced_is_rejected() {
        let ctx = Context::test().event(&order(u64::MAX)).build();
        ctx.cache_set("tea", 350u64.to_be_bytes()).unwrap();
        assert!(matches!(ctx.deliver(pricing), Err(Failure::Reject(_))));

        let other = Message { type_: "OrderDropped".into(), ..Message::default() };
        let ctx = Context::test().message(other).build();
        assert!(matches!(ctx.deliver(pricing), Err(Failure::Reject(_))));
    }
}
