//! Outcomes become durable: [`rows`] makes them of decisions, [`batcher`]
//! gathers the batches of all partitions, [`writer`] commits them.

pub mod batcher;
pub mod rows;
pub mod writer;
