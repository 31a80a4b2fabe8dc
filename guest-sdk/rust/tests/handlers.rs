//! The SDK as its users see it: events, handlers and batch handlers, run
//! without a host.

use std::time::Duration;

use courier_sdk::{
    Context, Event, Failure, HttpError, HttpResponse, Item, Kind, Level, Message, Refusal, batch_handler, handler,
    testing,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
#[event(topic = "order")]
struct OrderCreated {
    #[primary_key]
    order_id: String,
    quantity: u32,
}

#[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
#[event(topic = "stock", type = "stock.reserved")]
struct StockReserved {
    #[primary_key]
    shelf: Option<u64>,
    order_id: String,
}

#[derive(Event, Serialize)]
#[event(topic = "tick")]
struct Tick;

fn order(order_id: &str, quantity: u32) -> OrderCreated {
    OrderCreated { order_id: order_id.into(), quantity }
}

#[handler(group = "stock", publishes = ["stock"])]
fn reserve(order: OrderCreated, ctx: &Context) -> Result<(), Failure> {
    match order.quantity {
        0 => return Err(Failure::reject("nothing to reserve")),
        quantity if quantity > 100 => {
            return Err(Failure::retry_after("not enough on the shelf", Duration::from_secs(3)));
        }
        _ => {}
    }
    ctx.state_set(&order.order_id, order.quantity.to_string())?;
    ctx.publish(&StockReserved { shelf: Some(7), order_id: order.order_id })?;
    ctx.info("reserved");
    Ok(())
}

mod raw {
    use super::*;

    #[handler(group = "audit", topics = ["order", "stock"])]
    fn audit(message: Message, ctx: &Context) -> Result<(), String> {
        ctx.log(Level::Debug, format_args!("{} {}", message.topic, ctx.attempt().number));
        match message.kind {
            Kind::Event => Ok(()),
            Kind::Broadcast => Err("broadcasts are not audited".into()),
        }
    }

    #[test]
    fn takes_the_message_and_any_failure() {
        let ctx = Context::test().message(Message { topic: "order".into(), ..Message::default() }).build();
        assert_eq!(ctx.deliver(audit), Ok(()));
        assert_eq!(ctx.logs()[0].text, "order 1");

        let ctx = Context::test().message(Message { kind: Kind::Broadcast, ..Message::default() }).build();
        assert_eq!(ctx.deliver(audit), Err(Failure::error("broadcasts are not audited")));
    }
}

mod without_context {
    use super::*;

    #[handler(group = "quiet")]
    fn quiet(_: OrderCreated) -> Result<(), Failure> {
        Ok(())
    }

    #[test]
    fn needs_none() {
        assert_eq!(quiet(order("o-1", 1)), Ok(()));
    }
}

mod batch {
    use super::*;

    #[batch_handler(group = "bulk")]
    fn count(items: Vec<Item<OrderCreated>>) -> Vec<Result<(), Failure>> {
        items
            .into_iter()
            .map(|Item { event, ctx }| {
                ctx.state_set(&event.order_id, b"seen")?;
                if event.quantity == 0 { Err("nothing".into()) } else { Ok(()) }
            })
            .collect()
    }

    #[test]
    fn gives_each_item_effects_of_its_own() {
        let items = vec![Item::test(order("o-1", 1)), Item::test(order("o-2", 0))];
        let contexts: Vec<Context> = items.iter().map(|item| item.ctx.clone()).collect();
        assert_eq!(count(items), [Ok(()), Err(Failure::error("nothing"))]);
        assert_eq!(contexts[0].state().keys().collect::<Vec<_>>(), ["o-1"]);
        assert_eq!(contexts[1].state().keys().collect::<Vec<_>>(), ["o-2"]);
    }

    #[test]
    fn rejects_a_body_that_does_not_parse_by_itself() {
        let contexts = [
            Context::test().event(&order("o-1", 0)).build(),
            Context::test().body("not json").build(),
            Context::test().event(&order("o-3", 1)).build(),
        ];
        let outcomes = testing::deliver_batch(&contexts, count);
        assert_eq!(outcomes[0], Err(Failure::error("nothing")));
        assert!(matches!(&outcomes[1], Err(Failure::Reject(reason)) if reason.contains("OrderCreated")));
        assert_eq!(outcomes[2], Ok(()));
    }

    #[test]
    #[should_panic(expected = "one outcome for each item")]
    fn must_not_lose_count() {
        let contexts = [Context::test().event(&order("o-1", 1)).build()];
        testing::deliver_batch(&contexts, |_: Vec<Item<OrderCreated>>| Vec::<Result<(), Failure>>::new());
    }
}

#[test]
fn events_know_their_topic_type_and_key() {
    assert_eq!((OrderCreated::TOPIC, OrderCreated::TYPE), ("order", "OrderCreated"));
    assert_eq!((StockReserved::TOPIC, StockReserved::TYPE), ("stock", "stock.reserved"));
    assert_eq!(order("o-1", 1).key(), Some(b"o-1".to_vec()));
    assert_eq!(StockReserved { shelf: Some(7), order_id: "o-1".into() }.key(), Some(b"7".to_vec()));
    assert_eq!(StockReserved { shelf: None, order_id: "o-1".into() }.key(), None);
    assert_eq!(Tick.key(), None);
}

#[test]
fn effects_are_recorded() {
    let ctx = Context::test().build();
    assert_eq!(reserve(order("o-1", 3), &ctx), Ok(()));

    let published = ctx.published();
    assert_eq!(published.len(), 1);
    assert_eq!(published[0].topic, "stock");
    assert_eq!(published[0].content_type, "application/json");
    assert_eq!(published[0].key, Some(b"7".to_vec()));
    assert_eq!(
        published[0].event::<StockReserved>().unwrap(),
        StockReserved { shelf: Some(7), order_id: "o-1".into() }
    );
    assert_eq!(ctx.state()["o-1"], b"3");
    assert_eq!(ctx.logs(), [testing::Line { level: Level::Info, text: "reserved".into() }]);
}

#[test]
fn failures_say_what_follows() {
    let ctx = Context::test().build();
    assert_eq!(reserve(order("o-1", 0), &ctx), Err(Failure::reject("nothing to reserve")));
    assert!(matches!(
        reserve(order("o-1", 200), &ctx),
        Err(Failure::Retry { after: Some(after), .. }) if after == Duration::from_secs(3)
    ));
}

#[test]
fn a_body_that_does_not_parse_is_rejected() {
    let ctx = Context::test().body(r#"{"order_id": 5}"#).build();
    let failure = ctx.deliver(reserve).unwrap_err();
    assert!(matches!(failure, Failure::Reject(_)));
    assert!(failure.reason().starts_with("body is not a valid OrderCreated: invalid type"), "{failure}");
}

mod tombstones {
    use super::*;

    #[handler(group = "prices", publishes = ["order"])]
    fn forget(order: Option<OrderCreated>, ctx: &Context) -> Result<(), Failure> {
        match order {
            Some(order) => ctx.state_set(&order.order_id, b"there")?,
            None => {
                let key = ctx.message().key.clone();
                ctx.publish_tombstone::<OrderCreated>(&key)?;
            }
        }
        Ok(())
    }

    #[test]
    fn are_none_to_who_asks_for_them_and_rejected_by_others() {
        let ctx = Context::test().event(&order("o-1", 1)).tombstone().build();
        assert_eq!(ctx.deliver(forget), Ok(()));
        let published = &ctx.published()[0];
        assert_eq!((published.topic.as_str(), published.key.as_deref()), ("order", Some(&b"o-1"[..])));
        assert_eq!(published.body, None);
        let failure = ctx.deliver(reserve).unwrap_err();
        assert!(failure.reason().starts_with("the message is a tombstone"), "{failure}");

        let ctx = Context::test().event(&order("o-1", 1)).build();
        assert_eq!(ctx.deliver(forget), Ok(()));
        assert_eq!(ctx.state()["o-1"], b"there");

        let keyless = Context::test().tombstone().build();
        assert_eq!(
            keyless.deliver(forget),
            Err(Failure::error("invalid: a tombstone (a message without a body) needs a key"))
        );
        assert!(
            matches!(Context::test().body("").build().deliver(forget), Err(Failure::Reject(_))),
            "empty is not none"
        );
    }
}

#[test]
fn a_failure_can_say_how_long_what_it_needs_is_down() {
    let minute = Duration::from_secs(60);
    let failure = Failure::unavailable_for("away", minute);
    assert_eq!(failure.reason(), "away");
    assert_eq!(failure, Failure::Unavailable { reason: "away".into(), after: Some(minute) });
    assert_eq!(Failure::unavailable("away"), Failure::Unavailable { reason: "away".into(), after: None });
}

#[test]
fn what_is_not_granted_is_refused() {
    let refused = |ctx: Context| reserve(order("o-1", 1), &ctx).unwrap_err();
    let failure = refused(Context::test().deny_publish().build());
    assert_eq!(failure, Failure::error("denied: add `publish = [\"stock\"]` to [binding.grant]"));
    let failure = refused(Context::test().deny_state().build());
    assert_eq!(failure, Failure::error("denied: add `state = true` to [binding.grant]"));

    let ctx = Context::test().deny_cache().grant_publish(["stock"]).build();
    assert!(matches!(ctx.cache_set("a", "b"), Err(Refusal::Denied(_))));
    assert_eq!(reserve(order("o-1", 1), &ctx), Ok(()));
}

#[test]
fn a_test_sets_the_scene() {
    let ctx = Context::test()
        .event(&order("o-1", 1))
        .attempt_number(3)
        .config("currency", "EUR")
        .secret("token", "s3cret")
        .state("seen", "yes")
        .cache("rate", "1.1")
        .build();
    assert_eq!(ctx.message().type_, "OrderCreated");
    assert_eq!((ctx.attempt().number, ctx.attempt().counted), (3, 2));
    assert!(ctx.attempt().time_left() > Duration::from_secs(1));
    assert_eq!(ctx.config("currency").as_deref(), Some("EUR"));
    assert_eq!((ctx.config("token"), ctx.secret("token").as_deref()), (None, Some("s3cret")));
    assert_eq!(ctx.state_get("seen"), Ok(Some(b"yes".to_vec())));
    assert_eq!(ctx.cache_get("rate"), Ok(Some(b"1.1".to_vec())));
    ctx.state_delete("seen").unwrap();
    assert_eq!(ctx.state_get("seen"), Ok(None));
}

mod over_http {
    use super::*;

    #[handler(group = "quotes")]
    fn quote(order: OrderCreated, ctx: &Context) -> Result<(), Failure> {
        let answer = ctx
            .http()
            .post("https://prices.example:443/quote")
            .idempotent()
            .json(&order)?
            .send()?
            .error_for_status()?;
        ctx.info(answer.json::<String>()?);
        Ok(())
    }

    const URL: &str = "https://prices.example:443/quote";

    #[test]
    fn a_test_answers_from_a_table() {
        let ctx = Context::test().http("POST", URL, 200, r#""cheap""#).build();
        assert_eq!(quote(order("o-1", 1), &ctx), Ok(()));
        assert_eq!(ctx.logs()[0].text, "cheap");
        let request = &ctx.requests()[0];
        assert_eq!(request.body, br#"{"order_id":"o-1","quantity":1}"#);
        assert!(request.headers.contains(&("idempotency-key".into(), b"test-delivery".to_vec())));
        let failure = quote(order("o-1", 1), &Context::test().build()).unwrap_err();
        assert!(failure.reason().contains("no answer for POST https://prices.example"), "{failure}");
    }

    #[test]
    fn what_went_wrong_says_what_follows() {
        let minute = Duration::from_secs(60);
        let busy = HttpResponse {
            status: 503,
            headers: vec![("Retry-After".into(), b"60".to_vec())],
            ..HttpResponse::default()
        };
        let status = |status| Ok(HttpResponse { status, ..HttpResponse::default() });
        for (answer, expected) in [
            (Ok(busy), Failure::unavailable_for("http 503", minute)),
            (status(429), Failure::unavailable("http 429")),
            (status(500), Failure::retry("http 500")),
            (status(404), Failure::reject("http 404")),
            (Err(HttpError::Unreachable("connection refused".into())), Failure::unavailable("http connection refused")),
            (Err(HttpError::Broken("no answer in time".into())), Failure::retry("http no answer in time")),
            (Err(HttpError::Refused("refused".into())), Failure::error("http refused")),
        ] {
            let ctx = Context::test().http_answer("POST", URL, answer).build();
            assert_eq!(quote(order("o-1", 1), &ctx), Err(expected));
        }
    }
}
