//! Tests of which requests are made, and how they look on the wire.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, timeout};

use super::*;
use crate::engine::limits::{
    HTTP_PIECE_BYTES, MAX_HTTP_BODIES_BYTES, MAX_HTTP_REQUEST_BYTES, MAX_HTTP_RESPONSE_BYTES, MAX_HTTP_WHOLE_BYTES,
};

fn out(allow: &[(&str, u16)], private: bool) -> HttpOut {
    let allow = allow.iter().map(|(host, port)| Destination { host: (*host).to_owned(), port: *port });
    HttpOut::new(HttpRules { allow: allow.collect(), private, ..HttpRules::default() })
}

#[test]
fn only_what_the_list_names_goes_out() {
    let out = out(&[("api.example.com", 443), ("*.internal", 8080), ("10.0.0.5", 80), ("2606:4700::1111", 443)], false);
    let admit = |url: &str| HttpOut::admit(Some(&out), "stock", url);
    for good in [
        "https://api.example.com/v1?x=1",
        "https://API.example.com:443/",
        "http://a.internal:8080/",
        "http://a.b.internal:8080/",
        "http://10.0.0.5/",
        // Other spellings of the same address.
        "http://0x0a000005/",
        "http://10.5/",
        "https://[2606:4700:0:0::1111]/",
    ] {
        assert!(admit(good).is_ok(), "{good}: {:?}", admit(good));
    }
    for bad in [
        "http://api.example.com/",
        "https://api.example.com:8443/",
        "https://api.example.com.evil.example/",
        "https://api.example.com@evil.example/",
        "https://user:secret@api.example.com/",
        "https://xapi.example.com/",
        "https://api.example.com./",
        "http://internal:8080/",
        "http://.internal:8080/",
        "http://evilinternal:8080/",
        "http://10.0.0.6/",
        "http://0177.0.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://localhost:8080/",
        "http://[::1]:8080/",
        "http://[::ffff:10.0.0.5]/",
        "https://аpi.example.com/",
        "file:///etc/passwd",
        "not a url",
    ] {
        assert!(admit(bad).is_err(), "{bad}");
    }
    let why = admit("https://other.example:8443/").unwrap_err();
    assert!(why.contains("add \"other.example:8443\" to allow in [binding.http]"), "{why}");
    let why = HttpOut::admit(None, "stock", "https://api.example.com/").unwrap_err();
    assert!(why.contains("binding of group stock does not allow HTTP"), "{why}");
}

#[test]
fn private_addresses_need_a_word_and_others_are_reached_by_no_name() {
    let through = |out: &HttpOut, address: &str| {
        Resolver::of(&out.rules).lets_through("api.example.com", address.parse().unwrap())
    };
    let closed = out(&[("api.example.com", 443)], false);
    let open = out(&[("api.example.com", 443)], true);
    let named = out(&[("169.254.169.254", 80), ("10.0.0.1", 80)], false);
    assert!(through(&closed, "93.184.216.34") && !through(&closed, "10.0.0.1"));
    assert!(through(&open, "10.0.0.1") && through(&open, "127.0.0.1"));
    assert!(!through(&open, "169.254.169.254") && !through(&open, "::"));
    assert!(!through(&named, "169.254.169.254") && !through(&named, "10.0.0.1"));
}

#[tokio::test]
async fn a_name_of_this_machine_is_resolved_and_refused() {
    let out = out(&[("localhost", 9)], false);
    let url = HttpOut::admit(Some(&out), "stock", "http://localhost:9/").unwrap();
    let Err(Error::InternalError(Some(why))) = out.send(url, request(""), None).await else {
        panic!("it was connected to")
    };
    assert!(why.contains("localhost has no address that may be connected to") && why.contains("private = true"));
}

fn request(body: &str) -> Request<WasiBody> {
    let body = http_body_util::Full::new(Bytes::copy_from_slice(body.as_bytes()));
    Request::new(body.map_err(|never| match never {}).boxed_unsync())
}

/// A server that answers one connection with these bytes and returns its request.
async fn server(answer: Vec<u8>) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut got = Vec::new();
        while !got.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut got).await.unwrap() == 0 {
                break;
            }
        }
        stream.write_all(&answer).await.ok();
        String::from_utf8_lossy(&got).to_lowercase()
    });
    (port, served)
}

async fn ask(answer: &[u8], ask: Request<WasiBody>) -> (Result<Response<WasiBody>, Error>, u16, String) {
    let (port, served) = server(answer.to_vec()).await;
    let out = out(&[("127.0.0.1", port)], false);
    let url = HttpOut::admit(Some(&out), "stock", &format!("http://127.0.0.1:{port}/x?y=1")).unwrap();
    let answer = out.send(url, ask, None).await;
    (answer, port, served.await.unwrap())
}

/// wasmtime-wasi-http 48.0.0 sent no `Host` header.
#[tokio::test]
async fn a_request_carries_the_host_that_was_judged_and_no_other() {
    let mut forged = request("");
    forged.headers_mut().insert(HOST, "evil.example".parse().unwrap());
    forged.headers_mut().insert("x-one", "1".parse().unwrap());
    let (answer, port, got) = ask(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", forged).await;
    let body = answer.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "hi");
    assert!(got.starts_with("get /x?y=1 http/1.1\r\n"), "{got}");
    assert!(got.contains(&format!("\r\nhost: 127.0.0.1:{port}\r\n")) && !got.contains("evil"), "{got}");
    assert!(got.contains("\r\nx-one: 1\r\n"), "{got}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let to = b"HTTP/1.1 301 Moved\r\nlocation: http://169.254.169.254/latest\r\ncontent-length: 0\r\n\r\n";
    let (answer, ..) = ask(to, request("")).await;
    assert_eq!(answer.unwrap().status(), 301);
}

#[tokio::test]
async fn bodies_are_bounded_both_ways() {
    let mut large = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    large.resize(MAX_HTTP_RESPONSE_BYTES + 1_000, b'x');
    // The test does not await the server, since nobody reads its answer to the end.
    let (port, _served) = server(large).await;
    let to_large = out(&[("127.0.0.1", port)], false);
    let url = HttpOut::admit(Some(&to_large), "stock", &format!("http://127.0.0.1:{port}/")).unwrap();
    let ended = to_large.send(url, request(""), None).await.unwrap().into_body().collect().await;
    assert!(matches!(ended, Err(Error::HttpResponseBodySize(_))), "{ended:?}");
}

/// Whether a request is as long as its head announces.
fn is_whole(got: &[u8]) -> bool {
    let Some(end) = got.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&got[..end]).to_ascii_lowercase();
    match head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()) {
        Some(length) => got.len() >= end + 4 + length.parse::<usize>().unwrap(),
        None => got.ends_with(b"0\r\n\r\n"),
    }
}

/// A server that reads everything that one connection sends.
async fn reader() -> (u16, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let read = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut got = Vec::new();
        loop {
            let read = stream.read_buf(&mut got).await.unwrap_or(0);
            if read == 0 || is_whole(&got) {
                break;
            }
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.ok();
        got
    });
    (port, read)
}

#[tokio::test]
async fn a_long_body_is_passed_on_and_one_that_is_too_long_is_refused() {
    for (bytes, fits) in [(MAX_HTTP_WHOLE_BYTES + 1, true), (MAX_HTTP_REQUEST_BYTES + 1, false)] {
        let (port, read) = reader().await;
        let out = out(&[("127.0.0.1", port)], false);
        let url = HttpOut::admit(Some(&out), "stock", &format!("http://127.0.0.1:{port}/")).unwrap();
        let sent = out.send(url, request(&"x".repeat(bytes)), None).await.map(|answer| answer.status().as_u16());
        drop(out);
        let got = read.await.unwrap();
        match sent {
            Ok(204) => assert!(fits && got.len() > bytes),
            Err(Error::HttpRequestBodySize(_)) => assert!(!fits),
            other => panic!("{bytes}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_went_wrong_is_told_apart() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let out = out(&[("127.0.0.1", closed), ("no-such-name.invalid", 80)], false);
    let send = async |url: String| {
        let url = HttpOut::admit(Some(&out), "stock", &url).unwrap();
        out.send(url, request(""), None).await.map(drop).unwrap_err()
    };
    let refused = send(format!("http://127.0.0.1:{closed}/")).await;
    assert!(matches!(refused, Error::ConnectionRefused), "{refused:?}");
    let unknown = send("http://no-such-name.invalid/".to_owned()).await;
    assert!(matches!(unknown, Error::DnsError { .. }), "{unknown:?}");
    for broken in [&b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhi"[..], b"", b"no http at all\r\n\r\n"] {
        let (answer, ..) = ask(broken, request("")).await;
        let ended = match answer {
            Ok(response) => response.into_body().collect().await.map(drop).unwrap_err(),
            Err(error) => error,
        };
        assert!(
            matches!(ended, Error::HttpResponseIncomplete | Error::ConnectionTerminated | Error::HttpProtocolError),
            "{ended:?}"
        );
    }
}

/// A handler with a hundred long bodies open took as much of the host's memory as it liked.
#[tokio::test]
async fn bodies_in_the_hosts_memory_are_bounded() {
    let memory = HttpBodyMemory::new(1);
    let body = |bytes: usize| request(&"x".repeat(bytes)).into_body();
    let (soon, far) = (Duration::from_millis(50), Duration::from_secs(3_600));
    let mut held = Vec::new();
    for _ in 0..MAX_HTTP_BODIES_BYTES / MAX_HTTP_WHOLE_BYTES {
        held.push(take(body(MAX_HTTP_WHOLE_BYTES), None, &memory, far).await.unwrap());
    }
    let more = take(body(HTTP_PIECE_BYTES + 1), None, &memory, soon).await.map(drop);
    assert!(matches!(more, Err(Error::ConnectionLimitReached)), "{more:?}");
    // Short bodies, and long ones that are passed on with their length, need no room.
    let short = take(body(HTTP_PIECE_BYTES), None, &memory, soon).await.unwrap();
    assert!(short.reserved.is_none() && matches!(short.body, RequestBody::Whole(_)));
    let long = take(body(HTTP_PIECE_BYTES + 1), Some(MAX_HTTP_WHOLE_BYTES + 1), &memory, soon).await.unwrap();
    assert!(long.reserved.is_none() && matches!(long.body, RequestBody::Passed(_)));
    // Who waits gets the room of the first that has its answer.
    let waits = take(body(HTTP_PIECE_BYTES + 1), None, &memory, far);
    let (waited, ()) = tokio::join!(waits, async { drop(held.pop()) });
    assert!(matches!(waited.unwrap().body, RequestBody::Whole(_)));
    drop(held);
    let free = take(body(MAX_HTTP_WHOLE_BYTES + 1), None, &memory, soon).await.unwrap();
    assert!(free.reserved.is_some() && matches!(free.body, RequestBody::Passed(_)));
}

/// A partner's machine was switched off, and the network dropped what was sent to it: every
/// message failed as one whose answer took too long.
#[tokio::test]
async fn a_machine_that_is_off_is_told_apart_from_one_that_is_slow() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let silent = socket.listen(1).unwrap();
    let address = silent.local_addr().unwrap();
    // Once its queue is full, the kernel drops whatever asks for a connection.
    let mut queue = Vec::new();
    while let Ok(connected) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        queue.push(connected.unwrap());
    }
    let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let within = RequestOptions { first_byte_timeout: Some(Duration::from_millis(200)), ..RequestOptions::default() };
    for (address, is_off) in [(address, true), (slow.local_addr().unwrap(), false)] {
        let out = out(&[("127.0.0.1", address.port())], false);
        let url = HttpOut::admit(Some(&out), "stock", &format!("http://{address}/")).unwrap();
        match out.send(url, request(""), Some(within)).await.map(drop).unwrap_err() {
            Error::ConnectionTimeout => assert!(is_off),
            Error::ConnectionReadTimeout => assert!(!is_off),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn requests_under_way_are_bounded() {
    let out = out(&[("127.0.0.1", 9)], false);
    let _all = Arc::clone(&out.in_flight).acquire_many_owned(MAX_HTTP_IN_FLIGHT as u32).await.unwrap();
    let url = HttpOut::admit(Some(&out), "stock", "http://127.0.0.1:9/").unwrap();
    let sent = out.send(url, request(""), None).await.map(drop);
    assert!(matches!(sent, Err(Error::ConnectionLimitReached)));
}
