//! The send side against librdkafka's mock cluster.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use courier_core::message::Kind;
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka_sys::RDKafkaRespErr;
use tokio::time::Instant;

use super::*;
use crate::publish::receipt::SendProblemKind;
use crate::publish::undelivered::UndeliveredWatch;

struct Bench {
    cluster: MockCluster<'static, DefaultProducerContext>,
    acceptor: Acceptor,
    undelivered: UndeliveredWatch,
    _folder: tempfile::TempDir,
}

async fn bench() -> Bench {
    let cluster: MockCluster<'static, DefaultProducerContext> = MockCluster::new(1).unwrap();
    cluster.create_topic("order", 1, 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = crate::store::open(&format!("sqlite://{}", folder.path().join("courier.db").display())).await.unwrap();
    let producer = Producer::new(&[cluster.bootstrap_servers()], &BTreeMap::new()).unwrap();
    let mut clients = ClientConfig::new();
    clients.set("bootstrap.servers", cluster.bootstrap_servers());
    let log = LogReader::new(&clients).unwrap();
    let (undelivered, full) = UndeliveredWatch::new();
    let acceptor = Acceptor::start(store, producer, log, Waker::default(), DelayedWaker::default(), full);
    Bench { cluster, acceptor, undelivered, _folder: folder }
}

fn draft(topic: &str, kind: Kind) -> Draft {
    Draft { topic: topic.to_owned(), type_name: "T".to_owned(), kind, ..Draft::default() }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// Messages of transactions were accepted for a topic past its bound of undelivered ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_topic_takes_no_message_of_a_transaction() {
    let bench = bench().await;
    bench.undelivered.tell(HashSet::from(["order".to_owned()]));
    let told = bench.acceptor.validate(vec![draft("order", Kind::Event)]).await;
    let [Err(problem)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(problem.kind, SendProblemKind::UndeliveredFull);
    let delayed = Draft { delay: Some(Duration::from_secs(60)), ..draft("order", Kind::Event) };
    let told = bench.acceptor.validate(vec![delayed.clone()]).await;
    assert!(matches!(&told[..], [Err(problem)] if problem.kind == SendProblemKind::UndeliveredFull), "{told:?}");
    let receipts = bench.acceptor.accept(vec![delayed]).await;
    assert_eq!(receipts[0].problem.as_ref().unwrap().kind, SendProblemKind::UndeliveredFull);
    bench.undelivered.tell(HashSet::new());
    let told = bench.acceptor.validate(vec![draft("order", Kind::Event)]).await;
    assert!(matches!(&told[..], [Ok(_)]), "{told:?}");
}

/// A topic with a backlog was left out of the question for unsent rows of its keys. When
/// the backlog ended while another topic of the request was looked up, the messages went
/// directly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_keeps_to_its_first_look_at_what_stands_before_it() {
    let bench = bench().await;
    let parts = &bench.acceptor.inner;
    drop(parts.backlog.mark("order"));
    let barrier = parts.barriers_of(&[draft("order", Kind::Event)])["order"];
    assert_eq!(barrier, SendBarrier::Backlog);
    let look = parts.backlog.look();
    parts.backlog.saw(look, &[]);
    assert_eq!(parts.barrier_of("order"), SendBarrier::Nothing, "it has ended meanwhile");
    assert!(matches!(parts.route("order", barrier, soon()).await, Route::Owed { .. }));
    let look = parts.backlog.look();
    parts.backlog.saw(look, &[]);
    assert!(matches!(parts.route("order", SendBarrier::Nothing, soon()).await, Route::Direct { .. }));
}

/// The controller of Kafka was just moving, and the first broadcast on a topic was refused
/// for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passing_cause_refuses_no_broadcast() {
    use RDKafkaRespErr::{RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART};
    let bench = bench().await;
    let parts = &bench.acceptor.inner;
    let route = async |topic: &str| {
        let companion = Kind::Broadcast.log_topic(topic).into_owned();
        bench.cluster.topic_error(&companion, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
        parts.route_broadcast(topic, &companion, SendBarrier::Nothing, soon()).await
    };
    assert!(matches!(route("order").await, Route::Refused(_)), "no companion is created");
    parts.rules.create_companions(Some((1, 1)));
    // The mock cluster creates no topics for anybody.
    let Route::Owed { reason, .. } = route("order").await else { panic!("it is refused") };
    assert!(reason.contains("cannot create topic order.broadcast"), "{reason}");
    bench.cluster.topic_error("moving", RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE).unwrap();
    assert!(matches!(route("moving").await, Route::Owed { .. }), "nobody can say whether there is such a topic");
    bench.cluster.topic_error("missing", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let Route::Refused(problem) = route("missing").await else { panic!("there is no such topic") };
    assert!(problem.detail.contains("missing.broadcast does not exist"), "{problem:?}");
    // A transaction with the same broadcast is prepared, and its sender waits no longer than
    // for Kafka.
    let told = bench.acceptor.validate(vec![draft("moving", Kind::Broadcast)]).await;
    assert!(matches!(&told[..], [Ok(_)]), "{told:?}");
}
