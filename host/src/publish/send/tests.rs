//! The send side against librdkafka's mock cluster.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use courier_core::message::Kind;
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

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
