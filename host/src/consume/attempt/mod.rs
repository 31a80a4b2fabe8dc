//! One attempt: a ready delivery takes its permits and runs in a sandbox.
//!
//! [`worker`] is the loop that takes deliveries from the [`ready_queue`] and
//! invokes the handler; [`delivery`] makes the call and judges its outcome. The
//! [`circuit_breaker`] and the [`effects_budget`] say when none may start.

pub mod binding;
pub mod circuit_breaker;
pub mod delivery;
pub mod effects_budget;
pub mod finished;
pub mod finished_batch;
pub mod idle_sandboxes;
pub mod plugin_versions;
pub mod ready_queue;
pub mod unavailable;
pub mod worker;
