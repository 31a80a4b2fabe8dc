//! The cost of the console's list indexes: W1 with a reused sandbox, in turn with
//! and without those indexes.

use anyhow::Result;

use crate::contender::{Contender, Running};
use crate::journey::{Common, rate};
use crate::load::full_topic;
use crate::table::{machine, spread};

/// The indexes that migrations add for the console's lists, in either dialect.
const OF_LISTS: &[&str] = &[
    "dead_letter_at",
    "dead_letter_group",
    "open_delivery_head",
    "open_delivery_failed",
    "open_delivery_received",
    "open_delivery_fingerprint",
    "message_unheard",
];

/// Measures with each store.
///
/// # Errors
/// When a server cannot be started or a run does not finish.
pub async fn run(arguments: &Common) -> Result<()> {
    println!("{}", machine());
    let full = full_topic("indexes", vec![b'x'; 100], arguments.messages).await?;
    println!("store     with them a second            without them a second         with / without");
    for store in &arguments.store {
        let [mut with, mut without, mut ratios] = [const { Vec::new() }; 3];
        for run in 1..=arguments.runs {
            let mut pair = [0.0; 2];
            for (at, dropped) in [(0, &[][..]), (1, OF_LISTS)] {
                let mut running = Running::start(Contender::Reused, store.store(), &full).await?;
                running.drop_indexes(dropped).await?;
                let rate = rate(&mut running, arguments.messages).await;
                running.end().await?;
                pair[at] = rate?.a_second;
            }
            eprintln!("run {run}: {store:?}: {:.0} a second with them, {:.0} without", pair[0], pair[1]);
            with.push(pair[0]);
            without.push(pair[1]);
            ratios.push(pair[0] / pair[1]);
        }
        let (with, without, ratios) = (spread(with, 0), spread(without, 0), spread(ratios, 2));
        println!("{:<10}{with:<30}{without:<30}{ratios}", format!("{store:?}"));
    }
    Ok(())
}
