//! Bounds the requests of one kind that run at once: those of one token, and those of
//! all tokens. More wait for their turn, and are refused after a while.

use std::time::Duration;

use axum::http::StatusCode;

use super::problem::Problem;
use crate::turns::{Turn, Turns};

/// How long a request waits for its turn before it is refused.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(10);
/// When a client that was refused may ask again.
const RETRY_AFTER_SECONDS: u64 = 1;

/// A kind of request, in the words of its error.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestKind {
    /// Its plural.
    pub(super) plural: &'static str,
    /// What whoever is refused does next.
    pub(super) advice: &'static str,
}

/// The running requests of one kind by the name of their token.
pub(super) struct RequestTurns {
    kind: RequestKind,
    each: usize,
    turns: Turns,
}

impl RequestTurns {
    /// Turns of which one token has `each` at once, and all tokens `all` if that is
    /// bounded.
    pub(super) fn new(kind: RequestKind, each: usize, all: Option<usize>) -> Self {
        Self { kind, each, turns: Turns::new(each, all) }
    }

    /// Waits until one more request of a token may run.
    ///
    /// # Errors
    /// 429 when that took longer than `wait`.
    pub(super) async fn begin(&self, token: &str, wait: Duration) -> Result<Turn, Problem> {
        self.turns.of(token).begin(wait).await.ok_or_else(|| self.refusal(token, wait))
    }

    fn refusal(&self, token: &str, wait: Duration) -> Problem {
        let (RequestKind { plural, advice }, each) = (self.kind, self.each);
        let of_all = if self.turns.are_shared() { " or those of other tokens have all turns" } else { "" };
        let detail = format!(
            "{plural} of the token `{token}` that run at once are {each} at most{of_all}, and none ended within {wait:?}; \
             {advice}"
        );
        Problem::new(StatusCode::TOO_MANY_REQUESTS, &format!("too many {plural}"), detail)
            .retry_after(RETRY_AFTER_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const LISTS: RequestKind = RequestKind { plural: "lists", advice: "ask for less at once" };

    /// The lists of one token kept the sends of another waiting.
    #[tokio::test]
    async fn the_requests_of_one_token_wait_for_each_other_and_for_no_other_token() {
        let lists = RequestTurns::new(LISTS, 2, None);
        let (shop, other): (Arc<str>, Arc<str>) = ("shop".into(), "other".into());
        let first = lists.begin(&shop, MAX_WAIT).await.unwrap();
        let _second = lists.begin(&shop, MAX_WAIT).await.unwrap();
        let refused = lists.begin(&shop, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!((refused.status, refused.retry_after), (429, Some(1)));
        assert!(refused.detail.contains("lists of the token `shop` that run at once are 2"), "{}", refused.detail);
        assert!(refused.detail.ends_with("; ask for less at once"), "{}", refused.detail);
        drop(lists.begin(&other, MAX_WAIT).await.unwrap());
        drop(first);
        drop(lists.begin(&shop, MAX_WAIT).await.unwrap());
    }

    #[tokio::test]
    async fn one_token_has_not_all_turns_and_all_tokens_have_no_more_than_there_are() {
        let lists = RequestTurns::new(LISTS, 1, Some(2));
        let tokens: [Arc<str>; 3] = ["shop".into(), "other".into(), "third".into()];
        let soon = Duration::from_millis(1);
        let of_shop = lists.begin(&tokens[0], MAX_WAIT).await.unwrap();
        lists.begin(&tokens[0], soon).await.unwrap_err();
        let _of_other = lists.begin(&tokens[1], MAX_WAIT).await.unwrap();
        let refused = lists.begin(&tokens[2], soon).await.unwrap_err();
        assert!(refused.detail.contains("those of other tokens"), "{}", refused.detail);
        drop(of_shop);
        drop(lists.begin(&tokens[2], MAX_WAIT).await.unwrap());
    }
}
