use super::*;

fn header(name: &str, value: &str) -> Header {
    Header { name: name.to_owned(), value: Some(Bytes::copy_from_slice(value.as_bytes())) }
}

fn record(value: &str, headers: Vec<Header>) -> Record {
    Record {
        timestamp: Timestamp(1_000_000),
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers,
        left_out: None,
    }
}

fn message() -> Message {
    Message {
        id: "order-1".to_owned(),
        key: Some(Bytes::from_static(b"1")),
        source: "shop".to_owned(),
        topic: "order".to_owned(),
        type_name: "OrderCreated".to_owned(),
        kind: Kind::Broadcast,
        time: Timestamp(1_700_000_000_123_456),
        content_type: "application/json".to_owned(),
        body: Bytes::from_static(b"{ \"a\" : 1.0 }"),
        headers: vec![header("traceparent", "00-1-2-01"), header("x", "1"), header("x", "2")],
        hops: 2,
        ..Message::default()
    }
}

#[test]
fn a_message_survives_its_record() {
    let message = message();
    assert_eq!(Record::from_message(&message).to_message("order", 0, Offset(5)), message);
}

#[test]
fn an_unknown_source_is_a_valid_event_and_stays_unknown() {
    let message = Message { source: String::new(), ..message() };
    let record = Record::from_message(&message);
    assert!(record.headers.contains(&header("ce_source", "/")));
    assert_eq!(record.to_message("order", 0, Offset(5)).source, "");
}

#[test]
fn headers_of_the_sender_cannot_contradict_the_message() {
    let message =
        Message { headers: vec![header("CE_ID", "other"), header("content-type", "text/plain")], ..message() };
    let back = Record::from_message(&message).to_message("order", 0, Offset(5));
    assert_eq!((back.id.as_str(), back.content_type.as_str(), back.headers.len()), ("order-1", "application/json", 0));
}

#[test]
fn a_foreign_record_is_known_by_its_place() {
    let message = record("hello", vec![header("a", "b")]).to_message("log", 3, Offset(42));
    assert_eq!(message.id, "log:3:42");
    assert_eq!(message.time, Timestamp(1_000_000));
    assert_eq!((message.type_name.as_str(), message.headers.len()), ("", 1));
}

#[test]
fn header_names_may_be_of_any_case() {
    let headers = vec![header("Ce_Id", "7"), header("CE_TYPE", "T"), header("Content-Type", "text/plain")];
    let message = record("x", headers).to_message("log", 0, Offset(0));
    assert_eq!((message.id.as_str(), message.type_name.as_str()), ("7", "T"));
    assert_eq!(message.content_type, "text/plain");
    assert!(message.headers.is_empty());
}

#[test]
fn attributes_that_say_nothing_stay_headers() {
    let headers = vec![
        header("ce_id", ""),
        header("ce_time", "yesterday"),
        Header { name: "ce_type".to_owned(), value: Some(Bytes::from_static(&[0xff])) },
        Header { name: "ce_source".to_owned(), value: None },
        header("ce_subject", "kept"),
    ];
    let message = record("x", headers.clone()).to_message("log", 0, Offset(9));
    assert_eq!(message.headers, headers);
    assert_eq!(message.id, "log:0:9");
    let long = "i".repeat(MAX_FOREIGN_ID_BYTES + 1);
    assert_eq!(record("x", vec![header("ce_id", &long)]).to_message("log", 0, Offset(9)).id, "log:0:9");
}

#[test]
fn a_tombstone_is_told_from_an_empty_body() {
    let tombstone = Record { value: None, ..record("", vec![header("ce_id", "1")]) };
    let message = tombstone.to_message("log", 0, Offset(0));
    assert!(message.body.is_empty() && message.is_tombstone);
    assert_eq!(Record::from_message(&message).value, None, "and stays one when it is sent again");
    let empty = record("", vec![]).to_message("log", 0, Offset(0));
    assert!(empty.body.is_empty() && !empty.is_tombstone);
    assert_eq!(Record::from_message(&empty).value.as_deref(), Some(&b""[..]));
}

#[test]
fn the_count_of_hops_is_read_as_it_is_and_shown_to_no_handler() {
    let message = record("x", vec![header("Courier_Hops", "31"), header("a", "b")]).to_message("log", 0, Offset(0));
    assert_eq!((message.hops, message.headers.as_slice()), (31, &[header("a", "b")][..]));
    for wrong in ["", "-1", "many", "99999999999"] {
        let message = record("x", vec![header("courier_hops", wrong)]).to_message("log", 0, Offset(0));
        assert_eq!((message.hops, message.headers.len()), (0, 1), "{wrong:?} counts nothing");
    }
    let plain = Record::from_message(&Message { hops: 0, ..message });
    assert!(!plain.headers.iter().any(|header| is_hops(&header.name)), "what a sender published has no hops");
}

/// A partition key without a record key was shown as the key and did not order.
#[test]
fn a_partition_key_without_a_record_key_is_the_key_everywhere() {
    let document = |member: &str| format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t"{member}}}"#);
    let inner = document(r#","partitionkey":"inner""#);
    let typed = || header("content-type", "application/cloudevents+json");
    let raw = |value: &str, headers| Record { key: Some(Bytes::from_static(b"raw")), ..record(value, headers) };
    for (record, key) in [
        (record("x", vec![]), None),
        (record("x", vec![header("ce_partitionkey", "a")]), Some("a")),
        (record("x", vec![header("ce_partitionkey", "a"), header("CE_PartitionKey", "b")]), Some("b")),
        (raw("x", vec![header("ce_partitionkey", "a")]), Some("raw")),
        (record(&inner, vec![typed()]), Some("inner")),
        (record(&inner, vec![typed(), header("ce_partitionkey", "outer")]), Some("inner")),
        (record(&document(""), vec![typed(), header("ce_partitionkey", "outer")]), Some("outer")),
        (record(&inner, vec![]), None),
        (record("broken", vec![typed(), header("ce_partitionkey", "outer")]), Some("outer")),
    ] {
        let key = key.map(|key| Bytes::copy_from_slice(key.as_bytes()));
        assert_eq!(record.to_message("log", 0, Offset(0)).key, key, "shown: {record:?}");
        assert_eq!(record.lane_key(), key, "ordered: {record:?}");
    }
}

/// `key` is an extension as any other; the key is `partitionkey`.
#[test]
fn an_attribute_named_key_is_an_extension() {
    let document = r#"{"specversion":"1.0","id":"1","source":"s","type":"t","key":"k"}"#;
    let message = record(document, vec![header("content-type", STRUCTURED)]).to_message("log", 0, Offset(0));
    assert_eq!((message.key, message.headers.as_slice()), (None, &[header("ce_key", "k")][..]));
}

#[test]
fn a_structured_event_is_taken_apart() {
    let document = r#" { "specversion" : "1.0", "id":"e1","source":"/shop","type":"T","time":"2024-01-02T03:04:05.5Z",
        "partitionkey":"k", "traceparent":"00-aa", "tenant": 7, "gone": null,
        "data" : {"b": 1.10, "a":[ 1,2 ]} } "#;
    let message = record(document, vec![header("content-type", "application/CloudEvents+json; charset=UTF-8")])
        .to_message("log", 0, Offset(0));
    assert_eq!((message.id.as_str(), message.source.as_str(), message.type_name.as_str()), ("e1", "/shop", "T"));
    assert_eq!(message.time, Timestamp(1_704_164_645_500_000));
    assert_eq!(message.body, r#"{"b": 1.10, "a":[ 1,2 ]}"#);
    assert_eq!(message.content_type, "application/json");
    assert_eq!(message.key.as_deref(), Some(b"k".as_slice()));
    assert_eq!(message.headers, vec![header("traceparent", "00-aa"), header("ce_tenant", "7")]);
}

#[test]
fn structured_data_may_be_text_or_binary() {
    for (data, body, content_type) in [
        (r#""datacontenttype":"text/plain","data":"h\u00e9""#, "hé", "text/plain"),
        (r#""data":"text""#, "\"text\"", "application/json"),
        (r#""data_base64":"aGk=""#, "hi", ""),
        (r#""data":null"#, "null", "application/json"),
        (r#""datacontenttype":"application/x+json","data":true"#, "true", "application/x+json"),
    ] {
        let document = format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t",{data}}}"#);
        let message = record(&document, vec![header("content-type", STRUCTURED)]).to_message("log", 0, Offset(0));
        assert_eq!((message.body.as_ref(), message.content_type.as_str()), (body.as_bytes(), content_type));
    }
}

#[test]
fn a_malformed_event_is_delivered_as_it_is() {
    for document in [
        "",
        "{",
        "{}",
        "[]",
        "{\"id\"}",
        r#"{"specversion":"1.0","id":"1","type":"t","data":1"#,
        r#"{"specversion":"1.0","id":"1","type":"t"} trailing"#,
        r#"{"specversion":"1.0","id":7,"type":"t"}"#,
        r#"{"specversion":"1.0","id":"1","type":"t","data_base64":"?"}"#,
        r#"{"specversion":"9","id":"1","type":"t"}"#,
    ] {
        let message = record(document, vec![header("content-type", STRUCTURED)]).to_message("log", 1, Offset(2));
        assert_eq!((message.id.as_str(), message.body.as_ref()), ("log:1:2", document.as_bytes()));
        assert_eq!(message.content_type, STRUCTURED);
    }
}
