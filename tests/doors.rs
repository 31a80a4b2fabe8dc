//! The listeners of a real host from outside: idle connections under the usual
//! limit of descriptors, and TLS from end to end.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::path::PathBuf;
use std::time::Duration;

use courier_tests::kafka_client::create_topic;
use courier_tests::{Host, guest, kafka, scripted_binding, turn, wait_until};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
/// The usual limit of descriptors, soft and hard.
const USUAL_DESCRIPTORS: u64 = 1_024;
/// Idle connections, enough to use up the descriptors.
const IDLE: usize = 1_100;

/// Limits the descriptors of a running process, as a shell's `ulimit -n` would.
fn limit_descriptors(process: u32) {
    let limit = libc::rlimit { rlim_cur: USUAL_DESCRIPTORS, rlim_max: USUAL_DESCRIPTORS };
    // SAFETY: the call reads the struct that it gets and writes to none.
    let answer =
        unsafe { libc::prlimit(process.cast_signed(), libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
}

/// Connects from another address of this machine, which counts as another client.
fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let address = |ip: Ipv4Addr, port: u16| libc::sockaddr_in {
        sin_family: libc::sa_family_t::try_from(libc::AF_INET).unwrap(),
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(ip).to_be() },
        sin_zero: [0; 8],
    };
    let IpAddr::V4(host) = to.ip() else { panic!("{to}") };
    let (from, to) = (address(Ipv4Addr::new(127, 0, 0, last), 0), address(host, to.port()));
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_in>()).unwrap();
    // SAFETY: the socket is new and owned by the stream; the calls read the
    // structs that they get, with their lengths.
    unsafe {
        let stream = TcpStream::from_raw_fd(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0));
        assert_eq!(libc::bind(stream.as_raw_fd(), (&raw const from).cast(), length), 0);
        assert_eq!(libc::connect(stream.as_raw_fd(), (&raw const to).cast(), length), 0);
        stream
    }
}

/// The answer to one request on a new connection from that address.
fn ask_from(last: u8, to: SocketAddr, path: &str) -> String {
    let mut stream = connect_from(last, to);
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Item 12: 1,075 idle connections used up the usual 1,024 descriptors, and
/// nothing was answered, uploaded or sent any more.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_leave_room_for_everybody_else() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "idle", 1).await;
    let host = Host::builder("idle").binding(&scripted_binding("idle", &topic, "")).prepare();
    host.spawn();
    limit_descriptors(host.process_id().unwrap());
    host.ready().await;
    let to: SocketAddr = host.address().trim_start_matches("http://").parse().unwrap();
    let idle: Vec<TcpStream> = (0..IDLE).map(|_| connect_from(9, to)).collect();
    let refused = wait_until("more than half of the connections is refused", SOON, async || {
        let is_refused = |stream: &&TcpStream| {
            stream.set_nonblocking(true).unwrap();
            matches!(stream.peek(&mut [0; 64]), Ok(64))
        };
        let refused = idle.iter().filter(is_refused).count();
        if refused > IDLE / 2 { Ok(refused) } else { Err(format!("{refused} are refused")) }
    });
    let refused = refused.await;
    assert!(refused < IDLE, "those that fit are kept");
    let answer = tokio::task::spawn_blocking(move || ask_from(7, to, "/healthz")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", host.process_id().unwrap())).unwrap().count();
    assert!(descriptors < USUAL_DESCRIPTORS as usize, "{descriptors}");
    // The test's own client waits until the idle connections of 127.0.0.9 are
    // closed, or connects from its own address: both go on.
    host.upload("scripted", guest("scripted")).await;
    host.publish(json!({ "topic": topic, "type": "T", "body": { "do": ["ok"] } })).await;
    host.settled("idle", 1, SOON).await;
    drop(idle);
}

fn certificate(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../host/src/config/testdata").join(name)
}

/// Item 14: the command line uses TLS with a private certificate, and after a
/// reload with another one.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_asks_over_tls_by_a_certificate_of_ones_own() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "tls", 1).await;
    let host = Host::builder("tls").binding(&scripted_binding("tls", &topic, "")).prepare();
    let folder = host.config().parent().unwrap();
    let install = |name: &str| {
        for (kind, to) in [("crt", "a.crt"), ("key", "a.key")] {
            std::fs::copy(certificate(&format!("{name}.{kind}")), folder.join(to)).unwrap();
        }
    };
    install("localhost");
    let tls = "[server.tls]\ncert = \"a.crt\"\nkey = \"a.key\"\n\n[kafka]\n";
    host.write_config(&host.toml().replacen("[kafka]\n", tls, 1));
    host.spawn();
    let server = host.address().replace("http://127.0.0.1", "https://localhost");
    let cli = |trusted: &str, arguments: &[&str]| {
        let trusted = certificate(trusted);
        let more = ["--server", &server, "--ca", trusted.to_str().unwrap(), "--output", "json"];
        let (status, out, said) = host.cli(&[&more[..4], arguments, &more[4..]].concat());
        (status.code(), out, said)
    };
    wait_until("the host answers over TLS", SOON, async || match cli("localhost.crt", &["groups", "list"]) {
        (Some(0), ..) => Ok(()),
        (_, _, said) => Err(said),
    })
    .await;
    let (code, out, said) = cli("localhost.crt", &["publish", &topic, "--type", "T", "--id", "m-1", "--body", "1"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(out.contains("m-1"), "{out}");
    let (code, out, said) = cli("localhost.crt", &["messages", "list", "--topic", &topic]);
    assert_eq!(code, Some(0), "{said}");
    let listed: Value = serde_json::from_str(&out).unwrap();
    assert!(listed.to_string().contains("m-1"), "{listed}");
    let (code, _, said) = cli("other.crt", &["groups", "list"]);
    assert!(code == Some(1) && said.contains("certificate"), "{said}");
    install("other");
    wait_until("the host shows the new certificate", SOON, async || match cli("other.crt", &["groups", "list"]) {
        (Some(0), ..) => Ok(()),
        (_, _, said) => Err(said),
    })
    .await;
    assert_eq!(cli("localhost.crt", &["groups", "list"]).0, Some(1), "the old one is no longer shown");
}
