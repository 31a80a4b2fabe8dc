//! Valid files, invalid files, and files changed at random.

use std::time::Duration;

use courier_core::message::Timestamp;
use courier_core::retry::RetryPolicy;
use courier_core::verdict::{DeadLetter, FailurePolicy};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

const EXAMPLE: &str = include_str!("example.toml");
/// A file beside the example's schema, so that the schema is found.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/courier.toml");

fn env(name: &str) -> Option<String> {
    Some(match name {
        "KAFKA_PASSWORD" => "kafka-secret".to_owned(),
        "OPS_TOKEN" => "ops-secret".to_owned(),
        "SHOP_TOKEN" => "shop-secret".to_owned(),
        "SHOP_DATABASE" => "postgres://shop:db-secret@db/shop".to_owned(),
        "API_KEY" => "api-secret".to_owned(),
        "EMPTY" => String::new(),
        _ => return None,
    })
}

fn parsed(text: &str) -> Result<Config, ConfigError> {
    parse(FILE, text, &env)
}

/// The only error of `text` stands at `line` and `column`, says `message` and
/// advises `remedy` (parts of each).
#[track_caller]
fn check(text: &str, line: usize, column: usize, message: &str, remedy: &str) {
    let error = parsed(text).expect_err("an error");
    let drawn = error.to_string();
    assert_eq!(error.errors().len(), 1, "one error:\n{drawn}");
    let problem = &error.errors()[0];
    assert_eq!((problem.line, problem.column), (line, column), "place:\n{drawn}");
    assert!(problem.message.contains(message), "message {message:?}:\n{drawn}");
    assert!(problem.remedy.contains(remedy), "remedy {remedy:?}:\n{drawn}");
    assert!(drawn.contains(&format!("courier.toml:{line}:{column}")), "drawn place:\n{drawn}");
    assert!(drawn.contains(remedy), "drawn remedy:\n{drawn}");
}

/// [`check`] for lines added to a binding, of which the first is line 5.
#[track_caller]
fn check_binding(lines: &str, line: usize, column: usize, message: &str, remedy: &str) {
    let text = format!("[[binding]]\ngroup = \"stock\"\ntopics = [\"order\"]\nplugin = \"order-handler\"\n{lines}\n");
    check(&text, line, column, message, remedy);
}

/// Issue 21: duplicates are found by the rows that `trace = "failures"` leaves out.
#[test]
fn a_group_without_rows_of_what_it_handled_cannot_dedupe() {
    let binding = |lines: &str| {
        let text = format!("[[binding]]\ngroup = \"g\"\ntopics = [\"t\"]\nplugin = \"p\"\n{lines}\n");
        parsed(&text).unwrap_or_else(|error| panic!("{error}")).bindings.remove(0).trace
    };
    assert_eq!(binding(""), Trace::All);
    assert_eq!(binding("trace = \"all\"\ndedupe = \"10m\""), Trace::All);
    assert_eq!(binding("trace = \"failures\""), Trace::Failures);
    let remedy = "write trace = \"all\"";
    check_binding("trace = \"failures\"\ndedupe = \"10m\"", 5, 9, "`dedupe` finds doubles by the rows", remedy);
    check_binding("trace = \"none\"", 5, 9, "`binding.trace` is \"none\"", "\"all\" or \"failures\"");
}

#[test]
fn the_example_says_what_it_means() {
    let config = parsed(EXAMPLE).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.server.listen.to_string(), "0.0.0.0:7070");
    assert_eq!(config.kafka.bootstrap_servers, ["kafka-1:9092", "kafka-2:9092"]);
    let properties = &config.kafka.properties;
    assert_eq!(properties["sasl.mechanism"].expose(), "SCRAM-SHA-256", "dots without quotes");
    assert_eq!(properties["socket.timeout.ms"].expose(), "30000");
    assert!(matches!(properties["sasl.password"], Property::Secret(_)));
    assert_eq!(config.kafka.topics, OwnTopics { create: true, partitions: 12, replication: 3 });
    assert_eq!(config.auth.tokens[1].role, Role::Publisher);
    assert_eq!(config.auth.tokens[1].sources, Some(vec!["/eu/shop".to_owned()]));
    assert_eq!(config.kafka.max_record, 32 << 20);
    assert_eq!((config.plugins[0].name.as_str(), config.plugins[0].imports.len()), ("order-handler", 2));
    assert_eq!(config.outboxes[0].table, "shop.courier_outbox");
    let broken = |body: &str| config.topics[0].broken_by("order", "OrderCreated", body.as_bytes());
    assert!(broken("{}").is_some() && broken(r#"{"order_id":"o-1"}"#).is_none());
    let [stock, audit] = config.bindings.as_slice() else { panic!("two bindings") };
    assert_eq!(stock.start, GroupStart::Time(Timestamp(1_769_846_400_000_000)));
    assert_eq!(stock.circuit, Some(Circuit { failures: 20, open: Duration::from_secs(30) }));
    assert_eq!(stock.failure.dead_letter, DeadLetter::Hold);
    assert_eq!((stock.failure.retry.max_attempts, stock.failure.retry.multiplier), (7, 3.0));
    assert_eq!(stock.http.allow[1].to_string(), "[2001:db8::1]:8443");
    assert_eq!(stock.config["limit"], "10");
    assert_eq!(stock.isolation, Isolation::Batch);
    let grant = &stock.grant;
    let month = Duration::from_secs(30 * 86_400);
    assert_eq!((grant.state_bytes, grant.state_keys, grant.state_ttl), (1 << 30, 5_000_000, Some(month)));
    assert!(audit.plugin.digest.as_ref().is_some_and(|digest| digest.starts_with("sha256:0123")));
    let shown = format!("{config:?}");
    assert!(!shown.contains("-secret"), "no secret is shown: {shown}");
}

#[test]
fn an_empty_file_is_a_host_without_bindings() {
    let config = parsed("").unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:7070");
    assert!(!config.server.node.is_empty());
    assert_eq!(config.kafka.bootstrap_servers, ["localhost:9092"]);
    assert_eq!(config.store.url.expose(), "sqlite://courier.db");
    assert_eq!(config.store.retention, Duration::from_secs(604_800));
    assert!(config.bindings.is_empty());
}

#[test]
fn a_binding_needs_three_lines_and_has_defaults_for_the_rest() {
    let text = "[[binding]]\ngroup = \"stock\"\ntopics = [\"order\"]\nplugin = \"order-handler\"\n";
    let binding = parsed(text).unwrap().bindings.remove(0);
    assert_eq!(binding.start, GroupStart::Earliest);
    assert_eq!((binding.ordering, binding.isolation), (Ordering::Key, Isolation::Message));
    assert_eq!((binding.concurrency, binding.batch, binding.max_gap), (64, 1, 50_000));
    assert_eq!((binding.memory, binding.log), (64 << 20, 64 << 10));
    assert_eq!((binding.timeout, binding.cpu), (Duration::from_secs(5), Duration::from_millis(500)));
    assert_eq!(binding.failure, FailurePolicy::default());
    assert_eq!(binding.grant, Grant::default());
    let grant = &binding.grant;
    assert_eq!((grant.state_bytes, grant.state_keys, grant.state_ttl), (256 << 20, 1_000_000, None));
    let retried = parsed(&format!("{text}[binding.retry]\n")).unwrap().bindings.remove(0);
    let expected = RetryPolicy { on_error: true, max_attempts: 5, ..RetryPolicy::default() };
    assert_eq!(retried.failure.retry, expected, "the table alone asks for retries");
    assert_ne!(binding, retried, "a reload sees the change");
    assert_eq!(binding.differences(&retried), ["retry"], "and says what it is");
    assert_eq!((binding.max_hops, parsed(&format!("{text}max_hops = 0\n")).unwrap().bindings[0].max_hops), (32, 0));
    let copied = |line: &str| parsed(&format!("{text}{line}")).unwrap().bindings[0].max_copied_bytes;
    assert_eq!((copied(""), copied("max_copied_bytes = \"2GiB\"\n")), (256 << 20, 2 << 30));
    let batched = parsed(&format!("{text}batch = 10\n")).unwrap().bindings.remove(0);
    assert_eq!(batched.isolation, Isolation::Batch, "what is handed over together shares a sandbox");
}

#[test]
fn quotas_and_rules_of_uploads_say_what_is_wrong_with_them() {
    check_binding("concurrency = 5001", 5, 15, "5001", "5000");
    check_binding("[binding.grant]\nstate_bytes = \"1KiB\"", 6, 15, "1KiB", "1MiB");
    check("[kafka]\nmax_record = \"10KiB\"\n", 2, 14, "10KiB", "1MiB");
    let rule = "[[plugin]]\nname = \"p\"\n";
    check(rule, 1, 1, "`imports`", "name what it may import");
    check(&format!("{rule}imports = [\"publish\"]\n"), 3, 12, "\"publish\" is no import", "courier:plugin/publish");
    check(&format!("{rule}imports = []\n{rule}imports = []\n"), 5, 8, "\"p\" stands twice", "one of them");
    let token =
        "[auth]\ntokens = [{ name = \"shop\", role = \"publisher\", env = \"SHOP_TOKEN\", sources = [\"\"] }]\n";
    check(token, 2, 79, "\"\" is no source", "1 to 255 characters");
}

#[test]
fn a_changed_secret_is_a_changed_binding() {
    let with = |secret: &str| {
        let secret = secret.to_owned();
        parse(FILE, EXAMPLE, &move |name| if name == "API_KEY" { Some(secret.clone()) } else { env(name) })
    };
    let (one, same, other) = (with("a").unwrap(), with("a").unwrap(), with("b").unwrap());
    assert_eq!(one.bindings, same.bindings);
    assert_ne!(one.bindings[0], other.bindings[0]);
}

#[test]
fn wrong_toml_is_shown_where_it_is() {
    check("[server\n", 1, 8, "", "correct the TOML");
    check("[server]\nnode = host-1\n", 2, 8, "string", "double quotes");
    check("[server]\nnode = \"a\"\nnode = \"b\"\n", 3, 1, "duplicate key", "keep one");
}

#[test]
fn unknown_keys_come_with_a_guess() {
    check("[sever]\n", 1, 2, "unknown key `sever`", "did you mean `server`?");
    check("banana = 1\n", 1, 1, "unknown key `banana` in the file", "knows `server`, `kafka`");
    check("[server]\nbanana = 1\n", 2, 1, "unknown key", "knows `listen`, `node`, `public_url` and `tls`");
    check_binding("tiemout = \"5s\"", 5, 1, "`tiemout` in [binding]", "did you mean `timeout`?");
    check_binding("max_attempts = 3", 5, 1, "unknown key `max_attempts`", "belongs in [binding.retry]");
    check_binding("[binding.grant]\npublsh = []", 6, 1, "in [binding.grant]", "did you mean `publish`?");
    check("[binding]\ngroup = \"a\"\n", 1, 2, "must be an array of tables", "write [[binding]], with two brackets");
    check("[[kafka]]\n", 1, 3, "must be one table", "write [kafka], with single brackets");
}

#[test]
fn the_host_is_checked() {
    check("[server]\nlisten = \"7070\"\n", 2, 10, "no address", "127.0.0.1:7070");
    check("[server]\nlisten = 7070\n", 2, 10, "is a number, and text is wanted", "listen = \"127.0.0.1:7070\"");
    check("[server]\nlisten = \"0.0.0.0:7070\"\n", 2, 10, "no token is needed", "add [auth] with tokens");
    check("[server]\nnode = \"my host\"\n", 2, 8, "my host", "remove ' '");
    check("[store]\nurl = \"mysql://db\"\n", 2, 7, "neither SQLite nor PostgreSQL", "sqlite://courier.db");
    check("[store]\nurl = \"sqlite://\"\n", 2, 7, "names no file", "sqlite://courier.db");
    check("[store]\nretention = \"7 days\"\n", 2, 13, "no duration", "one of ms, s, m, h, d");
    check("[store]\nretention = \"1s\"\n", 2, 13, "is 1s", "from 1m to 3650d");
    check("[transactions]\ncheck_urls = [\"ftp://a/\"]\n", 2, 15, "no such URL", "http or https");
    check("[transactions]\ncheck_urls = [\"https://shop*\"]\n", 2, 15, "wrong place", "\"https://shop/*\"");
    check("[[outbox]]\nname = \"shop\"\n", 1, 1, "`url` is missing", "name the sender's database");
    let outbox = "[[outbox]]\nname = \"shop\"\nurl = \"sqlite://a.db\"\n";
    check(&format!("{outbox}table = \"a;drop\"\n"), 4, 9, "no plain name", "letters, digits and '_'");
    check(&format!("{outbox}{outbox}"), 5, 8, "two outboxes are named", "a name of its own");
}

#[test]
fn kafka_is_checked() {
    check("[kafka]\nbootstrap_servers = \"a:9092\"\n", 2, 21, "an array is wanted", "[\"localhost:9092\"]");
    check("[kafka]\nbootstrap_servers = [\"kafka\"]\n", 2, 22, "no broker", "\"kafka:9092\"");
    check("[kafka]\nbootstrap_servers = []\n", 2, 21, "is empty", "at least one broker");
    let property = |line: &str| format!("[kafka.properties]\n{line}\n");
    check(&property("\"group.id\" = \"a\""), 2, 1, "Courier sets `group.id` itself", "write group in each [[binding]]");
    check(&property("enable.auto.commit = true"), 2, 13, "Courier sets `enable.auto.commit`", "once the store has");
    check(&property("\"sasl.mechansim\" = \"PLAIN\""), 2, 1, "no property `sasl.mechansim`", "CONFIGURATION.md");
    check(&property("\"socket.timeout.ms\" = \"soon\""), 2, 23, "refuses the value", "correct it");
    check(
        &property("\"sasl.password\" = \"hunter2\""),
        2,
        19,
        "in plain text",
        "\"sasl.password\" = { env = \"NAME\" }",
    );
    check(&property("\"sasl.password\" = { env = \"UNSET\" }"), 2, 27, "UNSET is not set", "export UNSET=..");
    check(&property("\"sasl.password\" = { env = \"EMPTY\" }"), 2, 27, "EMPTY is empty", "set EMPTY");
    check(&property("\"sasl.password\" = { file = \"/no/such\" }"), 2, 28, "cannot read", "let courier read it");
    check(&property("\"sasl.password\" = { env = \"API_KEY\", file = \"x\" }"), 2, 38, "two sources", "keep either");
    check("[kafka.topics]\npartitions = 0\n", 2, 14, "is 0", "from 1 to 10000");
}

#[test]
fn tokens_are_checked() {
    let tokens = |tokens: &str| format!("[auth]\ntokens = [{tokens}]\n");
    check(
        &tokens("{ name = \"a\", role = \"root\", env = \"OPS_TOKEN\" }"),
        2,
        32,
        "\"root\"",
        "\"viewer\", \"publisher\"",
    );
    check(&tokens("{ name = \"a\", role = \"admin\" }"), 2, 11, "has no secret", "env = \"SHOP_TOKEN\"");
    check(&tokens("{ name = \"a\", role = \"admin\", env = \"UNSET\" }"), 2, 47, "UNSET is not set", "export UNSET");
    let twice = "{ name = \"a\", role = \"admin\", env = \"OPS_TOKEN\" }, { name = \"a\", role = \"admin\", env = \"API_KEY\" }";
    check(&tokens(twice), 2, 71, "two tokens are named \"a\"", "a name of its own");
    let same =
        "{ name = \"a\", role = \"admin\", env = \"API_KEY\" }, { name = \"b\", role = \"admin\", env = \"API_KEY\" }";
    check(&tokens(same), 2, 60, "have the same secret", "a secret of its own");
    let limited = "{ name = \"a\", role = \"admin\", env = \"API_KEY\", topics = [] }";
    check(&tokens(limited), 2, 67, "`topics` is empty", "leave `topics` out");
}

#[test]
fn bindings_are_checked() {
    check("[[binding]]\ntopics = [\"a\"]\nplugin = \"p\"\n", 1, 1, "`group` is missing", "group = \"stock\"");
    check("[[binding]]\ngroup = \"a\"\ntopics = []\nplugin = \"p\"\n", 3, 10, "is empty", "at least one topic");
    check("[[binding]]\ngroup = \"a b\"\ntopics = [\"a\"]\nplugin = \"p\"\n", 2, 9, "\"a b\"", "remove ' '");
    check("[[binding]]\ngroup = \"a\"\ntopics = [\"a/b\"]\nplugin = \"p\"\n", 3, 11, "\"a/b\"", "remove '/'");
    check("[[binding]]\ngroup = \"a\"\ntopics = [\"a\", \"a\"]\nplugin = \"p\"\n", 3, 16, "stands twice", "remove one");
    check(
        "[[binding]]\ngroup = \"a\"\ntopics = [\"a\"]\nplugin = \"My_Plugin\"\n",
        4,
        10,
        "My_Plugin",
        "\"my-plugin\"",
    );
    let version = "[[binding]]\ngroup = \"a\"\ntopics = [\"a\"]\nplugin = \"p@sha256:12\"\n";
    check(version, 4, 10, "the version \"sha256:12\"", "64 hexadecimal digits");
    check_binding("start = \"soon\"", 5, 9, "\"soon\"", "\"earliest\", \"latest\" or a time");
    check_binding("start = 2026-01-31T08:00:00", 5, 9, "2026-01-31T08:00:00", "with its offset");
    check_binding("ordering = \"keys\"", 5, 12, "\"keys\"", "\"key\", \"partition\" or \"none\"");
    check_binding("concurrency = 0", 5, 15, "is 0", "from 1 to 5000");
    check_binding("concurrency = 1.5", 5, 15, "whole number", "concurrency = 1");
    check_binding("max_hops = -1", 5, 12, "is -1", "from 0");
    check_binding("max_copied_bytes = \"1B\"", 5, 20, "is \"1B\"", "");
    check_binding("max_copied_bytes = \"2048GiB\"", 5, 20, "is 2048GiB", "from 1KiB to");
    check_binding("timeout = \"0s\"", 5, 11, "is 0s", "from 1ms to 1h");
    check_binding("timeout = 5", 5, 11, "is a number", "timeout = \"5s\"");
    check_binding("cpu = \"0ms\"", 5, 7, "is 0ms", "from 1ms to 1h");
    check_binding("memory = \"64 MB\"", 5, 10, "no size", "\"64MiB\"");
    check_binding("memory = \"1KiB\"", 5, 10, "is 1KiB", "from 1MiB to 4GiB");
    check_binding("log = \"0KiB\"", 5, 7, "is 0KiB", "from 1KiB");
    check_binding("rate_limit = 0", 5, 14, "is 0", "above 0");
    check_binding("rate_limit = nan", 5, 14, "nan", "above 0");
    check_binding("circuit = { failures = 3 }", 5, 11, "`open` is missing", "open = \"30s\"");
    check_binding("types = []", 5, 9, "is empty", "leave `types` out");
    check_binding("isolation = \"batch\"", 5, 13, "`batch` is 1", "batch = 100");
    check_binding("isolation = \"message\"\nbatch = 10", 5, 13, "10 messages at once", "\"batch\" or \"instance\"");
    check_binding("[binding.retry]\nmax_attempts = 0", 6, 16, "is 0", "from 1");
    check_binding("[binding.retry]\nmultiplier = 0.5", 6, 14, "is 0.5", "from 1 to 1000");
    check_binding("[binding.retry]\njitter = 2", 6, 10, "is 2", "from 0 to 1");
    check_binding("[binding.retry]\ninitial = \"5s\"\nmax = \"1s\"", 7, 7, "the first wait", "max = \"5s\"");
    check_binding(
        "[binding.http]\nallow = [\"https://api.example.com/v1\"]",
        6,
        10,
        "https",
        "\"api.example.com:443\"",
    );
    check_binding("[binding.http]", 5, 1, "`allow` is missing", "name where");
    check_binding("[binding.http]\nallow = [\"*:443\"]", 6, 10, "\"*:443\"", "one host and its port");
    check_binding(
        "[binding.http]\nallow = [\"a:1\"]\nprivate = \"yes\"",
        7,
        11,
        "true or false is wanted",
        "private = true",
    );
    check_binding("[binding.secrets]\nkey = \"hunter2\"", 6, 7, "plain text", "key = { env = \"NAME\" }");
    check_binding("[binding.config]\nkey = [[]]", 6, 7, "arrays or tables in an array", "reads text");
    check_binding("[binding.http]\nca = \"none.pem\"", 6, 6, "cannot read the certificates", "create it");
}

#[test]
fn a_push_that_could_push_nothing_is_warned_of() {
    let warned = |more: &str| -> Vec<String> {
        let text = format!("[[binding]]\ngroup = \"g\"\ntopics = [\"order\"]\nplugin = \"http-push\"\n{more}");
        let config = parsed(&text).expect("an older file starts");
        config.warnings.iter().map(ToString::to_string).collect()
    };
    let url = "[binding.config]\nurl = \"http://localhost:8080/\"\n";
    assert_eq!(warned(url), Vec::<String>::new());
    let lists = format!("{url}headers = {{ x-team = \"shop\", x-n = 1 }}\nforward_headers = [\"a\", \"b-*\"]\n");
    assert_eq!(warned(&lists), Vec::<String>::new());
    for (more, expected) in [
        (String::new(), "none is named"),
        ("[binding.config]\nurl = \"stock:8080\"\n".to_owned(), "no http or https URL"),
        ("[binding.config]\nurl = \"http://a:b@stock/\"\n".to_owned(), "has a user or a password"),
        ("[binding.config]\nurl = \"http://169.254.169.254/\"\n".to_owned(), "where no service lives"),
        (format!("{url}verdict = {{ 404 = \"reject\" }}\n"), "did you mean `verdicts`?"),
    ] {
        let found = warned(&more);
        assert!(found.len() == 1 && found[0].contains(expected), "{more}: {found:?}");
    }
    let text = format!("[[binding]]\ngroup = \"g\"\ntopics = [\"order\"]\nplugin = \"http-push\"\n{lists}");
    let binding = parsed(&text).unwrap().bindings.remove(0);
    assert_eq!(binding.config["headers"], r#"{"x-n":"1","x-team":"shop"}"#);
    assert_eq!(binding.config["forward_headers"], r#"["a","b-*"]"#);
    assert_eq!(binding.failure.probe_within, Some(Duration::from_secs(4)));
}

#[test]
fn a_push_to_each_address_is_checked() {
    let push = |topic: &str, url: &str, more: &str| {
        format!(
            "[[binding]]\ngroup = \"g\"\ntopics = [\"{topic}\"]\nplugin = \"http-push\"\neach = true\n{more}\
             [binding.config]\nurl = \"{url}\"\n"
        )
    };
    let right = parsed(&push("order", "http://stock.internal:8080/", "")).unwrap();
    assert!(right.bindings[0].each && right.warnings.is_empty(), "{:?}", right.warnings);
    check_binding("each = true", 5, 8, "is for plugin = \"http-push\"", "once on every node");
    check_binding("each = \"true\"", 5, 8, "true", "true");
    assert!(
        !parsed("[[binding]]\ngroup = \"g\"\ntopics = [\"order\"]\nplugin = \"p\"\neach = false\n").unwrap().bindings
            [0]
        .each
    );
    for url in ["http://10.0.0.7:8080/", "http://[fd00::7]/", "http://127.1/"] {
        check(&push("order", url, ""), 7, 7, "has an address in its place", "headless service");
    }
    let forget = push("order", "http://stock.internal/", "broadcast_forget = \"20s\"\n");
    check(&forget, 6, 20, "an address waits longer", "at least broadcast_forget = \"30s\"");
    check(&push(&"t".repeat(245), "http://stock.internal/", ""), 5, 8, "can have none", "a shorter name");
    let misplaced = push("order", "http://stock.internal/", "").replace("each = true\n", "") + "each = true\n";
    let warned = parsed(&misplaced).unwrap().warnings;
    assert!(warned.len() == 1 && warned[0].to_string().contains("beside `plugin`"), "{warned:?}");
}

#[test]
fn dead_letters_are_checked() {
    check_binding("dead_letter = \"true\"", 5, 15, "the text \"true\"", "remove the quotes");
    check_binding("dead_letter = \"order\"", 5, 15, "come back to this binding", "name another topic");
    check_binding("dead_letter = \"a b\"", 5, 15, "\"a b\"", "remove ' '");
    check_binding("dead_letter = 3", 5, 15, "neither", "false, true");
    check_binding("dead_letter = \"hold\"\nordering = \"none\"", 5, 15, "there are no lanes", "ordering = \"key\"");
    let long = "g".repeat(245);
    let text = format!("[[binding]]\ngroup = \"{long}\"\ntopics = [\"order\"]\nplugin = \"p\"\ndead_letter = true\n");
    check(&text, 5, 15, "too long", "name a topic");
}

#[test]
fn a_topic_bound_twice_shows_both_places() {
    let one = "[[binding]]\ngroup = \"stock\"\ntopics = [\"order\"]\nplugin = \"order-handler\"\n";
    let text = format!("{one}\n{one}");
    check(&text, 8, 11, "\"order\" is bound twice in the group \"stock\"", "a group of its own");
    let drawn = parsed(&text).unwrap_err().to_string();
    assert!(drawn.contains("first bound here"), "{drawn}");
}

#[test]
fn all_errors_are_reported_at_once_and_in_order() {
    let text = "[server]\nlisten = \"nowhere\"\n[store]\nurl = \"x\"\n[[binding]]\ngroup = \"a\"\nbanana = 1\n";
    let error = parsed(text).unwrap_err();
    let lines: Vec<usize> = error.errors().iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [2, 4, 5, 5, 7], "{error}");
    assert!(error.to_string().ends_with("courier.toml: 5 errors"), "{error}");
}

#[test]
fn columns_count_characters() {
    check("[server]\nnode = \"a\" # é\n[store] # é\nurl = \"é\"\n", 4, 7, "é", "sqlite");
    check("[transactions]\ncheck_urls = [\"https://é/\", \"x\"]\n", 2, 29, "\"x\"", "http");
}

#[test]
fn no_error_shows_a_secret() {
    let text = "[kafka.properties]\n\"sasl.password\" = \"hunter2\"\n[store]\nurl = \"mysql://u:hunter2@db/x\"\n\
                [[binding]]\ngroup = \"a\"\ntopics = [\"a\"]\nplugin = \"p\"\n[binding.secrets]\nkey = \"hunter2\"\n\
                [[outbox]]\nname = \"a\"\nurl = \"postgres://u:hunter2@db/x?password=hunter2\"\ntable = \"-\"\n\
                [auth]\ntokens = [{ name = \"x\", role = \"admin\", secret = \"hunter2\" }]\n";
    let error = parsed(text).unwrap_err();
    assert!(!format!("{error}{error:?}").contains("hunter2"), "{error}");
    let broken = parsed("[kafka.properties]\n\"sasl.password\" = \"hunter2\n").unwrap_err();
    assert!(!broken.to_string().contains("hunter2"), "{broken}");
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let error = load(Path::new("/no/such/courier.toml")).unwrap_err();
    assert!(error.to_string().contains("cannot read /no/such/courier.toml"), "{error}");
    assert!(error.errors()[0].remedy.contains("--config"));
}

/// Any change of a file gives a configuration, or errors that lie within the file
/// and can be drawn.
#[test]
fn chance_never_makes_it_panic() {
    const PIECES: [&str; 14] =
        ["\"", "[", "]", "{", "}", "=", "\n", ".", "é", "-1", "99999999999999999999", "0x1f", "[[binding]]", "\u{0}"];
    for seed in 0..3_000 {
        let mut chance = StdRng::seed_from_u64(seed);
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        for _ in 0..chance.random_range(1..6) {
            let at = chance.random_range(0..text.len());
            match chance.random_range(0..4) {
                0 => drop(text.remove(at)),
                1 => {
                    let end = (at + chance.random_range(1..60)).min(text.len());
                    drop(text.drain(at..end));
                }
                2 => {
                    let piece = PIECES[chance.random_range(0..PIECES.len())];
                    text.splice(at..at, piece.chars());
                }
                _ => {
                    let other = chance.random_range(0..text.len());
                    text.swap(at, other);
                }
            }
        }
        let text: String = text.into_iter().collect();
        if let Err(error) = parsed(&text) {
            let lines = text.matches('\n').count() + 1;
            assert!(!error.errors().is_empty(), "seed {seed}");
            for problem in error.errors() {
                assert!((1..=lines).contains(&problem.line) && problem.column >= 1, "seed {seed}: {problem:?}");
                assert!(!problem.remedy.is_empty() && !problem.message.is_empty(), "seed {seed}: {problem:?}");
            }
            assert!(!error.to_string().is_empty(), "seed {seed}");
        }
    }
}

/// Items 14 and 16: tokens that travel without TLS or can be guessed.
#[test]
fn tokens_that_others_may_come_by_are_warned_of() {
    let warnings = |server: &str, variable: &str| -> Vec<String> {
        let tokens = format!("tokens = [{{ name = \"shop\", role = \"viewer\", env = \"{variable}\" }}]");
        let env = |name: &str| Some(if name == "LONG" { "a".repeat(22) } else { "hunter2".to_owned() });
        let config = parse("courier.toml", &format!("[server]\n{server}\n[auth]\n{tokens}\n"), &env);
        config.unwrap_or_else(|error| panic!("{error}")).warnings.iter().map(ToString::to_string).collect()
    };
    let everywhere = "listen = \"0.0.0.0:7070\"";
    let told = warnings(everywhere, "LONG");
    assert!(told.len() == 1 && told[0].starts_with("courier.toml:2:10: tokens travel to 0.0.0.0:7070"), "{told:?}");
    assert!(told[0].contains("[server.tls]") && told[0].contains("public_url"), "{told:?}");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/testdata");
    let tls = format!("{everywhere}\ntls = {{ cert = \"{folder}/localhost.crt\", key = \"{folder}/localhost.key\" }}");
    let proxy = format!("{everywhere}\npublic_url = \"https://courier.example.com\"");
    for safe in [tls.as_str(), &proxy, "listen = \"127.0.0.1:7070\""] {
        assert!(warnings(safe, "LONG").is_empty(), "{safe}");
    }
    assert_eq!(warnings(&format!("{everywhere}\npublic_url = \"http://courier.example.com\""), "LONG").len(), 1);
    let told = warnings("listen = \"127.0.0.1:7070\"", "SHORT");
    assert!(told.len() == 1 && told[0].contains("the token \"shop\" is weak: it has 7 characters"), "{told:?}");
    assert!(!told[0].contains("hunter2"));
}

#[test]
fn a_public_url_is_the_address_of_a_host_alone() {
    for wrong in
        ["courier.example.com", "https://courier.example.com/console", "https://u:p@h", "ftp://h", "https://h/?a"]
    {
        let text = format!("[server]\npublic_url = \"{wrong}\"\n");
        let error = parsed(&text).expect_err(wrong);
        assert!(error.errors()[0].message.contains("no address of a host alone"), "{error}");
    }
    let over_tls = |text: &str| parsed(text).unwrap().server.is_reached_over_tls();
    assert!(over_tls("[server]\npublic_url = \"https://courier.example.com\"\n") && !over_tls(""));
}
