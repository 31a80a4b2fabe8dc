//! Looks for a record in a partition, in steps whose progress the caller keeps.

use std::time::{Duration, Instant};

use courier_core::message::Offset;
use rdkafka::consumer::BaseConsumer;

use super::{LogError, LogReader, Quiet, read_span, unavailable, watermarks};
use crate::kafka::record::Record;

/// Offsets that one search reads at most, and for how long. What it has read by then is
/// kept: begun anew each time, it would never reach the end of a partition in which others
/// append more than this between two attempts.
const MAX_SEARCHED: i64 = 200_000;
const SEARCH_WITHIN: Duration = Duration::from_secs(5);
/// Offsets that are read at once.
const SEARCHED_AT_ONCE: i64 = 1_000;

/// The result of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// The record lies here.
    Found(Offset),
    /// It does not lie below this offset, from which the search goes on.
    NotBelow(Offset),
    /// The log did not have it when the search began.
    NotThere,
}

impl LogReader {
    /// Searches a part of a partition, at `from` and behind it, for the first record that
    /// is equal to `record` but for its time. Open transactions are seen through.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub async fn find(&self, topic: &str, partition: i32, from: Offset, record: &Record) -> Result<Search, LogError> {
        self.find_within(topic, partition, from, record, MAX_SEARCHED).await
    }

    async fn find_within(
        &self,
        topic: &str,
        partition: i32,
        from: Offset,
        record: &Record,
        at_most: i64,
    ) -> Result<Search, LogError> {
        let (topic, record, mut config) = (topic.to_owned(), record.clone(), self.config.clone());
        config.set("enable.partition.eof", "true").set("isolation.level", "read_uncommitted");
        self.asking(move |_| {
            let consumer: BaseConsumer<Quiet> = config.create_with_context(Quiet).map_err(unavailable)?;
            let (start, end) = watermarks(&consumer, &topic, partition)?;
            let first = from.max(start);
            let same = |other: &Record| {
                other.key == record.key && other.value == record.value && other.headers == record.headers
            };
            let (begun, mut next) = (Instant::now(), first);
            let last = end.0.min(first.0.saturating_add(at_most));
            while next.0 < last && begun.elapsed() < SEARCH_WITHIN {
                let to = Offset(last.min(next.0 + SEARCHED_AT_ONCE));
                // What this host sent itself is compared whole.
                match read_span(&consumer, &topic, partition, (next, to), usize::MAX, |_| true) {
                    Ok(read) => {
                        if let Some((offset, _)) = read.iter().find(|(_, other)| same(other)) {
                            return Ok(Search::Found(*offset));
                        }
                    }
                    Err(error) if next == first => return Err(error),
                    Err(_) => break,
                }
                next = to;
            }
            Ok(if next < end { Search::NotBelow(next) } else { Search::NotThere })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use courier_core::message::Timestamp;
    use rdkafka::config::ClientConfig;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;

    use super::*;
    use crate::kafka::producer::{DELIVERY_TIMEOUT, OrderedSends, Producer};

    fn record(number: u8) -> Record {
        let value = Some(Bytes::from(vec![number]));
        Record { timestamp: Timestamp(0), key: None, value, headers: Vec::new(), left_out: None }
    }

    /// A partition that grew by more than a search reads was refused whole, for ever.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_search_that_is_longer_than_one_step_goes_on_from_its_end() {
        let cluster: MockCluster<'static, DefaultProducerContext> = MockCluster::new(1).unwrap();
        cluster.create_topic("searched", 1, 1).unwrap();
        let producer = Producer::new(&[cluster.bootstrap_servers()], &BTreeMap::new()).unwrap();
        let deadline = tokio::time::Instant::now() + DELIVERY_TIMEOUT;
        for number in 0..5 {
            let ack = producer.send(&OrderedSends::default(), "searched", 0, &record(number), deadline).await.unwrap();
            ack.await.unwrap();
        }
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers());
        let log = LogReader::new(&config).unwrap();
        let step = async |from, number| log.find_within("searched", 0, Offset(from), &record(number), 2).await.unwrap();
        assert_eq!(step(0, 1).await, Search::Found(Offset(1)));
        assert_eq!(step(0, 3).await, Search::NotBelow(Offset(2)));
        assert_eq!(step(2, 3).await, Search::Found(Offset(3)));
        assert_eq!((step(2, 9).await, step(4, 9).await), (Search::NotBelow(Offset(4)), Search::NotThere));
        assert_eq!(step(5, 9).await, Search::NotThere);
    }
}
