use super::*;
use crate::api::testing::{binding, position};
use crate::causes::{Cause, Causes};

#[test]
fn a_group_has_exactly_the_members_that_programs_rely_on() {
    let totals =
        GroupTotals { group: "stock".into(), waiting: 1, push_fail: 2, retrying: 3, held: 4, handled: 5, failed: 6 };
    let ends = HashMap::from([(("order".to_owned(), 0), Offset(30))]);
    let positions = [position(2, "stock", "order", 1), position(1, "stock", "order", 0)];
    let groups = assemble(vec![binding("stock", &["order"])], &positions, &[totals], &HashMap::new(), &ends);
    let grant = serde_json::json!({
        "publish": [], "state": false, "state_bytes": 0, "state_keys": 0, "state_ttl": null, "cache": false,
        "http": [],
    });
    assert_eq!(
        serde_json::to_value(&groups).unwrap(),
        serde_json::json!([{
            "group": "stock", "state": "running", "paused": false, "why": null, "cause": null,
            "bindings": [{
                "group": "stock", "topics": ["order"], "plugin": "order-handler", "types": null, "ordering": "key",
                "isolation": "message", "concurrency": 8, "paused": false, "why": null, "blocked": null,
                "cause": null,
                "version": null, "start": "earliest", "retry": null, "dead_letter": null, "timeout": "5s",
                "cpu": "500ms", "memory": 67_108_864, "log": 65_536, "batch": 1, "max_gap": 50_000, "max_hops": 32,
                "max_copied_bytes": 268_435_456,
                "rate_limit": null, "circuit": null, "dedupe": null, "trace": "all",
                "grant": grant,
            }],
            "partitions": [
                { "topic": "order", "partition": 0, "position": 17, "end": 30, "lag": 13, "node": "host-1",
                  "why": null, "cause": null },
                { "topic": "order", "partition": 1, "position": 17, "end": null, "lag": null, "node": "host-1",
                  "why": null, "cause": null },
            ],
            "broadcast": [],
            "open": { "waiting": 1, "push_fail": 2, "retrying": 3, "held": 4 },
            "handled": 5, "failed": 6, "p50_ms": null, "p99_ms": null,
        }])
    );
}

/// An address is shown with the node that pushes to it, and a node as itself.
#[test]
fn a_listener_is_a_node_or_an_address_that_a_node_pushes_to() {
    let listener = |name: &str| ListenerRow {
        group: "stock".into(),
        topic: "order".into(),
        node: name.into(),
        live: false,
        registered_at: Timestamp(0),
        seen_at: Timestamp(0),
        gone: None,
    };
    let lease =
        AddressLeaseRow { group: "stock".into(), address: "10.0.0.1:80".into(), node: "host-2".into(), live: true };
    let mut row = position(1, "stock", "order", 0);
    row.listener = Some("10.0.0.1:80".into());
    let ends = HashMap::from([(("order.broadcast".to_owned(), 0), Offset(20))]);
    let shown = |name: &str, leases: &[AddressLeaseRow]| {
        let view = listener_view(&listener(name), leases, std::slice::from_ref(&row), &ends);
        (view.node, view.address, view.live, view.lag)
    };
    let address = Some("10.0.0.1:80".to_owned());
    let held = shown("10.0.0.1:80", std::slice::from_ref(&lease));
    assert_eq!(held, ("host-2".to_owned(), address.clone(), true, Some(3)));
    let left = shown("10.0.0.1:80", &[AddressLeaseRow { group: "other".into(), ..lease.clone() }]);
    assert_eq!(left, ("host-1".to_owned(), address, false, Some(3)), "the last owner is told");
    assert_eq!(shown("host-3", &[lease]), ("host-3".to_owned(), None, false, Some(0)));
}

#[test]
fn what_nobody_ever_owned_has_no_known_end() {
    let mut row = position(1, "stock", "order", 0);
    (row.epoch, row.node, row.next) = (0, None, Offset(0));
    let ends = HashMap::from([(("order".to_owned(), 0), Offset(0))]);
    let groups = assemble(vec![binding("stock", &["order"])], &[row], &[], &HashMap::new(), &ends);
    assert_eq!((groups[0].partitions[0].end, groups[0].partitions[0].lag, groups[0].lag()), (None, None, None));
}

#[test]
fn the_api_or_all_bindings_pause_a_group() {
    let paused = |first: bool, second: bool, by_api: Option<&str>| {
        let mut bindings = vec![binding("stock", &["order"]), binding("stock", &["refund"])];
        for (binding, paused) in bindings.iter_mut().zip([first, second]) {
            binding.paused = paused;
            binding.why = paused.then(|| "no active plugin".into());
        }
        let by_api = by_api.map(|why| ("stock".to_owned(), why.to_owned())).into_iter().collect();
        let group = assemble(bindings, &[], &[], &by_api, &HashMap::new()).remove(0);
        (group.paused, group.why)
    };
    assert_eq!(paused(false, false, None), (false, None));
    assert_eq!(paused(true, false, None), (false, None));
    assert_eq!(paused(true, true, None), (true, Some("no active plugin".into())));
    assert_eq!(paused(false, false, Some("night")), (true, Some("night".into())));
}

#[test]
fn a_group_says_why_it_stands_still() {
    let causes = Causes::default();
    let mut group = assemble(vec![binding("stock", &["order"])], &[], &[], &HashMap::new(), &HashMap::new()).remove(0);
    let of_binding = Subject::Binding { group: "stock".into(), plugin: "order-handler".into() };
    causes.report(of_binding, Cause::new("no_room", "all slots are taken").at_once());
    stand(&mut group, &causes.shown());
    assert_eq!(group.bindings[0].cause.as_ref().map(|cause| &*cause.code), Some("no_room"));
    assert_eq!((group.state, group.cause.is_none()), ("running", true), "it still runs what finds room");
    let of_group = Subject::Group("stock".into());
    causes.report(of_group, Cause::new("no_owner", "2 partitions are owned by no live node").at_once());
    causes.report(Subject::Group("mail".into()), Cause::new("no_binding", "nobody").at_once());
    stand(&mut group, &causes.shown());
    assert_eq!((group.state, group.why.as_deref()), ("cannot_run", Some("2 partitions are owned by no live node")));
    assert_eq!(group.cause.as_ref().map(|cause| &*cause.code), Some("no_owner"));
}

/// ""paused" and a Resume button for a group that has no plugin".
#[test]
fn a_group_without_a_plugin_is_not_paused_but_cannot_run() {
    let state = |blocked: [Option<&str>; 2], by_api: bool| {
        let mut bindings = vec![binding("stock", &["order"]), binding("stock", &["refund"])];
        for (binding, blocked) in bindings.iter_mut().zip(blocked) {
            (binding.paused, binding.blocked) = (blocked.is_some(), blocked.map(ToOwned::to_owned));
        }
        let by_api = if by_api { HashMap::from([("stock".to_owned(), "night".to_owned())]) } else { HashMap::new() };
        assemble(bindings, &[], &[], &by_api, &HashMap::new()).remove(0).state
    };
    assert_eq!(state([None, None], false), "running");
    assert_eq!(state([Some("no_plugin"), None], false), "running", "its other binding runs");
    assert_eq!(state([Some("no_plugin"), Some("no_plugin")], false), "cannot_run");
    assert_eq!(state([Some("paused"), Some("circuit_open")], false), "cannot_run");
    assert_eq!(state([Some("paused"), Some("paused")], false), "paused");
    assert_eq!(state([Some("no_plugin"), Some("no_plugin")], true), "paused");
}
