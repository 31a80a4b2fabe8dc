//! What of the contract a handler uses. The component imports that and no more,
//! so that its list of imports says what the handler can do.

use anyhow::bail;

use super::world::World;

/// A capability that a handler may declare in `uses`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Capability {
    Publish,
    State,
    Cache,
    Config,
    Http,
}

use Capability::{Cache, Config, Http, Publish, State};

impl Capability {
    const ALL: [Self; 5] = [Publish, State, Cache, Config, Http];

    fn name(self) -> &'static str {
        match self {
            Publish => "publish",
            State => "state",
            Cache => "cache",
            Config => "config",
            Http => "http",
        }
    }

    /// The words without which no source can use it: the members of the context
    /// and `fetch`.
    fn words(self) -> &'static [&'static str] {
        match self {
            Publish => &["publish", "publishTombstone"],
            State => &["state"],
            Cache => &["cache"],
            Config => &["config", "secret"],
            Http => &["fetch"],
        }
    }

    fn interfaces(self, world: World) -> &'static [&'static str] {
        match (self, world) {
            (Publish, World::Handler) => &["courier:plugin/publish@2.0.0"],
            (Publish, World::BatchHandler) => &["courier:plugin/batch-publish@2.0.0"],
            (State, World::Handler) => &["courier:plugin/state@2.0.0"],
            (State, World::BatchHandler) => &["courier:plugin/batch-state@2.0.0"],
            (Cache, _) => &["courier:plugin/cache@2.0.0"],
            (Config, _) => &["courier:plugin/config@2.0.0"],
            (Http, _) => &["wasi:http/types@0.2.12", "wasi:http/outgoing-handler@0.2.12", "wasi:io/streams@0.2.12"],
        }
    }
}

/// The capabilities of one handler, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Uses(Vec<Capability>);

impl Uses {
    /// What the handler declares.
    pub(super) fn declared(names: &[String]) -> anyhow::Result<Self> {
        let mut found = Vec::new();
        for name in names {
            match Capability::ALL.into_iter().find(|known| known.name() == name) {
                Some(known) => found.push(known),
                // The log is always there.
                None if name == "log" => {}
                None => bail!("uses: [{name:?}] is not known: write some of publish, state, cache, config, http"),
            }
        }
        found.sort();
        found.dedup();
        Ok(Self(found))
    }

    /// What the sources can use at all: a capability none of whose words stands
    /// in them is left out.
    pub(super) fn found_in<'a>(sources: impl Iterator<Item = &'a str> + Clone) -> Self {
        let is_used = |capability: &Capability| {
            sources.clone().any(|source| words(source).any(|word| capability.words().contains(&word)))
        };
        Self(Capability::ALL.into_iter().filter(is_used).collect())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|capability| capability.name())
    }

    /// The interfaces to import. Time, random numbers and the log need no grant.
    pub(super) fn interfaces(&self, world: World) -> impl Iterator<Item = &'static str> {
        let always = [
            "courier:plugin/log@2.0.0",
            "wasi:clocks/monotonic-clock@0.2.12",
            "wasi:io/poll@0.2.12",
            "wasi:random/random@0.2.12",
        ];
        always.into_iter().chain(self.0.iter().flat_map(move |capability| capability.interfaces(world).iter().copied()))
    }
}

/// The words of a source, in which names are looked for.
pub(super) fn words(source: &str) -> impl Iterator<Item = &str> {
    source.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '$')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_what_is_declared_or_can_be_used() {
        let found = |source: &'static str| Uses::found_in([source].into_iter()).names().collect::<Vec<_>>();
        assert_eq!(found("ctx.log('a'); ctx.published"), [""; 0]);
        assert_eq!(found("const { state } = ctx; await ctx.publish(x); fetch(y)"), ["publish", "state", "http"]);
        assert_eq!(found("ctx.secret('k')"), ["config"]);
        let declared =
            |names: &[&str]| Uses::declared(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let uses = declared(&["cache", "log", "publish"]).unwrap();
        assert_eq!(uses.names().collect::<Vec<_>>(), ["publish", "cache"]);
        let refusal = declared(&["files"]).unwrap_err().to_string();
        assert!(refusal.contains("\"files\"] is not known"), "{refusal}");
    }
}
