//! Tests of handlers of both versions of the contract.

use courier_core::message::Header;

use super::*;

/// The types of the second version of the contract, as a component imports them.
fn second() -> String {
    let absent = "(option (list u8))";
    FIRST
        .replace("@1.0.0", "@2.0.0")
        .replace(r#"(field "value" (list u8))"#, &format!(r#"(field "value" {absent})"#))
        .replace(r#"(field "body" (list u8))"#, &format!(r#"(field "body" {absent})"#))
        .replace(
            "(type $failure' ",
            r#"(type $unavailable' (record (field "reason" string) (field "after-ms" (option u64))))
               (export "unavailable" (type $unavailable (eq $unavailable')))
               (type $failure' "#,
        )
        .replace(r#"(case "unavailable" string)"#, r#"(case "unavailable" $unavailable)"#)
}

#[tokio::test]
async fn a_handler_of_the_second_version_says_how_long_what_it_needs_is_down() {
    let wait = "(i32.store8 (i32.const 1048) (i32.const 1)) (i64.store (i32.const 1056) (i64.const 60000))";
    for (body, after) in [(failing(3), None), (format!("{} {wait}", failing(3)), Some(Duration::from_secs(60)))] {
        let ended = run_component(handler_of(&second(), "", &body), policy(), &message()).await;
        check(&ended, Verdict::Unavailable, "no");
        assert_eq!(ended.after, after);
    }
}

/// Absent and empty could not be distinguished.
#[tokio::test]
async fn what_is_absent_is_told_apart_from_what_is_empty() {
    // Where the canonical ABI puts `body` (its discriminant at 64) and the list
    // of headers (its address at 76): each of these fails unless both are there.
    let wants_both = format!(
        "(if (i32.eqz (i32.load8_u offset=64 (local.get 0))) (then {}))
         (if (i32.eqz (i32.load8_u offset=8 (i32.load offset=76 (local.get 0)))) (then {}))",
        failing(2),
        failing(0)
    );
    let second = handler_of(&second(), "", &wants_both);
    let header = |value: Option<&'static [u8]>| Header { name: "h".into(), value: value.map(Bytes::from_static) };
    let message = Message { body: Bytes::new(), headers: vec![header(Some(b""))], ..message() };
    let bare = Message { headers: vec![header(None)], ..message.clone() };
    let tombstone = Message { is_tombstone: true, ..message.clone() };
    check(&run_component(second.clone(), policy(), &message).await, Verdict::Success, "");
    check(&run_component(second.clone(), policy(), &bare).await, Verdict::Error, "no");
    check(&run_component(second, policy(), &tombstone).await, Verdict::Reject, "no");
    // The first version has no word for it: an empty body, at 64 its address.
    let empty = "(if (i32.load offset=68 (local.get 0)) (then unreachable))";
    check(&run_component(handler(empty), policy(), &tombstone).await, Verdict::Success, "");
}

#[tokio::test]
async fn batches_of_the_second_version_run_too() {
    let engine = engine();
    let plugin = engine.prepare(batch_handler_of(&second(), OUTCOMES)).await.unwrap();
    let message = message();
    for ended in sandbox(&engine, policy()).run_batch(&plugin, &[call(&message), call(&message)]).await {
        check(&ended, Verdict::Success, "");
    }
}
