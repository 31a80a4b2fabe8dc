//! How long topics keep their records, as far as Kafka tells.

use std::time::{Duration, Instant};

use courier_core::retention::Retention;
use rdkafka::admin::{AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::error::KafkaError;

use super::{ANSWER_WAIT, LogReader, lock};

/// How long an answer is believed.
const FRESH: Duration = Duration::from_secs(60);
/// Topics that are remembered; past it, all are forgotten.
const MAX_REMEMBERED: usize = 10_000;

impl LogReader {
    /// How long the records of a topic are kept; for ever where Kafka does not
    /// tell, as without the right to DescribeConfigs. While it does not answer,
    /// what it said last is believed.
    pub async fn retention(&self, topic: &str) -> Retention {
        let known = lock(&self.retentions).get(topic).copied();
        if let Some((at, known)) = known
            && at.elapsed() < FRESH
        {
            return known;
        }
        let told = match self.ask_retention(topic).await {
            Ok(told) => told,
            Err(error) => {
                tracing::debug!(topic, %error, "cannot ask how long a topic keeps its records");
                return known.map(|(_, known)| known).unwrap_or_default();
            }
        };
        let mut retentions = lock(&self.retentions);
        if retentions.len() >= MAX_REMEMBERED {
            retentions.clear();
        }
        retentions.insert(topic.to_owned(), (Instant::now(), told));
        told
    }

    async fn ask_retention(&self, topic: &str) -> Result<Retention, KafkaError> {
        let clients = self.clients();
        let options = AdminOptions::new().request_timeout(Some(ANSWER_WAIT));
        let described = clients.admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options).await;
        // The last one who holds replaced clients waits for their threads.
        tokio::task::spawn_blocking(move || drop(clients));
        // An error of the topic itself is an answer: it may not be described.
        Ok(described?.into_iter().next().and_then(Result::ok).map(|settings| told(&settings)).unwrap_or_default())
    }
}

fn told(settings: &ConfigResource) -> Retention {
    let value = |name: &str| settings.get(name).and_then(|entry| entry.value.clone());
    let [policy, time, size] = ["cleanup.policy", "retention.ms", "retention.bytes"].map(value);
    kept(policy.as_deref(), time.as_deref(), size.as_deref())
}

/// What three settings of a topic say. A negative retention is none.
fn kept(cleanup_policy: Option<&str>, retention_ms: Option<&str>, retention_bytes: Option<&str>) -> Retention {
    if !cleanup_policy.is_none_or(|policy| policy.split(',').any(|one| one.trim() == "delete")) {
        return Retention::default();
    }
    let number = |setting: Option<&str>| setting.and_then(|setting| setting.parse::<u64>().ok());
    Retention { time: number(retention_ms).map(Duration::from_millis), by_size: number(retention_bytes).is_some() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_for_ever_has_no_retention() {
        let hour = Retention { time: Some(Duration::from_secs(3_600)), by_size: false };
        let for_ever = Retention::default();
        assert_eq!(kept(Some("delete"), Some("3600000"), Some("-1")), hour);
        assert_eq!(kept(Some("compact, delete"), Some("3600000"), None), hour);
        assert_eq!(kept(None, Some("3600000"), None), hour);
        assert_eq!(kept(Some("delete"), Some("-1"), Some("-1")), for_ever);
        assert_eq!(kept(Some("compact"), Some("3600000"), Some("1024")), for_ever);
        assert_eq!(kept(Some("delete"), None, None), for_ever);
        assert_eq!(kept(Some("delete"), Some("-1"), Some("1024")), Retention { by_size: true, ..for_ever });
    }
}
