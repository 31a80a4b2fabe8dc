//! `courier dev` while its configuration is edited.

use std::time::Duration;

use courier_core::status::State;
use courier_tests::{Host, guest, scripted, scripted_binding, turn, unique, wait_until};

const SOON: Duration = Duration::from_secs(60);
/// Less than the session of a consumer, which the embedded broker waits for.
const BACK: Duration = Duration::from_secs(6);

/// A reload must leave the broker and the store of the process alone: the file
/// does not know them, and names others.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_the_configuration_takes_effect_under_courier_dev() {
    let _turn = turn::alone().await;
    let (first, second) = (unique("first"), unique("second"));
    let (order, stock) = (unique("order"), unique("stock"));
    // The Kafka and the store that the file names do not exist.
    let host = Host::builder("dev").dev().kafka("127.0.0.1:1").binding(&scripted_binding(&first, &order, ""));
    let host = host.start().await;
    host.upload("scripted", guest("scripted")).await;
    let handled = async |topic: &str, groups: usize| {
        let id = host.publish(scripted(topic, "k", &["ok"])).await.id().to_owned();
        wait_until("the message is handled", SOON, async || {
            let message = host.message(&id).await;
            let handled = message.deliveries.iter().filter(|one| one.state == State::Handled).count();
            if handled == groups { Ok(()) } else { Err(format!("{message:?}")) }
        })
        .await;
        id
    };
    let before = handled(&order, 1).await;

    // One group more, on a topic that did not exist.
    let good = host.toml();
    let added = format!("{good}\n[[binding]]\n{}\n", scripted_binding(&second, &stock, ""));
    host.write_config(&added);
    wait_until("the new group is there", SOON, async || {
        let groups = host.groups().await;
        if groups.iter().any(|seen| seen.group == second) { Ok(()) } else { Err(format!("{groups:?}")) }
    })
    .await;
    handled(&stock, 1).await;
    handled(&order, 1).await;

    // A changed binding comes back before Kafka would remove a member: the group
    // stood still for 8 to 23 s, since the embedded broker waits for members.
    let changed = added.replace(&format!("group = \"{first}\""), &format!("group = \"{first}\"\nconcurrency = 3"));
    host.write_config(&changed);
    wait_until("the group leaves", SOON, async || {
        if host.log().contains("binding changed") { Ok(()) } else { Err(host.log_tail()) }
    })
    .await;
    let id = host.publish(scripted(&order, "k", &["ok"])).await.id().to_owned();
    wait_until("the changed binding handles", BACK, async || {
        let message = host.message(&id).await;
        let handled = message.deliveries.iter().any(|one| one.state == State::Handled);
        if handled { Ok(()) } else { Err(format!("{message:?}")) }
    })
    .await;
    let added = changed;

    // A mistake changes nothing and is reported with its place.
    host.write_config(&format!("{added}\n[[binding]]\ngroup = \"x\"\ntiemout = 3\n"));
    wait_until("the log names what is wrong", SOON, async || {
        if host.log().contains("tiemout") { Ok(()) } else { Err(host.log_tail()) }
    })
    .await;
    handled(&stock, 1).await;

    // A removed group ends, and its earlier messages are still known.
    host.write_config(&good);
    wait_until("the new group is gone", SOON, async || {
        let groups = host.groups().await;
        let gone = !groups.iter().any(|seen| seen.group == second && !seen.bindings.is_empty());
        if gone { Ok(()) } else { Err(format!("{groups:?}")) }
    })
    .await;
    handled(&order, 1).await;
    assert_eq!(host.message(&before).await.deliveries[0].state, State::Handled);
    assert!(host.exited().is_none());
}
