//! Tests of requests and answers.

use courier_sdk::{Attempt, Header, HttpRequest, testing::TestContext};
use serde_json::{Value, json};

use super::*;

const URL: &str = "https://stock.example/courier";
const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn message() -> Message {
    Message {
        id: "7f9c".into(),
        key: Some(b"o-1".to_vec()),
        source: "shop".into(),
        topic: "order".into(),
        type_: "OrderCreated".into(),
        time: 1_769_846_400_000_000,
        content_type: "application/json".into(),
        body: Some(br#"{"orderId": "o-1", "price": 1.10}"#.to_vec()),
        ..Message::default()
    }
}

fn context(message: Message) -> TestContext {
    let attempt = Attempt {
        group: "stock".into(),
        delivery: "12-345".into(),
        number: 3,
        max_attempts: 5,
        deadline: u64::MAX / 2,
        ..Context::test().build().attempt().clone()
    };
    Context::test().message(message).attempt(attempt).config("url", URL)
}

fn run(ctx: &Context) -> Result<(), Failure> {
    push(vec![Item { event: ctx.message().clone(), ctx: ctx.clone() }]).remove(0)
}

/// The request for a context's message, and its headers as text.
fn sent(ctx: &Context) -> (HttpRequest, Vec<(String, String)>) {
    assert_eq!(run(ctx), Ok(()));
    let request = ctx.requests().remove(0);
    let headers =
        request.headers.iter().map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned()));
    let headers = headers.collect();
    (request, headers)
}

fn value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut found = headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let first = found.next();
    assert_eq!(found.next(), None, "{name} is there once");
    first
}

fn answer(status: u16, content_type: &str, body: &str) -> HttpResponse {
    let headers = vec![("Content-Type".to_owned(), content_type.as_bytes().to_vec())];
    HttpResponse { status, headers, body: body.as_bytes().to_vec(), is_cut: false }
}

fn outcome(answer: Result<HttpResponse, HttpError>) -> Result<(), Failure> {
    run(&context(message()).http_answer("POST", URL, answer).build())
}

#[test]
fn a_message_is_a_cloudevent_in_binary_mode() {
    let (request, headers) = sent(&context(message()).http("POST", URL, 204, "").build());
    assert_eq!(request.body, message().body.unwrap());
    for (name, expected) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "7f9c"),
        ("ce-source", "shop"),
        ("ce-type", "OrderCreated"),
        ("ce-time", "2026-01-31T08:00:00.000000Z"),
        ("ce-partitionkey", "o-1"),
        ("content-type", "application/json"),
        ("courier-group", "stock"),
        ("courier-topic", "order"),
        ("courier-kind", "event"),
        ("courier-delivery", "12-345"),
        ("courier-attempt", "3"),
        ("idempotency-key", "12-345"),
    ] {
        assert_eq!(value(&headers, name), Some(expected), "{name}");
    }
    for absent in ["authorization", "webhook-signature", "courier-tombstone"] {
        assert_eq!(value(&headers, absent), None, "{absent}");
    }
}

#[test]
fn what_no_header_can_hold_is_encoded_or_left_out() {
    let foreign = Message {
        id: "order:0:7".into(),
        key: Some(vec![0xff, 0x00]),
        type_: "größe \"50%\"".into(),
        content_type: "text/plain\r\nx-evil: 1".into(),
        body: None,
        ..Message::default()
    };
    let (request, headers) = sent(&context(foreign).http("POST", URL, 200, "").build());
    assert_eq!(value(&headers, "ce-type"), Some("gr%C3%B6%C3%9Fe%20%2250%25%22"));
    assert_eq!(value(&headers, "ce-courierkeybase64"), Some("/wA="));
    assert_eq!((value(&headers, "ce-source"), value(&headers, "ce-partitionkey")), (Some("/"), None));
    assert_eq!((value(&headers, "content-type"), value(&headers, "courier-tombstone")), (None, Some("true")));
    assert!(request.body.is_empty());
}

#[test]
fn a_signed_message_is_one_document_under_the_signature() {
    let ctx = context(message()).secret("signing_key", KEY).secret("authorization", "Bearer x");
    let (request, headers) = sent(&ctx.http("POST", URL, 200, "").build());
    assert_eq!(
        String::from_utf8(request.body.clone()).unwrap(),
        r#"{"specversion":"1.0","id":"7f9c","source":"shop","type":"OrderCreated","time":"2026-01-31T08:00:00.000000Z","partitionkey":"o-1","couriergroup":"stock","couriertopic":"order","courierkind":"event","courierdelivery":"12-345","courierattempt":3,"datacontenttype":"application/json","data":{"orderId": "o-1", "price": 1.10}}"#
    );
    let seconds: u64 = value(&headers, "webhook-timestamp").unwrap().parse().unwrap();
    let expected = sign::signatures(&sign::Key::read_all(KEY).unwrap(), "12-345", seconds, &request.body);
    assert_eq!(value(&headers, "webhook-signature"), Some(expected.as_str()));
    assert_eq!(value(&headers, "webhook-id"), Some("12-345"));
    assert_eq!(value(&headers, "authorization"), Some("Bearer x"));
    assert_eq!(value(&headers, "content-type"), Some("application/cloudevents+json; charset=utf-8"));
}

#[test]
fn a_body_that_is_no_json_is_base64_in_a_document() {
    let document = |message: Message| {
        let ctx = context(message).config("mode", "structured").http("POST", URL, 200, "").build();
        serde_json::from_slice::<Value>(&sent(&ctx).0.body).unwrap()
    };
    for (content_type, body) in [("text/plain", "hello"), ("application/json", "{broken"), ("", "{}")] {
        let found = document(Message { content_type: content_type.into(), body: Some(body.into()), ..message() });
        let decoded =
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, found["data_base64"].as_str().unwrap());
        assert_eq!((decoded.unwrap().as_slice(), &found["data"]), (body.as_bytes(), &Value::Null), "{content_type}");
    }
    let tombstone = document(Message { body: None, ..message() });
    assert_eq!(tombstone["couriertombstone"], json!(true));
    assert!(tombstone.get("data").is_none() && tombstone.get("data_base64").is_none());
    assert_eq!(
        document(Message {
            content_type: "application/vnd.x+json; charset=utf-8".into(),
            body: Some(b"null".to_vec()),
            ..message()
        })["data"],
        Value::Null
    );
}

#[test]
fn record_headers_go_out_only_where_they_are_listed_and_never_some() {
    let header = |name: &str, value: &str| Header { name: name.into(), value: Some(value.as_bytes().to_vec()) };
    let never = [
        "Host",
        "content-length",
        "Content-Type",
        "authorization",
        "Cookie",
        "connection",
        "transfer-encoding",
        "te",
        "upgrade",
        "HTTP2-Settings",
        "ce-id",
        "webhook-id",
        "courier-delivery",
        "idempotency-key",
        "bad name",
        "x-forwarded-for",
    ];
    let mut headers = vec![
        header("X-Tenant", "7"),
        header("x-b3-spanid", "a"),
        header("x-other", "1"),
        header("ce_subject", "it"),
        header("ce_id", "forged"),
    ];
    headers.extend(never.map(|name| header(name, "forged")));
    headers.push(header("x-tenant-evil", "a\r\nx: b"));
    let ctx = context(Message { headers, ..message() })
        .config("forward_headers", r#"["x-tenant*", "X-B3-*", "host", "content-*", "authorization", "*"]"#)
        .config("headers", r#"{"x-other": "fixed", "x-number": 1}"#);
    let (_, sent) = sent(&ctx.http("POST", URL, 200, "").build());
    assert_eq!((value(&sent, "x-tenant"), value(&sent, "x-b3-spanid")), (Some("7"), Some("a")));
    assert_eq!((value(&sent, "x-other"), value(&sent, "x-number")), (Some("fixed"), Some("1")));
    assert_eq!((value(&sent, "ce-subject"), value(&sent, "ce-id")), (Some("it"), Some("7f9c")));
    assert!(sent.iter().all(|(name, value)| value != "forged" && !name.contains("evil")), "{sent:?}");
    let unlisted = context(Message { headers: vec![header("x-tenant", "7")], ..message() });
    assert_eq!(value(&self::sent(&unlisted.http("POST", URL, 200, "").build()).1, "x-tenant"), None);
}

#[test]
fn where_nothing_was_sent_the_service_is_away_and_afterwards_it_is_tried_again() {
    for (error, expected) in [
        (HttpError::Unreachable("connection refused".into()), Failure::unavailable("http connection refused")),
        (HttpError::Refused("refused: x".into()), Failure::unavailable("http refused: x")),
        (HttpError::Broken("no answer in time".into()), Failure::retry("http no answer in time")),
    ] {
        assert_eq!(outcome(Err(error)), Err(expected));
    }
}

#[test]
fn a_wrong_url_rejects_nothing_until_it_was_right() {
    let ctx = context(message()).http("POST", URL, 404, "").build();
    assert_eq!(run(&ctx), Err(Failure::unavailable("http 404")));
    let proven = context(message()).http("POST", URL, 200, "").build();
    assert_eq!(run(&proven), Ok(()));
    let known = proven.cache();
    let again = known.iter().fold(context(message()), |ctx, (key, value)| ctx.cache(key, value));
    assert_eq!(run(&again.http("POST", URL, 404, "").build()), Err(Failure::reject("http 404")));
    let other = known
        .iter()
        .fold(context(message()).config("verdicts", r#"{"418": "retry"}"#), |ctx, (key, value)| ctx.cache(key, value));
    let other = other.http("POST", URL, 404, "").build();
    assert_eq!(run(&other), Err(Failure::unavailable("http 404")), "another configuration is not proven");
}

#[test]
fn a_wait_that_is_asked_for_counts_up_to_five_minutes() {
    let busy = |after: &str| {
        let mut answer = answer(503, "text/plain", "");
        answer.headers.push(("Retry-After".into(), after.as_bytes().to_vec()));
        outcome(Ok(answer))
    };
    let minutes = |minutes: u64| Err(Failure::unavailable_for("http 503", Duration::from_secs(60 * minutes)));
    assert_eq!((busy("60"), busy("86400")), (minutes(1), minutes(5)));
    assert_eq!(
        (busy("Fri, 31 Dec 9999 23:59:59 GMT"), busy("Sun, 06 Nov 1994 08:49:37 GMT")),
        (minutes(5), minutes(0))
    );
    assert_eq!(busy("soon"), Err(Failure::unavailable("http 503")));
}

#[test]
fn a_problem_document_says_otherwise() {
    const PROBLEM: &str = "application/problem+json";
    for (status, media_type, body, expected) in [
        (500, PROBLEM, r#"{"verdict": "reject", "reason": "no such order"}"#, Err(Failure::reject("no such order"))),
        (
            422,
            PROBLEM,
            r#"{"verdict": "retry", "title": "locked", "after": "30s"}"#,
            Err(Failure::retry_after("locked", Duration::from_secs(30))),
        ),
        (409, "application/json; charset=utf-8", r#"{"verdict": "handled"}"#, Ok(())),
        (
            200,
            PROBLEM,
            r#"{"verdict": "unavailable", "detail": "closed", "after": 1.5}"#,
            Err(Failure::unavailable_for("closed", Duration::from_millis(1_500))),
        ),
        (400, PROBLEM, r#"{"verdict": "error", "reason": "x"}"#, Err(Failure::error("x"))),
        (400, PROBLEM, r#"{"detail": "bad order", "after": "soon"}"#, Err(Failure::reject("bad order"))),
        (400, PROBLEM, r#"{"verdict": "later"}"#, Err(Failure::reject(r#"http 400: {"verdict": "later"}"#))),
        // A service may have a field of that name in its results.
        (200, "application/json", r#"{"verdict": "reject"}"#, Ok(())),
        (500, "text/html", r#"{"verdict": "reject"}"#, Err(Failure::retry("http 500"))),
        (500, PROBLEM, "[]", Err(Failure::retry("http 500: []"))),
        (500, "text/plain", "out of\nmemory", Err(Failure::retry("http 500: out of memory"))),
    ] {
        assert_eq!(outcome(Ok(answer(status, media_type, body))), expected, "{status} {body}");
    }
}

#[test]
fn a_redirect_is_named() {
    let mut moved = answer(301, "", "");
    moved.headers.push(("Location".into(), b"http://169.254.169.254/".to_vec()));
    let expected = "http 301: it redirects to http://169.254.169.254/, which is not followed";
    assert_eq!(outcome(Ok(moved)), Err(Failure::unavailable(expected)));
}

#[test]
fn a_wrong_configuration_pauses_the_binding_and_says_what_would_be_right() {
    let no_url = Context::test().build();
    let mode = context(message()).config("mode", "json").build();
    let verdicts = context(message()).config("verdicts", r#"{"404": "ignore"}"#).build();
    let status = context(message()).config("verdicts", r#"{"nope": "retry"}"#).build();
    let headers = context(message()).config("headers", "x: y").build();
    let key = context(message()).secret("signing_key", "secret").build();
    for (ctx, expected) in [
        (no_url, "names no url"),
        (mode, "write \"binary\" or \"structured\""),
        (verdicts, "write handled, error, retry, reject or unavailable"),
        (status, "write a status or a class"),
        (headers, "headers is no table"),
        (key, "signing_key is no key"),
    ] {
        match run(&ctx) {
            Err(Failure::Unavailable { reason, .. }) => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

fn batch(answer: Result<HttpResponse, HttpError>, items: usize) -> (Vec<Result<(), Failure>>, Context) {
    let ctx = context(message()).config("courier.batch", "10").http_answer("POST", URL, answer).build();
    let items = (0..items).map(|_| Item { event: message(), ctx: ctx.clone() });
    (push(items.collect()), ctx)
}

#[test]
fn a_batch_is_an_array_and_has_a_result_for_each() {
    let results = r#"[{"verdict": "handled"}, {"verdict": "retry", "reason": "locked", "after": "1s"}, {}]"#;
    let (outcomes, ctx) = batch(Ok(answer(207, "application/json", results)), 3);
    let locked = Err(Failure::retry_after("locked", Duration::from_secs(1)));
    assert_eq!(outcomes, [Ok(()), locked, Ok(())]);
    let request = ctx.requests().remove(0);
    let events: Vec<Value> = serde_json::from_slice(&request.body).unwrap();
    assert_eq!((events.len(), &events[2]["courierdelivery"]), (3, &json!("12-345")));
    assert!(
        request
            .headers
            .contains(&("content-type".into(), b"application/cloudevents-batch+json; charset=utf-8".to_vec()))
    );
    assert!(request.headers.iter().all(|(name, _)| name != "courier-delivery"));
    assert_eq!(batch(Ok(answer(204, "", "")), 2).0, [Ok(()), Ok(())]);
    assert_eq!(batch(Ok(answer(200, "application/json", "{}")), 2).0, [Ok(()), Ok(())], "no list");
    let away = Err(Failure::unavailable("http 503"));
    assert_eq!(batch(Ok(answer(503, "", "")), 2).0, [away.clone(), away]);
    assert_eq!(batch(Ok(answer(400, "", "")), 1).0, [Err(Failure::reject("http 400"))]);
}

/// A panic makes the host run each item alone.
#[test]
#[should_panic(expected = "each message is sent alone")]
fn a_batch_that_fails_as_a_whole_is_taken_apart() {
    let _ = batch(Ok(answer(400, "", "")), 2);
}

/// A failure in the part that did not arrive would be lost otherwise.
#[test]
fn a_list_that_does_not_match_its_batch_handles_nothing() {
    let cut = HttpResponse { is_cut: true, ..answer(200, "application/json", r#"[{"verdict": "handled"}, {"verd"#) };
    let whole_but_cut = HttpResponse { is_cut: true, ..answer(200, "application/json", r#"[{"verdict": "handled"}]"#) };
    for (answer, why) in [
        (cut, "it was cut before its end"),
        (whole_but_cut, "it was cut before its end"),
        (answer(200, "application/json", "[]"), "it has 0 results for a batch of 1"),
        (answer(200, "application/json", "[{]"), "it is no JSON: key must be a string at line 1 column 3"),
    ] {
        let expected = Failure::retry(format!("http 200: the list of results: {why}"));
        assert_eq!(batch(Ok(answer.clone()), 1).0, [Err(expected)]);
        let several = std::panic::catch_unwind(|| batch(Ok(answer), 3));
        assert!(several.is_err(), "each message is sent alone: {why}");
    }
}

#[test]
fn a_batch_with_results_shows_that_the_url_is_right() {
    let (_, ctx) = batch(Ok(answer(200, "application/json", r#"[{"verdict": "retry"}]"#)), 1);
    let settings = Settings::read(&ctx).unwrap();
    assert!(matches!(standing(&settings, &ctx, 404), Standing::Proven));
}

#[test]
fn a_problem_document_that_was_cut_does_not_say_handled() {
    let cut = HttpResponse { is_cut: true, ..answer(200, "application/problem+json", r#"{"verdict": "rej"#) };
    assert_eq!(outcome(Ok(cut)), Err(Failure::retry("http 200: the problem document was cut before its end")));
    let json = HttpResponse { is_cut: true, ..answer(200, "application/json", r#"{"rows": ["#) };
    assert_eq!(outcome(Ok(json)), Ok(()), "other JSON of a success says nothing");
}
