//! Groups that keep the processors busy leave room for those that do not.
//!
//! The [`controller`] watches how the groups keep up and limits the CPU of those
//! that are behind; a [`cpu_bucket`] holds what a group may use, and a
//! [`worker_throttle`] makes an attempt wait for it.

pub mod cgroup;
pub mod controller;
pub mod cpu_bucket;
pub mod cpu_load;
pub mod priority_mutex;
pub mod worker_throttle;
