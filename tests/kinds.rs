//! The five kinds of message as a shop uses them: published with the client,
//! handled by the sample plugins, on real Kafka and PostgreSQL with two hosts.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use courier_client::{Event, Publisher, State as Sent};
use courier_core::status::State;
use courier_tests::kafka_client::{create_named_topic, read_topic};
use courier_tests::{Delivery, Host, Message, guest, kafka, postgres, turn, unique, wait_until};
use jiff::Timestamp;
use serde::Serialize;
use sqlx::postgres::PgPool;
use tokio::sync::{Mutex, MutexGuard};

const SOON: Duration = Duration::from_secs(60);

#[derive(Clone, Event, Serialize)]
#[event(topic = "shop-order")]
struct OrderCreated {
    #[primary_key]
    order_id: String,
    order_name: String,
    quantity: u64,
}

#[derive(Event, Serialize)]
#[event(topic = "shop-price")]
struct PriceChanged {
    #[primary_key]
    article: String,
    price_cents: u64,
}

fn order(id: &str, article: &str, quantity: u64) -> OrderCreated {
    OrderCreated { order_id: id.to_owned(), order_name: article.to_owned(), quantity }
}

/// A binding of a sample plugin to the shop's topics.
fn bound(group: &str, plugin: &str, policy: &str) -> String {
    format!(
        "group = \"{group}\"\ntopics = [\"{}\", \"{}\"]\ntypes = [\"OrderCreated\", \"PriceChanged\"]\n\
         plugin = \"{plugin}\"\nstart = \"latest\"\n{policy}",
        OrderCreated::TOPIC,
        PriceChanged::TOPIC,
    )
}

/// One shop runs at a time, since all use the topics that the events name.
static STREET: Mutex<()> = Mutex::const_new(());

/// Two hosts that share the work, the shop's own database with an outbox, and the
/// shop's publisher.
struct Shop {
    hosts: [Host; 2],
    database: PgPool,
    publisher: Publisher,
    /// Dropped last.
    _alone: MutexGuard<'static, ()>,
}

impl Shop {
    /// Starts the shop: each host has partitions of every group, and each plugin is
    /// active.
    async fn open(groups: &[&String], plugins: &[&str], bindings: &[String]) -> Self {
        let alone = STREET.lock().await;
        for (topic, partitions) in [(OrderCreated::TOPIC, 4), (PriceChanged::TOPIC, 1), ("stock", 1), ("invoice", 1)] {
            create_named_topic(kafka().bootstrap(), topic, partitions, &[]).await;
        }
        let [store, shop] = [(); 2].map(|()| postgres().create_database().expect("a database for a test"));
        let start = async |node: &str| {
            let host = Host::builder(node).store_url(&store).create_topics();
            let host = host.table(&format!("[[outbox]]\nname = \"shop\"\nurl = \"{shop}\"\n"));
            bindings.iter().fold(host, |host, binding| host.binding(binding)).start().await
        };
        let hosts = [start("host-1").await, start("host-2").await];
        for plugin in plugins {
            hosts[0].upload(plugin, guest(plugin)).await;
        }
        for group in groups {
            wait_until("each host has partitions", SOON, async || {
                let seen = hosts[0].group(group).await;
                let owned = seen.partitions.iter().all(|one| one.node.is_some());
                if owned && seen.nodes() == ["host-1", "host-2"] {
                    Ok(())
                } else {
                    Err(format!("{:?}", seen.partitions))
                }
            })
            .await;
        }
        let database = PgPool::connect(&shop).await.unwrap();
        let schema = hosts[0].outbox_schema(&["postgres"]);
        sqlx::raw_sql(sqlx::AssertSqlSafe(schema)).execute(&database).await.unwrap();
        sqlx::raw_sql("CREATE TABLE orders (id text PRIMARY KEY)").execute(&database).await.unwrap();
        let publisher = Publisher::new(hosts[0].address()).unwrap().source("shop");
        Self { hosts, database, publisher, _alone: alone }
    }

    /// Waits until each message is finished by `groups` groups, and returns the
    /// messages as the host that did not take them shows them.
    async fn finished(&self, ids: &[String], groups: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        for id in ids {
            messages.push(self.hosts[1].finished(id, groups).await);
        }
        messages
    }
}

/// The nodes of these deliveries, each once.
fn nodes<'d>(deliveries: impl IntoIterator<Item = &'d Delivery>) -> Vec<&'d str> {
    let mut nodes: Vec<&str> = deliveries.into_iter().filter_map(|one| one.node.as_deref()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

/// The messages that handlers published for these orders, by order and in the
/// order of the log; a duplicate after a crash counts once.
async fn published(topic: &str, orders: &[String]) -> BTreeMap<String, Vec<serde_json::Value>> {
    let mut seen = std::collections::HashSet::new();
    let mut by_order: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
    for record in read_topic(kafka().bootstrap(), topic).await {
        let body = record.json();
        let id = body["order_id"].as_str().unwrap_or_default().to_owned();
        if orders.contains(&id) && seen.insert(record.header("ce_id")) {
            by_order.entry(id).or_default().push(body);
        }
    }
    by_order
}

/// An event: each group handles it once, on one node or the other.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_handled_once_by_each_group() {
    let _turn = turn::shared().await;
    let [noted, validated] = ["noted", "validated"].map(unique);
    let bindings = [bound(&noted, "order-handler", ""), bound(&validated, "order-validator", "")];
    let shop = Shop::open(&[&noted, &validated], &["order-handler", "order-validator"], &bindings).await;

    let mut ids = Vec::new();
    for _ in 0..40 {
        let receipt = shop.publisher.publish(&order(&unique("order"), "tea", 2)).await.unwrap();
        assert!(receipt.state == Sent::Committed || receipt.retrying, "{receipt:?}");
        ids.push(receipt.id);
    }
    let messages = shop.finished(&ids, 2).await;
    for message in &messages {
        let of = |group: &str| message.deliveries.iter().filter(|one| one.group == group).collect::<Vec<_>>();
        for group in [&noted, &validated] {
            let deliveries = of(group);
            assert_eq!(deliveries.len(), 1, "{message:?}");
            assert_eq!((deliveries[0].state, deliveries[0].attempts.len()), (State::Handled, 1), "{message:?}");
        }
        let log = of(&noted)[0].attempts[0].log.clone().unwrap_or_default();
        let key = message.key.as_deref().expect("the primary key is the message's key");
        assert!(log.contains(&format!("order {key}: 2 x tea")), "{log}");
    }
    assert_eq!(nodes(messages.iter().flat_map(|message| &message.deliveries)), ["host-1", "host-2"]);

    // One group's rejection does not affect the other.
    let odd = shop.publisher.publish(&order(&unique("odd"), "", 2)).await.unwrap().id;
    let message = &shop.finished(&[odd], 2).await[0];
    for delivery in &message.deliveries {
        let expected = if delivery.group == noted {
            (State::Handled, None)
        } else {
            (State::HandleFail, Some("order_name is empty"))
        };
        assert_eq!((delivery.state, delivery.reason.as_deref()), expected, "{message:?}");
    }
}

/// A broadcast: every node gets the new price, and prices orders by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_refreshes_every_nodes_cache() {
    let _turn = turn::shared().await;
    let group = unique("pricing");
    let policy = "[binding.retry]\nmax_attempts = 5\ninitial = \"200ms\"\n[binding.grant]\npublish = [\"invoice\"]\nstate = true\ncache = true";
    let shop = Shop::open(&[&group], &["order-pricer"], &[bound(&group, "order-pricer", policy)]).await;
    let article = unique("tea");
    for price_cents in [350, 420] {
        let changed = PriceChanged { article: article.clone(), price_cents };
        let heard = shop.publisher.publish_broadcast(&changed).await.unwrap().id;
        let heard = &shop.finished(&[heard], 2).await[0];
        assert_eq!(heard.kind, "broadcast");
        assert!(heard.deliveries.iter().all(|one| one.state == State::Handled), "{heard:?}");
        assert_eq!(nodes(&heard.deliveries), ["host-1", "host-2"]);

        let orders: Vec<String> = (0..60).map(|_| unique("order")).collect();
        let events: Vec<OrderCreated> = orders.iter().map(|id| order(id, &article, 3)).collect();
        let receipts = shop.publisher.publish_all(&events).await.unwrap();
        let ids: Vec<String> = receipts.into_iter().map(|receipt| receipt.unwrap().id).collect();
        let messages = shop.finished(&ids, 1).await;
        assert_eq!(nodes(messages.iter().flat_map(|message| &message.deliveries)), ["host-1", "host-2"]);
        wait_until("every order is priced", SOON, async || {
            let priced = published("invoice", &orders).await;
            let right = priced.values().filter(|all| all.len() == 1 && all[0]["total_cents"] == 3 * price_cents);
            if right.count() == orders.len() { Ok(()) } else { Err(format!("{priced:?}")) }
        })
        .await;
    }
}

/// Ordered: messages of one key are handled in the order of publishing, even if
/// the host that handles them is killed in between.
#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_key_are_handled_in_order() {
    let _turn = turn::shared().await;
    let group = unique("ordered");
    let policy = "[binding.grant]\npublish = [\"stock\"]";
    let shop = Shop::open(&[&group], &["stock-reserver"], &[bound(&group, "stock-reserver", policy)]).await;
    let orders: Vec<String> = (0..8).map(|_| unique("order")).collect();
    let mut ids = Vec::new();
    let mut send = async |steps: std::ops::Range<u64>| {
        let events: Vec<OrderCreated> =
            steps.flat_map(|step| orders.iter().map(move |id| order(id, "tea", step + 1))).collect();
        for receipt in shop.publisher.publish_all(&events).await.unwrap() {
            ids.push(receipt.unwrap().id);
        }
    };
    send(0..20).await;
    shop.hosts[1].kill9();
    send(20..40).await;
    shop.hosts[1].start_again().await;

    let messages = shop.finished(&ids, 1).await;
    assert!(messages.iter().all(|message| message.deliveries[0].state == State::Handled));
    let expected: Vec<u64> = (1..=40).collect();
    let reserved = wait_until("every step is reserved", SOON, async || {
        let reserved = published("stock", &orders).await;
        if reserved.values().map(Vec::len).sum::<usize>() >= ids.len() { Ok(reserved) } else { Err(String::new()) }
    })
    .await;
    for (order, steps) in reserved {
        let steps: Vec<u64> = steps.iter().filter_map(|body| body["quantity"].as_u64()).collect();
        assert_eq!(steps, expected, "the steps of {order}");
    }
}

/// Transactional: an order that the shop rolled back is never published, and each
/// handled order has the message that its handler published.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_transaction_publishes_exists_if_it_commits() {
    let _turn = turn::shared().await;
    let group = unique("stock");
    let policy = "[binding.grant]\npublish = [\"stock\"]";
    let shop = Shop::open(&[&group], &["stock-reserver"], &[bound(&group, "stock-reserver", policy)]).await;
    let (mut kept, mut gone) = (Vec::new(), Vec::new());
    let orders: Vec<String> = (0..30).map(|_| unique("order")).collect();
    for (number, id) in orders.iter().enumerate() {
        let mut tx = shop.database.begin().await.unwrap();
        sqlx::query("INSERT INTO orders (id) VALUES ($1)").bind(id).execute(&mut *tx).await.unwrap();
        // Each fifth order has no quantity, and the handler rejects it.
        let quantity = u64::from(number % 5 != 0);
        let message = shop.publisher.publish_in(&mut tx, &order(id, "tea", quantity)).await.unwrap();
        if number % 3 == 0 {
            tx.rollback().await.unwrap();
            gone.push(message);
        } else {
            tx.commit().await.unwrap();
            kept.push(message);
        }
    }
    let mut reserved = Vec::new();
    for message in shop.finished(&kept, 1).await {
        let nothing = message.body.as_ref().expect("its body is shown")["quantity"] == 0;
        let expected = if nothing { State::HandleFail } else { State::Handled };
        assert_eq!(message.deliveries[0].state, expected, "{message:?}");
        if !nothing {
            reserved.push(message.key.expect("the primary key is the message's key"));
        }
    }
    reserved.sort();
    assert_eq!(reserved.len(), 16, "two thirds were committed, four of them orders of nothing");
    wait_until("what was reserved is published, and nothing else", SOON, async || {
        let published = published("stock", &orders).await;
        let found: Vec<&String> = published.keys().collect();
        if found == reserved.iter().collect::<Vec<_>>() { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    for id in gone {
        let (status, _) = shop.hosts[0].request(reqwest::Method::GET, &format!("/v1/messages/{id}"), None).await;
        assert_eq!(status.as_u16(), 404, "what was rolled back never was");
    }
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&shop.database).await.unwrap();
    assert_eq!(rows, kept.len() as i64, "the shop's own rows and its messages are the same orders");
}

/// Delayed: never early, and not at all when it is cancelled before it is due.
#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_message_comes_when_it_is_due_and_not_before() {
    let _turn = turn::shared().await;
    let group = unique("later");
    let shop = Shop::open(&[&group], &["order-handler"], &[bound(&group, "order-handler", "")]).await;
    let publisher = &shop.publisher;
    let mut due = Vec::new();
    for delay in [1, 250, 900, 2_000].map(Duration::from_millis) {
        let begun = SystemTime::now();
        let after = publisher.publish_after(&order(&unique("after"), "tea", 1), delay).await.unwrap();
        let at = publisher.publish_at(&order(&unique("at"), "tea", 1), begun + delay).await.unwrap();
        due.extend([(after.id, begun + delay), (at.id, begun + delay)]);
    }
    let never = publisher.publish_after(&order(&unique("never"), "tea", 1), Duration::from_secs(10)).await.unwrap().id;
    let waiting = shop.hosts[1].message(&never).await;
    assert_eq!((waiting.state, waiting.partition), (State::Committed, None), "it waits: {waiting:?}");
    let (status, _, errors) = shop.hosts[1].cli(&["messages", "cancel", &never]);
    assert!(status.success(), "{errors}");

    for (id, earliest) in due {
        let message = shop.hosts[1].finished(&id, 1).await;
        let earliest = Timestamp::try_from(earliest).expect("a time of today");
        let deadline = message.deliver_at.expect("it says when it is due");
        assert!(deadline >= earliest, "{message:?} is due before {earliest}");
        let delivery = &message.deliveries[0];
        assert_eq!(delivery.state, State::Handled);
        assert!(delivery.received_at.expect("it was received") >= deadline, "{message:?} came early");
    }
    tokio::time::sleep(Duration::from_secs(11)).await;
    let cancelled = shop.hosts[0].message(&never).await;
    assert_eq!((cancelled.state, cancelled.reason.as_deref()), (State::SendFail, Some("cancelled")));
    assert!(cancelled.deliveries.is_empty(), "{cancelled:?}");
}
