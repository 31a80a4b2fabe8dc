//! Runs one contender once.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use courier_tests::{kafka, postgres, unique, usage};
use sqlx::PgPool;

use super::contender::{Contender, Running};
use super::effects::Effects;
use super::outcome::{HANDLED, Middle, inverted, latency, lost, rows};
use super::watch::{Usage, Watch};
use super::{Plan, Workload};
use crate::load::{Load, Paced, topic};
use crate::peers::{ATTEMPTS, Contract};
use crate::processors::Processors;
use crate::stored::Stored;

/// Interval between two reads of a contender's progress.
const LOOK: Duration = Duration::from_millis(100);
/// The same while waiting for the moment to kill it.
const CRASH_LOOK: Duration = Duration::from_millis(2);
/// Wait after the last message for the contender's count of handler calls, which
/// every contender prints twice a second.
const LAST_WORD: Duration = Duration::from_millis(1_200);
/// Time limit for a contender to get its partitions assigned.
const JOIN_LIMIT: Duration = Duration::from_secs(120);
/// Time limit for the rows of a paced run, after its last record.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Measured {
    pub name: &'static str,
    /// Durable messages a second.
    pub a_second: f64,
    /// Processor time for each message of its own process, of the broker and of
    /// the database, in microseconds.
    pub own_us: f64,
    pub broker_us: f64,
    pub database_us: f64,
    pub peak_mib: f64,
    /// Latency from the broker to a durable row, at half load.
    pub half_load: Option<HalfLoad>,
    /// Whether the run was cut before its end.
    pub cut: bool,
    pub lost: u64,
    /// Calls of the handler beyond the needed ones; unknown when the run was cut.
    pub again: Option<u64>,
    /// Unknown where no row tells of a message's key.
    pub inverted: Option<u64>,
}

/// The latencies of a paced run.
#[derive(Clone, Copy, Debug)]
pub struct HalfLoad {
    pub a_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, a_second, own_us, database_us, lost, .. } = self;
        let [again, inverted] =
            [self.again, self.inverted].map(|count| count.map_or_else(|| "?".to_owned(), |count| count.to_string()));
        write!(f, "{name}: {a_second:.0} a second, own {own_us:.1} us, PostgreSQL {database_us:.1} us a message")?;
        if let Some(HalfLoad { a_second, p50_ms, p99_ms }) = self.half_load {
            write!(f, "; at {a_second:.0} a second p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms")?;
        }
        let cut = if self.cut { "; cut" } else { "" };
        write!(f, "; {lost} lost, {again} again, {inverted} inverted{cut}")
    }
}

/// Runs a contender through a full topic and, in W1, at half load.
///
/// # Errors
/// When it cannot be started, ends, or has no rate.
pub async fn run(contender: &'static Contender, plan: Plan, full: &str, own: Option<&Processors>) -> Result<Measured> {
    let mut trial = Trial::start(contender, plan, full, own).await?;
    let measured = trial.through(plan).await;
    trial.end().await?;
    let mut measured = measured?;
    if !plan.paced.is_zero() && contender.keeps_rows() {
        let paced = topic("paced").await;
        let mut trial = Trial::start(contender, plan, &paced, own).await?;
        let half = trial.paced(plan, measured.a_second).await;
        trial.end().await?;
        measured.half_load = Some(half?);
    }
    Ok(measured)
}

/// A contender with its probes.
struct Trial {
    contender: &'static Contender,
    running: Running,
    effects: Effects,
    watch: Watch,
    stored: Stored,
    pool: PgPool,
    database: String,
    topic: String,
    group: String,
}

impl Trial {
    async fn start(contender: &'static Contender, plan: Plan, topic: &str, own: Option<&Processors>) -> Result<Self> {
        let group = unique("versus");
        let database = postgres().create_database()?;
        let pool = PgPool::connect(&database).await?;
        if !contender.is_courier() {
            sqlx::raw_sql(crate::peers::SCHEMA).execute(&pool).await?;
        }
        let effects = Effects::start(plan.workload.effect_takes()).await?;
        let contract = Contract {
            bootstrap: kafka().bootstrap().to_owned(),
            topic: topic.to_owned(),
            group: group.clone(),
            database: database.clone(),
            work: plan.workload.work(),
            effects: effects.address().to_owned(),
        };
        let running = contender.start(contract).await?;
        if let Some(own) = own {
            own.keep(running.process_id())?;
        }
        let stored = Stored::open(&database).await?;
        let watch = Watch::new(&group, topic)?;
        Ok(Self { contender, running, effects, watch, stored, pool, database, topic: topic.to_owned(), group })
    }

    /// Committed offset of each partition: everything below it must be durable.
    async fn promised(&self) -> Result<Vec<i64>> {
        if self.contender.is_courier() {
            return self.watch.positions(&self.stored).await;
        }
        tokio::task::block_in_place(|| self.watch.committed())
    }

    /// Whether a host still has deliveries that wait for another attempt, which
    /// its position may already have passed.
    async fn is_open(&self) -> Result<bool> {
        if !self.contender.is_courier() {
            return Ok(false);
        }
        let open = "SELECT EXISTS (SELECT 1 FROM open_delivery)";
        Ok(sqlx::query_scalar(open).fetch_one(&self.pool).await?)
    }

    async fn is_done(&self, messages: u64) -> Result<bool> {
        let done = self.promised().await?.iter().sum::<i64>().unsigned_abs() >= messages;
        Ok(done && !self.is_open().await?)
    }

    /// Waits until its group has members.
    async fn joined(&mut self) -> Result<()> {
        let begun = Instant::now();
        while !tokio::task::block_in_place(|| self.watch.is_joined())? {
            self.running.check()?;
            ensure!(begun.elapsed() < JOIN_LIMIT, "it did not join its group within {JOIN_LIMIT:?}");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Measures the throughput on a full topic.
    async fn through(&mut self, plan: Plan) -> Result<Measured> {
        // The processor time of the start does not count.
        let mut usage = Usage::default();
        usage.look(self.running.process_id());
        self.joined().await?;
        let begun = Instant::now();
        let mut crash = plan.workload == Workload::W5;
        let cut = loop {
            self.running.check()?;
            if crash {
                let called = self.effects.count();
                ensure!(called < plan.messages, "it had called for everything before it could be killed");
                if called >= plan.messages / 2 {
                    self.running.crash().await?;
                    crash = false;
                }
            } else {
                usage.look(self.running.process_id());
                if self.is_done(plan.messages).await? {
                    break false;
                }
            }
            if begun.elapsed() >= plan.limit {
                break true;
            }
            tokio::time::sleep(if crash { CRASH_LOOK } else { LOOK }).await;
        };
        usage.look(self.running.process_id());
        let peak_mib = usage::peak_memory(self.running.process_id()) as f64 / f64::from(1 << 20);
        ensure!(!crash, "it was not half-way within {:?}, so that it was not killed", plan.limit);
        if !cut {
            tokio::time::sleep(LAST_WORD).await;
        }
        let promised = self.promised().await?;
        let rows = rows(&self.pool, self.contender, &self.group, &self.topic).await?;
        let middle = Middle::of(&rows).context("the run was too short to have a rate")?;
        let used = usage.between(middle.from, middle.to).context("the run was too short to be watched")?;
        let us = |used: Duration| used.as_secs_f64() * 1e6 / middle.messages.max(1) as f64;
        let mut lost = lost(&rows, &promised);
        let (again, inverted) = if plan.workload == Workload::W5 {
            let account = self.effects.account(plan.messages);
            if !cut {
                // A HANDLED row without the effect is a loss too.
                lost = lost.max(account.missing);
            }
            ((!cut).then_some(account.again), Some(account.inverted))
        } else {
            let handled = rows.iter().filter(|row| row.state == HANDLED).count() as u64;
            let needed = handled + (rows.len() as u64 - handled) * ATTEMPTS;
            let again = if cut { None } else { Some(self.running.calls().await?.saturating_sub(needed)) };
            (again, self.contender.keeps_rows().then(|| inverted(&rows)))
        };
        Ok(Measured {
            name: self.contender.name,
            a_second: middle.rate(),
            own_us: us(used.contender),
            broker_us: us(used.broker),
            database_us: us(used.database),
            peak_mib,
            half_load: None,
            cut,
            lost,
            again,
            inverted,
        })
    }

    /// Measures the latency at half load, for a contender that had `a_second` on a full topic.
    async fn paced(&mut self, plan: Plan, a_second: f64) -> Result<HalfLoad> {
        self.joined().await?;
        let mut load = Load::of_orders(&self.topic, plan.bytes)?;
        let producing = tokio::task::spawn_blocking(move || load.pace_half(a_second, plan.paced));
        let Paced { a_second, from, sent } = producing.await??;
        let ended = Instant::now();
        while !self.is_done(sent).await? {
            self.running.check()?;
            if ended.elapsed() > DRAIN_LIMIT {
                bail!("it had not done what was sent at {a_second:.0} a second after {DRAIN_LIMIT:?}");
            }
            tokio::time::sleep(LOOK).await;
        }
        let rows = rows(&self.pool, self.contender, &self.group, &self.topic).await?;
        let (p50_ms, p99_ms) = latency(&rows, from).context("nothing was measured after the warm-up")?;
        Ok(HalfLoad { a_second, p50_ms, p99_ms })
    }

    async fn end(self) -> Result<()> {
        let Self { running, stored, pool, database, .. } = self;
        running.end()?;
        stored.close().await;
        pool.close().await;
        postgres().drop_database(&database)
    }
}
