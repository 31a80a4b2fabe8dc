//! Deliveries that have a bit in a handled set in place of a row.

use courier_core::message::{Offset, Timestamp};
use serde_json::json;

use super::testing::{HandledSet, Host, World};
use super::tests::world;
use crate::store::{HandledAt, PositionId};

/// The world of the other tests, in which group `stock` handled some offsets at
/// the first attempt and kept no row of them.
fn with_sets() -> World {
    let handled = HandledAt {
        node: Some("host-1".into()),
        version: Some("sha256:aa".into()),
        from: Timestamp(1_000_000),
        to: Timestamp(2_000_000),
    };
    let set = HandledSet { position: PositionId(1), offsets: [9, 20].map(Offset).into(), at: handled };
    World { handled: vec![set], ..world() }
}

#[tokio::test]
async fn a_message_sent_through_courier_is_told_by_its_id_and_its_place() {
    let host = Host::start(with_sets(), &[]).await;
    let (status, shown) = host.ask("GET", "/v1/messages/m-20", None).await;
    assert_eq!(status, 200);
    assert_eq!(shown["deliveries"].as_array().unwrap().len(), 1, "{shown}");
    let delivery = &shown["deliveries"][0];
    assert_eq!((&delivery["state"], &delivery["message_id"]), (&json!("HANDLED"), &json!("m-20")));
    assert_eq!(
        delivery["settled_within"],
        json!({ "from": "1970-01-01T00:00:01.000000Z", "to": "1970-01-01T00:00:02.000000Z" })
    );
    assert_eq!(delivery["not_recorded"], json!(["received_at", "log"]));
    let (status, alone) = host.ask("GET", "/v1/deliveries/1-20", None).await;
    assert_eq!((status, &alone["state"], &alone["type"]), (200, &json!("HANDLED"), &delivery["type"]));
    // Its record is gone from Kafka; that it was handled is known all the same.
    let (status, shown) = host.ask("GET", "/v1/messages/order:0:9", None).await;
    assert_eq!((status, &shown["deliveries"][0]["state"]), (200, &json!("HANDLED")), "{shown}");
    assert!(shown["body_missing"].as_str().unwrap().contains("no longer"), "{shown}");
    let (status, alone) = host.ask("GET", "/v1/deliveries/1-9", None).await;
    assert_eq!((status, &alone["message_id"]), (200, &json!("order:0:9")));
    // A row counts before a set.
    let (_, row) = host.ask("GET", "/v1/deliveries/1-5", None).await;
    assert_eq!(row.get("settled_within"), None, "{row}");
}

#[tokio::test]
async fn an_id_of_which_nothing_is_recorded_is_no_404() {
    let host = Host::start(with_sets(), &[]).await;
    let (status, answer) = host.ask("GET", "/v1/messages/nobody-knows", None).await;
    assert_eq!((status, &answer["state"], &answer["groups"]), (200, &json!("NOT_RECORDED"), &json!(["stock"])));
    assert!(answer["reason"].as_str().unwrap().starts_with("not recorded"), "{answer}");
    // Where every group keeps its rows, it is unknown.
    let host = Host::start(world(), &[]).await;
    assert_eq!(host.ask("GET", "/v1/messages/nobody-knows", None).await.0, 404);
}

#[tokio::test]
async fn a_list_says_what_it_cannot_list() {
    let host = Host::start(with_sets(), &[]).await;
    for (query, groups) in [
        ("", Some(json!(["stock"]))),
        ("?group=stock&state=HANDLED", Some(json!(["stock"]))),
        ("?key=k", Some(json!(["stock"]))),
        ("?group=other", None),
        ("?state=HANDLE_FAIL", None),
        ("?group=stock&fingerprint=f", None),
    ] {
        let (status, list) = host.ask("GET", &format!("/v1/deliveries{query}"), None).await;
        assert_eq!((status, list["not_recorded"].get("groups").cloned()), (200, groups), "{query}: {list}");
    }
}
