//! Shows the policy of a binding in the words of the TOML.

use courier_core::retry::RetryPolicy;
use courier_core::verdict::DeadLetter;

use crate::api::ports::{CircuitView, GrantView, PolicyView, RetryView};
use crate::config::{Binding, GroupStart, show_duration};
use crate::consume::attempt::binding::{BoundPlugin, RunningBinding};
use crate::engine::builtin::shown_version;
use crate::rfc3339;

/// Shows the policy of a binding.
#[must_use]
pub fn view(bound: &RunningBinding) -> PolicyView {
    let binding = &bound.binding;
    let version = match &*bound.plugin.borrow() {
        BoundPlugin::Ready(prepared) => Some(shown_version(&prepared.digest).into_owned()),
        BoundPlugin::Missing(..) => None,
    };
    PolicyView {
        version,
        start: match binding.start {
            GroupStart::Earliest => "earliest".to_owned(),
            GroupStart::Latest => "latest".to_owned(),
            GroupStart::Time(at) => rfc3339::format(at),
        },
        retry: binding.failure.retry.on_error.then(|| retry(&binding.failure.retry)),
        dead_letter: dead_letter(binding),
        timeout: show_duration(binding.timeout),
        cpu: show_duration(binding.cpu),
        memory: binding.memory,
        log: binding.log,
        batch: u32::try_from(binding.batch).unwrap_or(u32::MAX),
        max_gap: binding.max_gap,
        max_hops: binding.max_hops,
        max_copied_bytes: binding.max_copied_bytes,
        rate_limit: binding.rate_limit,
        circuit: binding
            .circuit
            .map(|circuit| CircuitView { failures: circuit.failures, open: show_duration(circuit.open) }),
        dedupe: binding.dedupe.map(show_duration),
        trace: binding.trace,
        grant: GrantView {
            publish: binding.grant.publish.clone(),
            state: binding.grant.state,
            state_bytes: binding.grant.state_bytes,
            state_keys: binding.grant.state_keys,
            state_ttl: binding.grant.state_ttl.map(show_duration),
            cache: binding.grant.cache,
            http: binding.http.allow.iter().map(ToString::to_string).collect(),
        },
    }
}

fn retry(policy: &RetryPolicy) -> RetryView {
    RetryView {
        max_attempts: policy.max_attempts,
        initial: show_duration(policy.initial),
        multiplier: policy.multiplier,
        max: show_duration(policy.max),
        jitter: policy.jitter,
        budget: policy.budget.map(show_duration),
    }
}

fn dead_letter(binding: &Binding) -> Option<String> {
    match &binding.failure.dead_letter {
        DeadLetter::Off => None,
        DeadLetter::Hold => Some("hold".to_owned()),
        DeadLetter::Topic(Some(topic)) => Some(topic.clone()),
        DeadLetter::Topic(None) => Some(format!("dlq.<topic>.{}", binding.group)),
    }
}
