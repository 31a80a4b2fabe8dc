//! Warnings about settings that are valid and will not work well.
//!
//! A file that an older version accepted must still start, so these are warnings:
//! in `courier check`, in the log, and in the console's list of attention.
//! `courier check --strict` takes a warning for an error. Only one finding is
//! always an error: a topic in which Kafka keeps its own state.
//!
//! - A companion ([`base_of_companion`]) of a bound topic is written and read by
//!   Courier alone.
//! - Kafka keeps only one of two names that differ in `.` and `_`.
//! - `dlq.a.b.c` may be the dead letters of topic `a.b` and group `c`, or of
//!   topic `a` and group `b.c`.
//! - The name of a token is its usual source. Where another token lists it among its
//!   `sources` it is not known whose it is.
//! - Bindings whose dead letters or publications lead back to one of their own
//!   topics loop until `max_hops` ends it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use courier_core::message::{Kind, base_of_companion, is_internal_topic};

use super::reader::{Section, Value};
use super::report::ByteRange;
use super::units;

/// A name and its place in the file.
struct Named {
    name: String,
    span: ByteRange,
}

/// The names in one binding.
struct Names {
    group: String,
    topics: Vec<Named>,
    grants: Vec<Named>,
    letters: Letters,
}

/// Where the dead letters of a binding go.
enum Letters {
    Nowhere,
    /// To the topic of this name.
    To(Named),
    /// To `dlq.<topic>.<group>`; the range is that of `true`.
    Own(ByteRange),
}

/// One topic leads to another through the binding of a group.
struct Lead<'a> {
    from: &'a str,
    to: String,
    group: &'a str,
    by_letters: bool,
    span: &'a ByteRange,
}

/// Checks a whole file.
pub(super) fn lint(root: &Section<'_>) {
    let bindings: Vec<Names> =
        root.get("binding").into_iter().flat_map(|all| all.as_items()).filter_map(names).collect();
    refuse_internal(root, &bindings);
    warn_of_companions(root, &bindings);
    warn_of_collisions(root, &bindings);
    warn_of_ambiguous_letters(root, &bindings);
    warn_of_circles(root, &bindings);
    warn_of_claimed_names(root);
}

/// The names of one binding, as far as they can be read: errors in them are
/// reported elsewhere.
fn names(binding: Value<'_>) -> Option<Names> {
    let binding = binding.as_open_section()?;
    let named = |value: &Value<'_>| Some(Named { name: value.as_text()?.to_owned(), span: value.span.clone() });
    let list = |value: Option<Value<'_>>| -> Vec<Named> {
        value.into_iter().flat_map(|value| value.as_items()).filter_map(|item| named(&item)).collect()
    };
    let letters =
        binding.get("dead_letter").map_or(Letters::Nowhere, |value| match (value.as_flag(), value.as_text()) {
            (Some(true), _) => Letters::Own(value.span),
            (_, Some("hold")) => Letters::Nowhere,
            (_, Some(topic)) => Letters::To(Named { name: topic.to_owned(), span: value.span }),
            _ => Letters::Nowhere,
        });
    let within = |table: &str, key: &str| binding.get(table)?.as_open_section()?.get(key);
    Some(Names {
        group: binding.get("group")?.as_text()?.to_owned(),
        topics: list(binding.get("topics")),
        grants: list(within("grant", "publish")),
        letters,
    })
}

impl Names {
    fn letters_of(&self, topic: &str) -> String {
        // As in `consume::attempt::delivery::dead_letter_topic`.
        format!("dlq.{topic}.{}", self.group)
    }

    /// Each topic, the topic of its dead letters, and where the file says so.
    fn letter_topics(&self) -> Vec<(&str, String, &ByteRange)> {
        let to = |topic: &str| match &self.letters {
            Letters::Nowhere => None,
            Letters::To(named) => Some((named.name.clone(), &named.span)),
            Letters::Own(span) => Some((self.letters_of(topic), span)),
        };
        let all = self
            .topics
            .iter()
            .filter_map(|topic| to(&topic.name).map(|(name, span)| (topic.name.as_str(), name, span)));
        all.collect()
    }

    /// The topic that `dead_letter` names.
    fn named_letters(&self) -> Option<&Named> {
        match &self.letters {
            Letters::To(named) => Some(named),
            Letters::Nowhere | Letters::Own(_) => None,
        }
    }
}

fn bound(bindings: &[Names]) -> BTreeSet<&str> {
    bindings.iter().flat_map(|binding| &binding.topics).map(|topic| topic.name.as_str()).collect()
}

fn refuse_internal(root: &Section<'_>, bindings: &[Names]) {
    for binding in bindings {
        let named = binding.topics.iter().chain(&binding.grants).chain(binding.named_letters());
        for Named { name, span } in named.filter(|named| is_internal_topic(&named.name)) {
            let message = format!("the topic {name:?} is one of Kafka's own");
            let remedy = "name a topic of yours: Kafka keeps its state there, and what lies there is no message";
            root.reader.problem(span, message, remedy);
        }
    }
}

fn warn_of_companions(root: &Section<'_>, bindings: &[Names]) {
    let bound = bound(bindings);
    for binding in bindings {
        let topics = binding.topics.iter().map(|named| (named, "bind that one: its broadcasts come with it"));
        let grants = binding.grants.iter().map(|named| (named, "handlers publish events: grant that one"));
        let letters = binding.named_letters().map(|named| (named, "name another topic for the dead letters"));
        for (Named { name, span }, remedy) in topics.chain(grants).chain(letters) {
            if let Some(base) = base_of_companion(name).filter(|base| bound.contains(base)) {
                let message = format!(
                    "the topic {name:?} carries the broadcasts of {base:?}, which is bound: only Courier writes and reads it"
                );
                root.reader.warn(span, message, remedy);
            }
        }
    }
}

/// Warns of topics that Kafka cannot have side by side, among all topics that the
/// file names or implies.
fn warn_of_collisions(root: &Section<'_>, bindings: &[Names]) {
    let mut all: Vec<(String, &ByteRange)> = Vec::new();
    for binding in bindings {
        let named = binding.topics.iter().chain(&binding.grants);
        all.extend(named.map(|named| (named.name.clone(), &named.span)));
        all.extend(binding.letter_topics().into_iter().map(|(_, name, span)| (name, span)));
    }
    for binding in bindings {
        let companions = binding.topics.iter().map(|named| (Kind::Broadcast.log_topic(&named.name), &named.span));
        all.extend(
            companions.filter(|(name, _)| name.len() <= units::MAX_NAME).map(|(name, span)| (name.into_owned(), span)),
        );
    }
    let mut first: HashMap<String, (String, &ByteRange)> = HashMap::new();
    let mut told: BTreeSet<(String, String)> = BTreeSet::new();
    for (name, span) in all {
        let (other, place) = first.entry(name.replace('.', "_")).or_insert_with(|| (name.clone(), span));
        // One warning serves for two topics and their companions.
        let base = |name: &str| base_of_companion(name).unwrap_or(name).to_owned();
        if *other == name || !told.insert((base(other), base(&name))) {
            continue;
        }
        let message = format!("the topics {other:?} and {name:?} differ only in '.' and '_': Kafka takes one of them");
        root.reader.warn_of_two(span, place, "the other one", message, "give one of them another name");
    }
}

fn warn_of_ambiguous_letters(root: &Section<'_>, bindings: &[Names]) {
    let mut first: HashMap<String, (&str, &str, &ByteRange)> = HashMap::new();
    for binding in bindings {
        let Letters::Own(span) = &binding.letters else { continue };
        for topic in &binding.topics {
            let letters = binding.letters_of(&topic.name);
            let (of, group, place) = *first.entry(letters.clone()).or_insert((&topic.name, &binding.group, span));
            if (of, group) != (topic.name.as_str(), binding.group.as_str()) {
                let message = format!(
                    "{letters:?} would hold the dead letters of topic {of:?} for group {group:?} and those of topic {:?} \
                     for group {:?}",
                    topic.name, binding.group
                );
                root.reader.warn_of_two(
                    span,
                    place,
                    "the other one",
                    message,
                    "name a topic for one: dead_letter = \"dead\"",
                );
            }
        }
    }
}

fn warn_of_circles(root: &Section<'_>, bindings: &[Names]) {
    let mut leads: Vec<Lead<'_>> = Vec::new();
    for binding in bindings {
        let group = binding.group.as_str();
        for (from, to, span) in binding.letter_topics() {
            leads.push(Lead { from, to, group, by_letters: true, span });
        }
        for topic in &binding.topics {
            let grants = binding.grants.iter();
            leads.extend(grants.map(|grant| Lead {
                from: &topic.name,
                to: grant.name.clone(),
                group,
                by_letters: false,
                span: &grant.span,
            }));
        }
    }
    let mut told: BTreeSet<&str> = BTreeSet::new();
    let leads = in_circles(leads);
    for (at, lead) in leads.iter().enumerate() {
        if told.contains(lead.from) {
            continue;
        }
        let Some(back) = way(&leads, &lead.to, lead.from) else { continue };
        let steps = std::iter::once(at).chain(back);
        let mut chain = lead.from.to_owned();
        for step in steps.map(|step| &leads[step]) {
            told.insert(step.from);
            let how = if step.by_letters { "dead letters of" } else { "published by" };
            chain.push_str(&format!(" -> {} ({how} group {})", step.to, step.group));
        }
        let remedy =
            "let one of them lead elsewhere; until then max_hops of the bindings ends such a chain, unless it is 0";
        root.reader.warn(lead.span, format!("topics lead into one another: {chain}"), remedy);
    }
}

/// Warns of tokens among whose sources is the name of another token.
fn warn_of_claimed_names(root: &Section<'_>) {
    let Some(auth) = root.get("auth").and_then(|auth| auth.as_open_section()) else { return };
    let mut names: Vec<Named> = Vec::new();
    let mut sources: Vec<(String, Named)> = Vec::new();
    for token in auth.get("tokens").into_iter().flat_map(|all| all.as_items()) {
        let Some(token) = token.as_open_section() else { continue };
        let named = |value: &Value<'_>| Some(Named { name: value.as_text()?.to_owned(), span: value.span.clone() });
        let Some(name) = token.get("name").and_then(|value| named(&value)) else { continue };
        let listed = token.get("sources").into_iter().flat_map(|all| all.as_items());
        sources.extend(listed.filter_map(|item| Some((name.name.clone(), named(&item)?))));
        names.push(name);
    }
    for (token, Named { name: source, span }) in &sources {
        let Some(other) = names.iter().find(|other| other.name == *source && other.name != *token) else { continue };
        let message = format!(
            "the source {source:?} of the token {token:?} is the name of another token, and its usual source: it is \
             proven for neither"
        );
        let remedy = "remove it, or give the other token another name";
        root.reader.warn_of_two(span, &other.span, "the other token", message, remedy);
    }
}

/// Drops leads that cannot be part of a circle: leads to a topic without a lead
/// from it, and from a topic without a lead to it.
fn in_circles(mut leads: Vec<Lead<'_>>) -> Vec<Lead<'_>> {
    loop {
        let before = leads.len();
        let from: BTreeSet<String> = leads.iter().map(|lead| lead.from.to_owned()).collect();
        let to: BTreeSet<String> = leads.iter().map(|lead| lead.to.clone()).collect();
        leads.retain(|lead| from.contains(&lead.to) && to.contains(lead.from));
        if leads.len() == before {
            return leads;
        }
    }
}

/// The shortest path from one topic to another, as indexes of `leads`.
fn way(leads: &[Lead<'_>], from: &str, to: &str) -> Option<Vec<usize>> {
    if from == to {
        return Some(Vec::new());
    }
    let mut leaving: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, lead) in leads.iter().enumerate() {
        leaving.entry(lead.from).or_default().push(at);
    }
    let mut came_by: HashMap<&str, usize> = HashMap::new();
    let mut next = VecDeque::from([from]);
    while let Some(topic) = next.pop_front() {
        for at in leaving.get(topic).into_iter().flatten().copied() {
            let reached = leads[at].to.as_str();
            if reached == from || came_by.contains_key(reached) {
                continue;
            }
            came_by.insert(reached, at);
            if reached == to {
                return Some(walked_back(leads, &came_by, from, to));
            }
            next.push_back(reached);
        }
    }
    None
}

fn walked_back(leads: &[Lead<'_>], came_by: &HashMap<&str, usize>, from: &str, to: &str) -> Vec<usize> {
    let mut steps = Vec::new();
    let mut topic = to;
    while topic != from {
        // Every topic on the way was reached by a lead.
        let Some(at) = came_by.get(topic) else { break };
        steps.push(*at);
        topic = leads[*at].from;
    }
    steps.reverse();
    steps
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    fn binding(group: &str, topics: &str, more: &str) -> String {
        format!("[[binding]]\ngroup = \"{group}\"\ntopics = [{topics}]\nplugin = \"p\"\n{more}\n")
    }

    /// Each warning of a file that is valid, as people read it.
    #[track_caller]
    fn warnings(text: &str) -> Vec<String> {
        let config = parse("courier.toml", text, &|_| None).unwrap_or_else(|error| panic!("{error}"));
        config.warnings.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn one_warning(text: &str, place: &str, words: &[&str]) {
        let found = warnings(text);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with(&format!("courier.toml:{place}: ")), "{found:#?}");
        for word in words {
            assert!(found[0].contains(word), "{word}: {found:#?}");
        }
    }

    #[test]
    fn topics_of_kafkas_own_are_refused_wherever_they_stand() {
        for (text, line, column) in [
            (binding("g", "\"__consumer_offsets\"", ""), 3, 11),
            (binding("g", "\"a\"", "dead_letter = \"__consumer_offsets\""), 5, 15),
            (binding("g", "\"a\"", "[binding.grant]\npublish = [\"b\", \"__transaction_state\"]"), 6, 17),
        ] {
            let error = parse("courier.toml", &text, &|_| None).expect_err(&text);
            let problem = &error.errors()[0];
            assert_eq!((error.errors().len(), problem.line, problem.column), (1, line, column), "{error}");
            assert!(problem.message.contains("one of Kafka's own"), "{error}");
        }
        assert!(warnings(&binding("g", "\"__mine\"", "")).is_empty(), "two underscores alone are nobody's");
    }

    #[test]
    fn a_companion_of_a_bound_topic_is_told_wherever_it_stands() {
        let order = binding("g", "\"order\"", "");
        one_warning(
            &format!("{order}{}", binding("h", "\"order.broadcast\"", "")),
            "8:11",
            &["carries the broadcasts of \"order\"", "its broadcasts come with it"],
        );
        let granted = binding("g", "\"order\"", "[binding.grant]\npublish = [\"order.broadcast\"]");
        one_warning(&granted, "6:12", &["carries the broadcasts", "grant that one"]);
        let letters = binding("g", "\"order\"", "dead_letter = \"order.broadcast\"");
        one_warning(&letters, "5:15", &["name another topic for the dead letters"]);
        assert!(warnings(&binding("g", "\"order.broadcast\"", "")).is_empty(), "order is not bound: an ordinary name");
    }

    /// Groups `stock.eu` and `stock_eu`: Kafka refuses the second topic for ever.
    #[test]
    fn names_that_differ_in_dots_and_underscores_are_told_once() {
        let text = format!(
            "{}{}",
            binding("stock.eu", "\"order\"", "dead_letter = true"),
            binding("stock_eu", "\"order\"", "dead_letter = true")
        );
        one_warning(&text, "10:15", &["\"dlq.order.stock.eu\" and \"dlq.order.stock_eu\"", "Kafka takes one of them"]);
        one_warning(&binding("g", "\"a.b\", \"a_b\"", ""), "3:18", &["\"a.b\" and \"a_b\""]);
        assert!(warnings(&binding("g", "\"a.b\", \"a-b\"", "")).is_empty());
    }

    #[test]
    fn dead_letters_that_could_be_of_two_topics_are_told() {
        let text = format!(
            "{}{}",
            binding("c", "\"a.b\"", "dead_letter = true"),
            binding("b.c", "\"a\"", "dead_letter = true")
        );
        one_warning(
            &text,
            "10:15",
            &["\"dlq.a.b.c\"", "topic \"a.b\" for group \"c\"", "topic \"a\" for group \"b.c\""],
        );
    }

    /// Two topics as each other's dead letter topics made 13,000 letters of one
    /// message in 2.5 minutes.
    #[test]
    fn circles_of_dead_letters_and_publications_are_told_once() {
        let letters =
            format!("{}{}", binding("g", "\"a\"", "dead_letter = \"b\""), binding("h", "\"b\"", "dead_letter = \"a\""));
        one_warning(&letters, "5:15", &["a -> b (dead letters of group g) -> a (dead letters of group h)", "max_hops"]);
        let mixed = format!(
            "{}{}{}",
            binding("g", "\"a\"", "[binding.grant]\npublish = [\"x\", \"b\"]"),
            binding("h", "\"b\"", "dead_letter = true"),
            binding("k", "\"dlq.b.h\"", "[binding.grant]\npublish = [\"a\"]")
        );
        let chain = "a -> b (published by group g) -> dlq.b.h (dead letters of group h) -> a (published by group k)";
        one_warning(&mixed, "6:17", &[chain]);
        let own = binding("g", "\"a\"", "[binding.grant]\npublish = [\"a\"]");
        one_warning(&own, "6:12", &["a -> a (published by group g)"]);
        let line = format!(
            "{}{}",
            binding("g", "\"a\"", "dead_letter = true\n[binding.grant]\npublish = [\"b\"]"),
            binding("h", "\"b\"", "dead_letter = true")
        );
        assert!(warnings(&line).is_empty(), "a chain that ends is none");
    }
    /// Issue 17: the usual source of one token was among the sources of another one.
    #[test]
    fn the_name_of_another_token_among_sources_is_told() {
        let secret = |name: &str| Some(format!("{name}-0123456789abcdefghijk"));
        let told = |first: &str, second: &str| {
            let token = |name: &str, more: &str| {
                format!("[[auth.tokens]]\nname = \"{name}\"\nrole = \"publisher\"\nenv = \"{name}\"\n{more}\n")
            };
            let text = format!("{}{}", token("gateway", first), token("shop", second));
            let config = parse("courier.toml", &text, &secret).unwrap_or_else(|error| panic!("{error}"));
            config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let found = told("sources = [\"/gateway\", \"shop\"]", "");
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with("courier.toml:5:24: "), "{found:#?}");
        for words in ["\"shop\" of the token \"gateway\" is the name of another token", "proven for neither"] {
            assert!(found[0].contains(words), "{words}: {found:#?}");
        }
        let found = told("sources = [\"/gateway\", \"gateway\"]", "sources = [\"/gateway\"]");
        assert!(found.is_empty(), "its own name, and a source that two share: {found:#?}");
    }
}
