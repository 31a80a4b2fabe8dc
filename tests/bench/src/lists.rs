//! `lists`: how long the API's lists take over millions of deliveries.
//!
//! Rows are made by SQL in a PostgreSQL of this run: a hundred thousand keys,
//! two groups, one delivery in a hundred failed with one of fifty
//! fingerprints, parked lanes, messages. A host without bindings then answers
//! each list many times over HTTP. What takes long is shown with its plan by
//! `auto_explain` in the server's log; the queries are those of the host.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use courier_tests::{Host, postgres};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// Deliveries made by one statement.
const CHUNK: u64 = 250_000;
/// What a list and the overview may take, for 95 of 100 requests.
const LIST_BOUND: Duration = Duration::from_millis(100);
const OVERVIEW_BOUND: Duration = Duration::from_millis(300);

#[derive(Args)]
pub struct Arguments {
    /// Deliveries.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Requests of each sort.
    #[arg(long, default_value_t = 60)]
    requests: usize,
}

pub async fn run(arguments: &Arguments) -> Result<()> {
    let url = tokio::task::spawn_blocking(|| postgres().create_database()).await??;
    // The host makes the tables; then rows are put in behind its back.
    let host = Host::builder("lists").store_url(&url).start().await;
    let mut database = PgConnection::connect(&url).await?;
    fill(&mut database, arguments.rows).await?;
    println!("{:<78} {:>8} {:>8}", "request", "p50", "p95");
    let group = |n: usize| if n.is_multiple_of(2) { "stock" } else { "mail" };
    let mut slow = Vec::new();
    type Path = Box<dyn Fn(usize) -> String>;
    let paths: [(&str, Path); 15] = [
        ("/v1/overview", Box::new(|_| "/v1/overview".to_owned())),
        ("/v1/messages", Box::new(|_| "/v1/messages".to_owned())),
        ("/v1/messages?topic=", Box::new(|_| "/v1/messages?topic=order".to_owned())),
        ("/v1/messages?key=", Box::new(|n| format!("/v1/messages?key=key-{}", n * 911))),
        ("/v1/messages?state=SEND_FAIL", Box::new(|_| "/v1/messages?state=SEND_FAIL".to_owned())),
        ("/v1/deliveries", Box::new(|_| "/v1/deliveries".to_owned())),
        ("/v1/deliveries?group=", Box::new(move |n| format!("/v1/deliveries?group={}", group(n)))),
        (
            "/v1/deliveries?group=&state=HANDLE_FAIL",
            Box::new(move |n| format!("/v1/deliveries?group={}&state=HANDLE_FAIL", group(n))),
        ),
        (
            "/v1/deliveries?group=&fingerprint=",
            Box::new(move |n| format!("/v1/deliveries?group={}&fingerprint=print-{}", group(n), n % 50)),
        ),
        ("/v1/deliveries?key=", Box::new(|n| format!("/v1/deliveries?key=key-{}", n * 911))),
        ("/v1/deliveries?message_id=", Box::new(|n| format!("/v1/deliveries?message_id=message-{}", n * 4_001))),
        ("/v1/deliveries?type= (rare)", Box::new(|_| "/v1/deliveries?type=Rare".to_owned())),
        ("/v1/failures", Box::new(|_| "/v1/failures".to_owned())),
        ("/v1/failures?group=", Box::new(move |n| format!("/v1/failures?group={}", group(n)))),
        ("/v1/groups/{group}/parked", Box::new(move |n| format!("/v1/groups/{}/parked", group(n)))),
    ];
    for (name, path) in &paths {
        let mut took = Vec::with_capacity(arguments.requests);
        for request in 0..arguments.requests + 3 {
            let begun = Instant::now();
            let (status, answer) = host.request(reqwest::Method::GET, &path(request), None).await;
            ensure!(status.is_success(), "{name} was answered {status}: {answer}");
            // The first ones plan, connect and read cold pages.
            if request >= 3 {
                took.push(begun.elapsed());
            }
        }
        took.sort_unstable();
        let (p50, p95) = (took[took.len() / 2], took[took.len() * 95 / 100]);
        let bound = if *name == "/v1/overview" { OVERVIEW_BOUND } else { LIST_BOUND };
        let mark = if p95 > bound { "  over its bound" } else { "" };
        println!("{name:<78} {:>6.1}ms {:>6.1}ms{mark}", millis(p50), millis(p95));
        if p95 > bound {
            slow.push(*name);
        }
    }
    println!("{} deliveries; over their bounds: {slow:?}", arguments.rows);
    Ok(())
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1_000.0
}

/// Puts rows in, as a week of traffic leaves them.
async fn fill(database: &mut PgConnection, rows: u64) -> Result<()> {
    let begun = Instant::now();
    let prepare = "
        INSERT INTO consumer_group (name) VALUES ('stock'), ('mail') ON CONFLICT DO NOTHING;
        INSERT INTO word (word) VALUES ('host-1'), ('sha256:aa') ON CONFLICT DO NOTHING;
        INSERT INTO position (group_id, topic, incarnation, partition, topic_id, next, epoch, current)
        SELECT g.id, 'order', 0, p, 'id', 1000000000, 1, true FROM consumer_group g, generate_series(0, 7) p;";
    sqlx::raw_sql(prepare).execute(&mut *database).await?;
    // Row n: its position in turn, one second in a hundred rows, newest last.
    let mut from = 0;
    while from < rows {
        let to = (from + CHUNK).min(rows);
        let fill = format!(
            "INSERT INTO delivery (position_id, record_offset, record_time, received_at, started_at, settled_at, day,
                 group_id, node_id, version_id, number, counted, state, verdict, message_id, key, type_name, reason,
                 fingerprint)
             SELECT p.id, n, at, at, at, at + 2000, at / 86400000000, p.group_id, 1, 2, 1, 1,
                 CASE WHEN n % 100 = 0 THEN 4 ELSE 5 END, CASE WHEN n % 100 = 0 THEN 2 ELSE 1 END,
                 'message-' || n, convert_to('key-' || n % 100000, 'UTF8'),
                 CASE WHEN n % 1000003 = 1 THEN 'Rare' ELSE 'OrderCreated' END,
                 CASE WHEN n % 100 = 0 THEN 'out of stock: item ' || n % 50 END,
                 CASE WHEN n % 100 = 0 THEN 'print-' || n / 100 % 50 END
             FROM (SELECT n, courier_now() - ({rows} - n) * 10000 AS at FROM generate_series({from}::bigint, {to} - 1) n) AS r
             JOIN (SELECT id, group_id, row_number() OVER (ORDER BY id) - 1 AS place FROM position) AS p
                 ON p.place = n % 16;
             INSERT INTO message (id, key, source, topic, type_name, kind, time, created_at, state, reason, retrying,
                 partition, kafka_offset)
             SELECT 'message-' || n, convert_to('key-' || n % 100000, 'UTF8'), 'shop', 'order', 'OrderCreated', 'event', at,
                 at, CASE WHEN n % 10000 = 7 THEN 1 ELSE 2 END, NULL, false, 0, n
             FROM (SELECT n, courier_now() - ({rows} - n) * 10000 AS at
                   FROM generate_series({from}::bigint, {to} - 1) n WHERE n % 4 = 3) AS r;"
        );
        // SQL safety: the only variables are numbers.
        sqlx::raw_sql(AssertSqlSafe(fill)).execute(&mut *database).await.context("rows are put in")?;
        from = to;
        println!("{from} of {rows} deliveries after {:.0} s", begun.elapsed().as_secs_f64());
    }
    let rest = "
        INSERT INTO open_delivery (position_id, record_offset, record_time, received_at, next_attempt_at, group_id, node_id,
            version_id, number, counted, state, verdict, held, message_id, key, type_name, reason, fingerprint)
        SELECT p.id, 2000000000 + n, courier_now(), courier_now(),
            CASE WHEN n < 2000 THEN courier_now() + 3600000000 END, p.group_id, 1, 2,
            CASE WHEN n < 2000 THEN 1 ELSE 0 END, 0, CASE WHEN n < 2000 THEN 4 ELSE 2 END, 3, false, 'open-' || n,
            convert_to('parked-' || n % 2000, 'UTF8'), 'OrderCreated', 'later', CASE WHEN n < 2000 THEN 'later' END
        FROM generate_series(0, 99999) n
        JOIN (SELECT id, group_id, row_number() OVER (ORDER BY id) - 1 AS place FROM position) AS p ON p.place = n % 16;
        INSERT INTO counter (group_id, node_id, handled, failed) SELECT id, 1, 4950000, 50000 FROM consumer_group;";
    sqlx::raw_sql(rest).execute(&mut *database).await.context("open rows are put in")?;
    sqlx::raw_sql("VACUUM ANALYZE").execute(&mut *database).await?;
    println!("filled in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}
