//! Writes the binding that a handler needs, to be pasted into courier.toml.

use crate::cli::shapes::Wants;

/// The interfaces of the contract that a binding must grant, and how.
const GRANTS: [(&str, &str); 2] = [("state", "state = true"), ("cache", "cache = true")];

/// Why a component that contains a language's runtime keeps its instance.
const REUSE_REASON: &str = "a fresh runtime costs milliseconds for each message, one that is used again a fraction";

/// The binding that a handler needs, with every grant that it declares. Grants that
/// only the component's imports suggest are commented out, because a compiler also
/// imports functions that the handler never calls.
pub(super) fn binding(name: &str, wants: &Wants, imports: &[String]) -> String {
    let group = if wants.group.is_empty() { name } else { &wants.group };
    let mut toml = format!(
        "[[binding]]\ngroup = {}\ntopics = {}\nplugin = {}\n",
        quoted(group),
        array(&wants.topics),
        quoted(name)
    );
    if !wants.types.is_empty() {
        toml.push_str(&format!("types = {}\n", array(&wants.types)));
    }
    if wants.world == "batch-handler" {
        toml.push_str("batch = 100\n");
    }
    if wants.isolation == "instance" {
        toml.push_str(&format!("isolation = \"instance\"  # {REUSE_REASON}\n"));
    }
    toml.push_str(&grants(wants, imports));
    let uses = |what: &str| wants.uses.as_ref().is_some_and(|uses| uses.iter().any(|used| used == what));
    if uses("config") {
        toml.push_str("# It reads settings: name them below [binding.config] and [binding.secrets].\n");
    }
    if !wants.http.is_empty() {
        toml.push_str(&format!("[binding.http]\nallow = {}\n", array(&wants.http)));
    } else if uses("http") {
        toml.push_str("[binding.http]\nallow = []  # the hosts that it asks, as \"api.example.com:443\"\n");
    }
    toml
}

fn grants(wants: &Wants, imports: &[String]) -> String {
    let mut lines = Vec::new();
    if !wants.publishes.is_empty() {
        lines.push(format!("publish = {}", array(&wants.publishes)));
    } else if wants.uses.as_ref().is_some_and(|uses| uses.iter().any(|used| used == "publish")) {
        lines.push("publish = []  # the topics that it publishes to".to_owned());
    }
    match &wants.uses {
        Some(uses) => {
            lines.extend(
                GRANTS
                    .iter()
                    .filter(|(what, _)| uses.iter().any(|used| used == what))
                    .map(|(_, grant)| (*grant).to_owned()),
            );
        }
        None => {
            let imported = |what: &str| {
                imports.iter().any(|import| {
                    let interface = import.strip_prefix("courier:plugin/").and_then(|rest| rest.split('@').next());
                    interface.is_some_and(|interface| interface.strip_prefix("batch-").unwrap_or(interface) == what)
                })
            };
            let possible: Vec<&str> =
                GRANTS.iter().filter(|(what, _)| imported(what)).map(|(_, grant)| *grant).collect();
            lines.extend(possible.iter().map(|grant| format!("# {grant}  # if it uses it")));
        }
    }
    if lines.is_empty() { String::new() } else { format!("[binding.grant]\n{}\n", lines.join("\n")) }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn array(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn wants() -> Wants {
        Wants {
            name: "stock-reserver".into(),
            world: "handler".into(),
            group: "stock".into(),
            topics: texts(&["order"]),
            types: texts(&["OrderCreated"]),
            publishes: texts(&["stock"]),
            ..Wants::default()
        }
    }

    #[test]
    fn the_binding_can_be_pasted() {
        let toml = binding("stock-reserver", &wants(), &[]);
        assert_eq!(
            toml,
            "[[binding]]\ngroup = \"stock\"\ntopics = [\"order\"]\nplugin = \"stock-reserver\"\n\
             types = [\"OrderCreated\"]\n[binding.grant]\npublish = [\"stock\"]\n"
        );
        let config = crate::config::parse("courier.toml", &toml, &|_| None).unwrap();
        assert_eq!(config.bindings[0].grant.publish, ["stock"]);
    }

    #[test]
    fn any_handler_gets_a_binding_that_courier_takes() {
        let batch = Wants { world: "batch-handler".into(), types: vec!["A\"B\\C".into()], ..wants() };
        let config = crate::config::parse("courier.toml", &binding("p", &batch, &[]), &|_| None).unwrap();
        assert_eq!(config.bindings[0].batch, 100);
        assert_eq!(config.bindings[0].types.as_deref(), Some(&["A\"B\\C".to_owned()][..]));
    }

    /// The binding of `order-pricer` lacked state and cache, so that all of its
    /// deliveries failed.
    #[test]
    fn the_binding_contains_every_grant_that_the_handler_needs() {
        let uses = texts(&["publish", "state", "cache", "config", "http"]);
        let wants =
            Wants { uses: Some(uses), http: texts(&["api.example.com:443"]), isolation: "instance".into(), ..wants() };
        let toml = binding("p", &wants, &[]);
        let config = crate::config::parse("courier.toml", &toml, &|_| None).unwrap();
        let bound = &config.bindings[0];
        assert!(bound.grant.state && bound.grant.cache && bound.grant.publish == ["stock"], "{toml}");
        assert_eq!(bound.isolation, crate::config::Isolation::Instance);
        assert!(toml.contains("allow = [\"api.example.com:443\"]") && toml.contains("[binding.secrets]"), "{toml}");
    }

    #[test]
    fn what_a_component_merely_imports_is_named_beside_the_grants() {
        let imports = texts(&["courier:plugin/batch-state@2.0.0", "courier:plugin/log@2.0.0"]);
        let toml = binding("p", &wants(), &imports);
        assert!(toml.contains("# state = true") && !toml.contains("cache"), "{toml}");
        assert!(crate::config::parse("courier.toml", &toml, &|_| None).is_ok());
    }
}
