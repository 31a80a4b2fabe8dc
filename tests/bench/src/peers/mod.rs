//! The programs one would write without Courier. Each promises what Courier
//! promises of a status: a durable row for each message, and an offset that is
//! committed only after it.

pub mod batched;
