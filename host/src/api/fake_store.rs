//! A store in memory for tests: it returns the rows of a world and notes the
//! changes that the API makes. Verbs that the API does not use fail.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::{Offset, Timestamp};
use parking_lot::MutexGuard;

use super::testing::{Shared, World};
use crate::store::*;

/// The store of a world.
pub struct FakeStore(pub Shared);

impl FakeStore {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock()
    }

    pub(super) fn read(&self) -> Result<MutexGuard<'_, World>, StoreError> {
        let world = self.world();
        if world.away { Err(away()) } else { Ok(world) }
    }
}

fn away() -> StoreError {
    StoreError::Unavailable("connection refused".into())
}

pub(super) fn absent<T>() -> Result<T, StoreError> {
    Err(StoreError::Bug("this fake has no such verb".into()))
}

#[async_trait]
impl HealthStore for FakeStore {
    async fn ping(&self) -> Result<Timestamp, StoreError> {
        if self.world().away { Err(away()) } else { Ok(Timestamp(0)) }
    }
}

#[async_trait]
impl NodeStore for FakeStore {
    async fn join(&self, _: &str, _: &Holder, _: Duration) -> Result<Joined, StoreError> {
        absent()
    }

    async fn holder(&self, _: &str) -> Result<Option<(Holder, Timestamp)>, StoreError> {
        absent()
    }

    async fn evict(&self, _: &str, _: &Holder) -> Result<(), StoreError> {
        absent()
    }

    async fn renew(&self, _: WriterId, _: Duration) -> Result<(), StoreError> {
        absent()
    }

    async fn leave(&self, _: WriterId) -> Result<(), StoreError> {
        absent()
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        drop(self.read()?);
        let node =
            |name: &str, live| NodeRow { name: name.into(), joined_at: Timestamp(1), lease_until: Timestamp(2), live };
        Ok(vec![node("host-2", false), node("host-1", true)])
    }
}

#[async_trait]
impl ClaimStore for FakeStore {
    async fn begin(&self, _: &str, _: &str, _: &str, _: &[(i32, Offset)]) -> Result<(), StoreError> {
        absent()
    }

    async fn claim(&self, _: &ClaimRequest) -> Result<Claimed, StoreError> {
        absent()
    }

    async fn skip_lost(&self, _: PositionId, _: i64, _: Offset, _: Offset, _: &str) -> Result<(), StoreError> {
        absent()
    }
}

#[async_trait]
impl PositionStore for FakeStore {
    async fn positions(&self) -> Result<Vec<PositionRow>, StoreError> {
        Ok(self.read()?.positions.clone())
    }

    async fn lost_ranges(&self, filter: &LostRangeFilter, _: u32) -> Result<Vec<LostRange>, StoreError> {
        drop(self.read()?);
        let range = |group: &str, topic: &str| LostRange {
            position: Some(PositionId(1)),
            group: group.into(),
            topic: topic.into(),
            listener: None,
            partition: 0,
            from: Offset(3),
            to: Offset(9),
            why: "retention".into(),
            found_at: Timestamp(1),
        };
        let has = |list: &Option<Vec<String>>, name: &String| list.as_ref().is_none_or(|list| list.contains(name));
        let asked = |range: &LostRange| has(&filter.groups, &range.group) && has(&filter.topics, &range.topic);
        Ok([range("stock", "order"), range("other", "secret")].into_iter().filter(asked).collect())
    }
}

#[async_trait]
impl SettleStore for FakeStore {
    async fn settle(&self, _: WriterId, _: i64, _: &[Part]) -> Result<Settled, StoreError> {
        absent()
    }

    async fn sequence(&self, _: WriterId) -> Result<i64, StoreError> {
        absent()
    }
}

#[async_trait]
impl OpenRowStore for FakeStore {
    async fn open_records(&self, _: PositionId, _: &[Offset]) -> Result<Vec<Option<OpenRecord>>, StoreError> {
        absent()
    }

    async fn asked(&self, _: &[PositionId], _: Timestamp, _: u32) -> Result<Vec<OpenRow>, StoreError> {
        absent()
    }

    async fn asked_lately(&self, _: Duration) -> Result<AskedLately, StoreError> {
        absent()
    }
}

#[async_trait]
impl RerunStore for FakeStore {
    async fn ask(&self, delivery: &DeliveryKey) -> Result<(), StoreError> {
        let mut world = self.read()?;
        world.asked.push(format!("ask {delivery}"));
        world.note();
        Ok(())
    }
}

#[async_trait]
impl PluginStore for FakeStore {
    async fn put_version(&self, _: &NewVersion) -> Result<VersionRow, StoreError> {
        absent()
    }

    async fn version_wasm(&self, _: &str) -> Result<Bytes, StoreError> {
        absent()
    }

    async fn plugins(&self) -> Result<Vec<PluginRow>, StoreError> {
        Ok(self.read()?.plugins.clone())
    }

    async fn activate(&self, _: &str, _: &str, _: &str) -> Result<(), StoreError> {
        absent()
    }

    async fn active(&self) -> Result<Vec<(String, String)>, StoreError> {
        Ok(vec![("order-handler".into(), "sha256:aa".into())])
    }

    async fn prepared(&self, _: WriterId, _: &str) -> Result<(), StoreError> {
        absent()
    }

    async fn unprepared(&self, _: &str) -> Result<Vec<String>, StoreError> {
        absent()
    }

    async fn host_key(&self, _: &str) -> Result<[u8; 32], StoreError> {
        absent()
    }
}

#[async_trait]
impl AcceptStore for FakeStore {
    async fn accept(&self, _: &[NewMessage]) -> Result<Vec<Accepted>, StoreError> {
        absent()
    }

    async fn sent(&self, _: &[SentMessage]) -> Result<(), StoreError> {
        absent()
    }

    async fn release_outbound(&self, _: &[UnsentMessage]) -> Result<(), StoreError> {
        absent()
    }

    async fn refuse_outbound(&self, _: &[RefusedMessage]) -> Result<(), StoreError> {
        absent()
    }
}

#[async_trait]
impl ShardStore for FakeStore {
    async fn lease_shards(&self, _: WriterId, _: u32, _: Duration) -> Result<Vec<(i32, i64)>, StoreError> {
        absent()
    }
}

#[async_trait]
impl OutboundStore for FakeStore {
    async fn topics_with_outbound(&self) -> Result<Vec<String>, StoreError> {
        absent()
    }

    async fn outbound(&self, _: &[(i32, i64)], _: u32, _: &[String]) -> Result<Vec<OutboundRow>, StoreError> {
        absent()
    }

    async fn choose_partitions(&self, _: &[(i32, i64)], _: &[ChosenPartition]) -> Result<(), StoreError> {
        absent()
    }

    async fn unsent_lanes(&self, _: &[(String, Bytes)]) -> Result<Vec<usize>, StoreError> {
        absent()
    }

    async fn relayed(&self, _: &[(i32, i64)], _: &[Relayed]) -> Result<(), StoreError> {
        absent()
    }

    async fn resend(&self, message: &Identity) -> Result<(), StoreError> {
        let mut world = self.read()?;
        world.asked.push(format!("resend {}", message.id));
        world.note();
        Ok(())
    }
}

#[async_trait]
impl MessageStore for FakeStore {
    async fn messages(&self, filter: &MessageFilter, page: &Page) -> Result<Listing<MessageRow>, StoreError> {
        let world = self.read()?;
        let kept = world.messages.iter().filter(|row| {
            filter.topic.as_ref().is_none_or(|topic| *topic == row.topic)
                && filter.topics.as_ref().is_none_or(|topics| topics.contains(&row.topic))
        });
        let limit = usize::try_from(page.limit).unwrap();
        Ok(Listing { items: kept.take(limit).cloned().collect(), next: None, truncated: false })
    }

    async fn messages_with_id(&self, id: &str, topics: Option<&[String]>) -> Result<Vec<MessageRow>, StoreError> {
        let is_meant = |row: &&MessageRow| row.id == id && topics.is_none_or(|topics| topics.contains(&row.topic));
        Ok(self.read()?.messages.iter().filter(is_meant).cloned().collect())
    }

    async fn message_of(&self, message: &Identity) -> Result<Option<MessageRow>, StoreError> {
        Ok(self.read()?.messages.iter().find(|row| row.identity() == *message).cloned())
    }
}

/// The first page of these rows.
pub(super) fn first_page<T>(rows: impl Iterator<Item = T>, page: &Page) -> Listing<T> {
    let limit = usize::try_from(page.limit).unwrap();
    let mut items: Vec<T> = rows.take(limit + 1).collect();
    let next = (items.len() > limit).then(|| "more".to_owned());
    items.truncate(limit);
    Listing { items, next, truncated: false }
}

#[async_trait]
impl DeliveryStore for FakeStore {
    async fn deliveries(&self, filter: &DeliveryFilter, page: &Page) -> Result<Listing<DeliveryRow>, StoreError> {
        let world = self.read()?;
        let kept = world.deliveries.iter().filter(|row| {
            filter.group.as_ref().is_none_or(|group| *group == row.group)
                && filter.groups.as_ref().is_none_or(|groups| groups.contains(&row.group))
                && filter.topic.as_ref().is_none_or(|topic| *topic == row.topic)
                && filter.topics.as_ref().is_none_or(|topics| topics.contains(&row.topic))
                && filter.type_name.as_ref().is_none_or(|name| *name == row.type_name)
                && filter.key.as_ref().is_none_or(|key| Some(key) == row.record_key.as_ref())
                && filter.message_id.as_ref().is_none_or(|id| *id == row.message_id)
                && filter.source.is_none_or(|source| row.source_hash.is_none_or(|hash| hash == source))
        });
        Ok(first_page(kept.cloned(), page))
    }

    async fn delivery(&self, key: &DeliveryKey) -> Result<Option<DeliveryRow>, StoreError> {
        Ok(self.read()?.deliveries.iter().find(|row| row.key == *key).cloned())
    }

    async fn attempts(&self, keys: &[DeliveryKey]) -> Result<Vec<Vec<AttemptRow>>, StoreError> {
        Ok(keys.iter().map(|_| Vec::new()).collect())
    }
}

#[async_trait]
impl GroupStore for FakeStore {
    async fn totals(&self) -> Result<Vec<GroupTotals>, StoreError> {
        drop(self.read()?);
        Ok(vec![GroupTotals { group: "stock".into(), handled: 5, ..GroupTotals::default() }])
    }

    async fn set_paused(&self, group: &str, why: Option<&str>) -> Result<(), StoreError> {
        let mut world = self.read()?;
        world.asked.push(format!("set_paused {group} {why:?}"));
        world.paused.retain(|(paused, _)| paused != group);
        world.paused.extend(why.map(|why| (group.to_owned(), why.to_owned())));
        world.note();
        Ok(())
    }

    async fn paused(&self) -> Result<Vec<(String, String)>, StoreError> {
        Ok(self.read()?.paused.clone())
    }
}

#[async_trait]
impl PruneStore for FakeStore {
    async fn prune(&self, _: Duration) -> Result<bool, StoreError> {
        absent()
    }
}

#[async_trait]
impl AddressLeaseStore for FakeStore {
    async fn hold_addresses(&self, _: &AddressWish) -> Result<AddressShare, StoreError> {
        absent()
    }

    async fn release_addresses(&self, _: &str, _: &str, _: &str, _: &[String]) -> Result<(), StoreError> {
        absent()
    }

    async fn address_leases(&self) -> Result<Vec<AddressLeaseRow>, StoreError> {
        Ok(self.read()?.address_leases.clone())
    }
}

#[async_trait]
impl ListenerStore for FakeStore {
    async fn listen(&self, _: &Listen) -> Result<Listening, StoreError> {
        absent()
    }

    async fn still_listening(&self, _: &str, _: &str) -> Result<Vec<String>, StoreError> {
        absent()
    }

    async fn listen_only(&self, _: &str, _: &[(String, String)]) -> Result<Vec<ListenerRow>, StoreError> {
        absent()
    }

    async fn forget_listeners(&self) -> Result<Vec<ListenerRow>, StoreError> {
        absent()
    }

    async fn listeners(&self) -> Result<Vec<ListenerRow>, StoreError> {
        Ok(self.read()?.listeners.clone())
    }

    async fn judge_broadcasts(&self, _: u32) -> Result<Vec<(String, String)>, StoreError> {
        absent()
    }

    async fn unheard(&self, _: Timestamp, topics: Option<&[String]>, _: u32) -> Result<Vec<UnheardRow>, StoreError> {
        let mut rows = self.read()?.unheard.clone();
        rows.retain(|row| topics.is_none_or(|topics| topics.contains(&row.topic)));
        Ok(rows)
    }
}

#[async_trait]
impl redrive::RedriveStore for FakeStore {
    async fn plan_redrive(&self, _: &redrive::NewRedrive) -> Result<redrive::RedriveRow, StoreError> {
        absent()
    }

    async fn redrive(&self, _: redrive::RedriveId) -> Result<Option<redrive::RedriveRow>, StoreError> {
        Ok(None)
    }

    async fn redrives(&self, _: &redrive::RedriveFilter, _: &Page) -> Result<Listing<redrive::RedriveRow>, StoreError> {
        Ok(Listing { items: Vec::new(), next: None, truncated: false })
    }

    async fn redrive_items(
        &self,
        _: redrive::RedriveId,
        _: &Page,
    ) -> Result<Listing<redrive::RedriveItemRow>, StoreError> {
        absent()
    }

    async fn wish_redrive(
        &self,
        _: redrive::RedriveId,
        _: redrive::RedriveWish,
    ) -> Result<redrive::RedriveRow, StoreError> {
        absent()
    }

    async fn lease_redrives(&self, _: WriterId, _: u32, _: Duration) -> Result<Vec<redrive::RedriveLease>, StoreError> {
        absent()
    }

    async fn due_items(&self, _: redrive::RedriveId, _: u32) -> Result<Vec<redrive::DueItem>, StoreError> {
        absent()
    }

    async fn ask_items(&self, _: &redrive::RedriveLease, _: &[(i64, redrive::ItemAsk)]) -> Result<u64, StoreError> {
        absent()
    }

    async fn retrying_items(&self, _: redrive::RedriveId) -> Result<u64, StoreError> {
        absent()
    }

    async fn collect_items(&self, _: &redrive::RedriveLease) -> Result<(), StoreError> {
        absent()
    }
}

#[async_trait]
impl GiveUpStore for FakeStore {
    async fn give_up(&self, delivery: &DeliveryKey, give_up: &GiveUp) -> Result<(), StoreError> {
        let mut world = self.read()?;
        world.asked.push(format!("give up {delivery} {give_up:?}"));
        world.note();
        Ok(())
    }
}

#[async_trait]
impl NodeBindingStore for FakeStore {
    async fn keep_bindings(&self, _: &str, _: &[NodeBinding]) -> Result<(), StoreError> {
        absent()
    }

    async fn live_bindings(&self) -> Result<Vec<NodeBinding>, StoreError> {
        Ok(self.read()?.elsewhere.clone())
    }
}

#[async_trait]
impl seek::SeekStore for FakeStore {
    async fn seek(&self, _: &[seek::SeekMove], _: &str) -> Result<Vec<Offset>, StoreError> {
        absent()
    }

    async fn epochs(&self, _: &[PositionId]) -> Result<Vec<(PositionId, i64)>, StoreError> {
        absent()
    }

    async fn open_page(&self, _: PositionId, _: Offset, _: u32) -> Result<Vec<OpenRow>, StoreError> {
        absent()
    }
}
