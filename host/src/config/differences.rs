//! The differences between two bindings, so that a reload restarts only those
//! that changed and can log what changed.

use super::Binding;

impl Binding {
    /// The keys of the TOML in which two bindings differ. Secrets are compared by
    /// value.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        // Destructured, so that a field added later cannot be forgotten here.
        let Self {
            group,
            topics,
            plugin,
            types,
            start,
            ordering,
            concurrency,
            timeout,
            cpu,
            memory,
            log,
            isolation,
            batch,
            rate_limit,
            circuit,
            dedupe,
            trace,
            broadcast_forget,
            broadcast_catch_up,
            each,
            failure,
            max_gap,
            max_hops,
            max_copied_bytes,
            paused,
            grant,
            http,
            config,
            secrets,
        } = self;
        let same = [
            ("group", *group == other.group),
            ("topics", *topics == other.topics),
            ("plugin", *plugin == other.plugin),
            ("types", *types == other.types),
            ("start", *start == other.start),
            ("ordering", *ordering == other.ordering),
            ("concurrency", *concurrency == other.concurrency),
            ("timeout", *timeout == other.timeout),
            ("cpu", *cpu == other.cpu),
            ("memory", *memory == other.memory),
            ("log", *log == other.log),
            ("isolation", *isolation == other.isolation),
            ("batch", *batch == other.batch),
            ("rate_limit", *rate_limit == other.rate_limit),
            ("circuit", *circuit == other.circuit),
            ("dedupe", *dedupe == other.dedupe),
            ("trace", *trace == other.trace),
            ("broadcast_forget", *broadcast_forget == other.broadcast_forget),
            ("broadcast_catch_up", *broadcast_catch_up == other.broadcast_catch_up),
            ("each", *each == other.each),
            ("retry", failure.retry == other.failure.retry),
            ("dead_letter", failure.dead_letter == other.failure.dead_letter),
            ("max_gap", *max_gap == other.max_gap),
            ("max_hops", *max_hops == other.max_hops),
            ("max_copied_bytes", *max_copied_bytes == other.max_copied_bytes),
            ("paused", *paused == other.paused),
            ("grant", *grant == other.grant),
            ("http", *http == other.http),
            ("config", *config == other.config),
            ("secrets", *secrets == other.secrets),
        ];
        same.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
    }
}

impl PartialEq for Binding {
    /// Whether a reload may leave the binding as it is.
    fn eq(&self, other: &Self) -> bool {
        self.differences(other).is_empty()
    }
}
