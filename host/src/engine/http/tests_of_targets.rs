//! Tests of targets that a request must not reach: every private range, every
//! spelling of an address that some client accepts, names whose addresses change,
//! and URLs that hide another host.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// A resolver: the addresses of each name.
#[derive(Clone)]
pub(super) struct Names(Arc<Answers>);

/// The addresses that a name has.
type Answers = dyn Fn(&str) -> Vec<IpAddr> + Send + Sync;

impl Names {
    pub(super) fn of(&self, name: &str) -> Vec<SocketAddr> {
        (self.0)(name).into_iter().map(|address| SocketAddr::new(address, 0)).collect()
    }
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Names")
    }
}

/// Private addresses to which a name of a listed host may resolve.
const PRIVATE: [&str; 24] = [
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.254",
    "192.168.0.1",
    "192.168.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "100.64.0.1",
    "100.127.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "::1",
    "fc00::1",
    "fdff:ffff::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
];

/// Addresses that no request may reach.
const NEVER: [&str; 29] = [
    "169.254.169.254",
    "169.254.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "169.254.170.2",
    "169.254.170.23",
    "0.0.0.0",
    "0.1.2.3",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "fe80::1",
    "ff02::1",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "::ffff:168.63.129.16",
    "::168.63.129.16",
    "64:ff9b::168.63.129.16",
    "64:ff9b::100.100.100.200",
    "2002:a83f:8110::",
    "::ffff:169.254.169.254",
    "::ffff:0.0.0.0",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "::169.254.169.254",
];

/// URLs that lead in some spelling to this machine, its network or another host
/// than the listed one. `P` is the port.
const SPELLINGS: [&str; 38] = [
    "http://127.0.0.1:P/",
    "http://127.1:P/",
    "http://127.0.1:P/",
    "http://0177.0.0.1:P/",
    "http://0177.0.0.01:P/",
    "http://0x7f.0.0.1:P/",
    "http://0x7f.1:P/",
    "http://0x7f000001:P/",
    "http://2130706433:P/",
    "http://017700000001:P/",
    "http://127.0.0.1.:P/",
    "http://１２７.0.0.1:P/",
    "http://127。0。0。1:P/",
    "http://①②⑦.0.0.1:P/",
    "http://[::1]:P/",
    "http://[0:0:0:0:0:0:0:1]:P/",
    "http://[::ffff:127.0.0.1]:P/",
    "http://[::ffff:7f00:1]:P/",
    "http://[::127.0.0.1]:P/",
    "http://[64:ff9b::127.0.0.1]:P/",
    "http://[fe80::1%25eth0]:P/",
    "http://0:P/",
    "http://0.0.0.0:P/",
    "http://[::]:P/",
    "http://localhost:P/",
    "http://LOCALHOST:P/",
    "http://localhost.:P/",
    "http://api.example.com@127.0.0.1:P/",
    "http://api.example.com:P@127.0.0.1:P/",
    "http://user:password@api.example.com:P/",
    "http://127.0.0.1:P\\@api.example.com:P/",
    "http://api.example.com\\@127.0.0.1:P/",
    "http://127.0.0.1:P#@api.example.com:P/",
    "http://127.0.0.1:P?@api.example.com:P/",
    "http://аpi.example.com:P/",
    "http://xn--pi-7kc.example.com.evil.test:P/",
    "http://api.example.com.127.0.0.1.nip.test:P/",
    "http://api.example.com\t.evil.test:P/",
];

/// A server on this machine that counts its connections.
async fn canary() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let come = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&come);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut got = [0; 4_096];
            let _ = stream.read(&mut got).await;
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
        }
    });
    (port, come)
}

/// A client that allows two hosts at a port, with this resolver.
fn out(port: u16, private: bool, names: impl Fn(&str) -> Vec<IpAddr> + Send + Sync + 'static) -> HttpOut {
    let allow = ["api.example.com", "*.example.com"].map(|host| Destination { host: host.to_owned(), port });
    named(HttpRules { allow: allow.into(), private, ..HttpRules::default() }, names)
}

fn named(rules: HttpRules, names: impl Fn(&str) -> Vec<IpAddr> + Send + Sync + 'static) -> HttpOut {
    HttpOut { names: Some(Names(Arc::new(names))), ..HttpOut::new(rules) }
}

/// Sends a request to a URL if it is admitted.
async fn ask(out: &HttpOut, url: &str) -> Result<u16, String> {
    let url = HttpOut::admit(Some(out), "stock", url)?;
    let empty = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    let short = RequestOptions { connect_timeout: Some(Duration::from_millis(500)), ..RequestOptions::default() };
    out.send(url, empty, Some(short)).await.map(|answer| answer.status().as_u16()).map_err(|error| error.to_string())
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn nothing_is_reached_through_a_list_without_private() {
    let (port, come) = canary().await;
    assert!(PRIVATE.len() + NEVER.len() + SPELLINGS.len() >= 60);
    // Names of the listed host that resolve to forbidden addresses.
    for target in PRIVATE.iter().chain(&NEVER) {
        let leads_to = addresses(&[target]);
        let out = out(port, false, move |_| leads_to.clone());
        let why = ask(&out, &format!("http://x.example.com:{port}/")).await.unwrap_err();
        assert!(why.contains("has no address that may be connected to"), "{target}: {why}");
    }
    // Each spelling that leads anywhere leads to this machine.
    let out = out(port, false, |_| addresses(&["127.0.0.1"]));
    for target in SPELLINGS {
        let target = target.replace('P', &port.to_string());
        let answer = ask(&out, &target).await;
        assert!(answer.is_err(), "{target}: {answer:?}");
    }
    assert_eq!(come.load(Ordering::SeqCst), 0, "nobody came");
}

#[tokio::test]
async fn an_allowed_host_works() {
    let (port, come) = canary().await;
    let open = out(port, true, |_| addresses(&["127.0.0.1"]));
    assert_eq!(ask(&open, &format!("http://api.example.com:{port}/x")).await, Ok(204));
    // A name with allowed and forbidden addresses is connected to at an allowed one.
    let mixed = out(port, true, |_| addresses(&["169.254.169.254", "127.0.0.1"]));
    assert_eq!(ask(&mixed, &format!("http://api.example.com:{port}/x")).await, Ok(204));
    assert_eq!(come.load(Ordering::SeqCst), 2);
}

/// A resolver that gives the check one address and the connection another: the
/// name is resolved once.
#[tokio::test]
async fn a_name_is_resolved_once_and_its_address_is_the_one_that_was_judged() {
    let (port, come) = canary().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let questions = Arc::clone(&asked);
    let rebinding = move |_: &str| match questions.fetch_add(1, Ordering::SeqCst) {
        0 => addresses(&["127.0.0.1"]),
        _ => addresses(&["169.254.169.254"]),
    };
    let out = out(port, true, rebinding);
    let url = format!("http://api.example.com:{port}/");
    assert_eq!(ask(&out, &url).await, Ok(204));
    assert_eq!((asked.load(Ordering::SeqCst), come.load(Ordering::SeqCst)), (1, 1));
    assert!(ask(&out, &url).await.is_err(), "the next connection is judged anew");
    let both = Resolver::of(&HttpRules::default());
    let found = addresses(&["10.0.0.1", "93.184.216.34", "::1"]);
    let found = found.into_iter().map(|address| SocketAddr::new(address, port)).collect();
    let judged = both.judge("api.example.com", found).unwrap();
    assert_eq!(judged, [SocketAddr::from(([93, 184, 216, 34], port))]);
}

/// With `each` a binding connects to one address of the name, which is judged as
/// any other and belongs to no other name.
#[tokio::test]
async fn a_push_to_one_address_reaches_that_one_and_no_other() {
    let (port, come) = canary().await;
    let pinned = |name: &str, address: &str| {
        let own_url = Url::parse(&format!("http://{name}:{port}/")).unwrap();
        let rules = HttpRules {
            own_address: Some(address.parse().unwrap()),
            own_url: Some(own_url.clone()),
            ..HttpRules::default()
        };
        (own_url.to_string(), named(rules, |_| addresses(&["127.0.0.9"])))
    };
    let (url, out) = pinned("stock.localhost", "127.0.0.1");
    assert_eq!(ask(&out, &url).await, Ok(204), "nobody is asked for the name");
    let (url, out) = pinned("stock.localhost", "127.0.0.8");
    assert!(ask(&out, &url).await.is_err(), "nobody listens there");
    for (name, address) in [("stock.example.com", "127.0.0.1"), ("stock.localhost", "169.254.169.254")] {
        let (url, out) = pinned(name, address);
        let why = ask(&out, &url).await.unwrap_err();
        assert!(why.contains(address), "{why}");
    }
    let (_, out) = pinned("stock.localhost", "127.0.0.1");
    let other = out.resolver().look_up("other.localhost").await.unwrap();
    assert_eq!(other[0].ip().to_string(), "127.0.0.9");
    assert_eq!(come.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_url_of_a_push_reaches_the_network_here_and_never_where_no_service_lives() {
    let (port, come) = canary().await;
    let push = |url: String, leads_to: &'static str| {
        let own_url = Url::parse(&url.replace("PORT", &port.to_string())).unwrap();
        let rules = HttpRules { own_url: Some(own_url.clone()), ..HttpRules::default() };
        (own_url.to_string(), named(rules, move |_| addresses(&[leads_to])))
    };
    for (url, leads_to) in [
        ("http://localhost:PORT/", "127.0.0.1"),
        ("http://stock.localhost:PORT/", "127.0.0.1"),
        ("http://127.0.0.1:PORT/", "10.0.0.1"),
        ("http://0x7f.1:PORT/", "10.0.0.1"),
    ] {
        let (url, out) = push(url.to_owned(), leads_to);
        assert_eq!(ask(&out, &url).await, Ok(204), "{url}");
    }
    let reached = come.load(Ordering::SeqCst);
    // This machine is reached only where the URL names it.
    let (url, out) = push("http://stock.example.com:PORT/".to_owned(), "127.0.0.1");
    let why = ask(&out, &url).await.unwrap_err();
    assert!(why.contains("write localhost into url"), "{why}");
    let resolver = out.resolver();
    assert!(resolver.lets_through("stock.example.com", "10.0.0.1".parse().unwrap()), "a service of the network here");
    assert!(!resolver.lets_through("other.example.com", "10.0.0.1".parse().unwrap()), "and no other name");
    for never in NEVER {
        let (url, out) = push("http://stock.example.com:PORT/".to_owned(), never);
        assert!(ask(&out, &url).await.is_err(), "{never}");
        let host = if never.contains(':') { format!("[{never}]") } else { never.to_owned() };
        let (url, out) = push(format!("http://{host}:PORT/"), "127.0.0.1");
        let why = ask(&out, &url).await.unwrap_err();
        assert!(why.contains("no service lives"), "{never}: {why}");
    }
    // The URL allows its own host and port and nothing else.
    let (_, out) = push("http://localhost:PORT/".to_owned(), "127.0.0.1");
    for other in
        [format!("http://127.0.0.1:{port}/"), format!("https://localhost:{port}/"), "http://localhost:1/".to_owned()]
    {
        assert!(HttpOut::admit(Some(&out), "stock", &other).is_err(), "{other}");
    }
    assert_eq!(come.load(Ordering::SeqCst), reached, "nobody else came");
}
