//! The bindings of live nodes, cached for warnings to senders.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::api::problem::Problem;
use crate::store::NodeBinding;

/// How long the bindings are cached, so that not every publish queries the store.
const FRESH: Duration = Duration::from_secs(1);
/// How long a publish waits for that query.
const ASK_WAIT: Duration = Duration::from_millis(500);

/// The cached bindings of this host and of the live nodes.
#[derive(Clone, Debug, Default)]
pub struct Audience(Arc<Mutex<Heard>>);

#[derive(Debug, Default)]
struct Heard {
    asked_at: Option<Instant>,
    /// `None` until the first query succeeded.
    bound: Option<Arc<[NodeBinding]>>,
}

impl Audience {
    /// The bindings, by `query` unless they were asked for a moment ago; `None` while
    /// they are not known.
    pub(super) async fn bound(
        &self,
        query: impl Future<Output = Result<Vec<NodeBinding>, Problem>>,
    ) -> Option<Arc<[NodeBinding]>> {
        {
            let mut heard = self.lock();
            if heard.bound.is_some() && heard.asked_at.is_some_and(|at| at.elapsed() < FRESH) {
                return heard.bound.clone();
            }
            // One request queries; the others go on with the cached bindings.
            heard.asked_at = Some(Instant::now());
        }
        let asked = tokio::time::timeout(ASK_WAIT, query).await;
        let mut heard = self.lock();
        match asked {
            Ok(Ok(bound)) => heard.bound = Some(bound.into()),
            Ok(Err(problem)) => tracing::debug!(why = problem.detail, "cannot ask what is bound"),
            Err(_) => tracing::debug!("the store did not say in time what is bound"),
        }
        heard.bound.clone()
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Heard> {
        self.0.lock()
    }
}
