//! What a service holds to publish with.

use std::time::{Duration, Instant, SystemTime};

use courier_sdk::Event;
use rand::Rng as _;
use reqwest::{Method, Url};
use serde::Serialize;

use crate::http::{Again, Answered, Caller, Tried, one, post};
use crate::{Draft, MessageView, PublishError, Receipt, Which};

/// How long a message is tried, unless [`Publisher::timeout`] says otherwise.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How long one try may take: a host answers within a second, whatever Kafka
/// does, and within five when its store is slow.
const TRY_TIMEOUT: Duration = Duration::from_secs(8);
/// First and longest pause between tries.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LONGEST: Duration = Duration::from_secs(2);
/// Messages and bytes of one request of [`Publisher::publish_all`].
const BATCH: usize = 500;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// The outbox table, unless [`Publisher::outbox_table`] says otherwise.
const OUTBOX: &str = "courier_outbox";

/// Publishes messages through a host. Clones share its connections.
#[derive(Clone)]
pub struct Publisher {
    http: reqwest::Client,
    url: Url,
    token: Option<String>,
    pub(crate) source: Option<String>,
    trace: Option<String>,
    timeout: Duration,
    pub(crate) table: String,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

impl Publisher {
    /// A publisher that asks the host at `url`, for example
    /// `http://127.0.0.1:7070`.
    ///
    /// # Errors
    /// When `url` is none that HTTP can ask.
    pub fn new(url: &str) -> Result<Self, PublishError> {
        let invalid = |why: String| PublishError::Invalid { id: None, why: format!("the host {url:?}: {why}") };
        let mut parsed = Url::parse(url).map_err(|error| invalid(error.to_string()))?;
        match parsed.path_segments_mut() {
            Ok(mut segments) => segments.pop_if_empty().extend(["v1", "messages"]),
            Err(()) => return Err(invalid("is no http or https URL".to_owned())),
        };
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(invalid("is no http or https URL".to_owned()));
        }
        // Cryptography that the service has chosen stays; the error says that it has.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A token goes to the host that was named, and nowhere else.
        let http = reqwest::Client::builder().timeout(TRY_TIMEOUT).redirect(reqwest::redirect::Policy::none()).build();
        Ok(Self {
            http: http.map_err(|error| invalid(error.to_string()))?,
            url: parsed,
            token: None,
            source: None,
            trace: None,
            timeout: TIMEOUT,
            table: OUTBOX.to_owned(),
        })
    }

    /// Shows this token to the host.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Names the sending service; without it, the host takes the token's name.
    pub fn source(mut self, name: impl Into<String>) -> Self {
        self.source = Some(name.into());
        self
    }

    /// How long a message is tried in all before [`PublishError::GaveUp`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The outbox table of [`publish_in`](Self::publish_in), with its schema
    /// before a dot if it has one.
    pub fn outbox_table(mut self, table: impl Into<String>) -> Self {
        self.table = table.into();
        self
    }

    /// The same publisher within a trace: what it publishes carries this
    /// `traceparent` (W3C Trace Context).
    pub fn traced(&self, traceparent: impl Into<String>) -> Self {
        Self { trace: Some(traceparent.into()), ..self.clone() }
    }

    /// Publishes an event.
    ///
    /// # Errors
    /// What the sender can do about it.
    pub async fn publish<E: Event + Serialize>(&self, event: &E) -> Result<Receipt, PublishError> {
        self.send(self.draft(event)?).await
    }

    /// Publishes an event that is delivered no sooner than after `delay`.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_after<E: Event + Serialize>(
        &self,
        event: &E,
        delay: Duration,
    ) -> Result<Receipt, PublishError> {
        self.send(self.draft(event)?.after(delay)).await
    }

    /// Publishes an event that is delivered no sooner than at `time`.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_at<E: Event + Serialize>(&self, event: &E, time: SystemTime) -> Result<Receipt, PublishError> {
        self.send(self.draft(event)?.at(time)).await
    }

    /// Publishes an event that every node of each group handles.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_broadcast<E: Event + Serialize>(&self, event: &E) -> Result<Receipt, PublishError> {
        self.send(self.draft(event)?.broadcast()).await
    }

    /// Publishes events in their order; answers for each, in the same order.
    ///
    /// # Errors
    /// When one of them cannot be written as JSON: then none was sent.
    pub async fn publish_all<E: Event + Serialize>(
        &self,
        events: &[E],
    ) -> Result<Vec<Result<Receipt, PublishError>>, PublishError> {
        let drafts = events.iter().map(|event| self.draft(event)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.send_all(drafts).await)
    }

    /// The message of an event, in this publisher's trace.
    ///
    /// # Errors
    /// When the event cannot be written as JSON.
    pub fn draft<E: Event + Serialize>(&self, event: &E) -> Result<Draft, PublishError> {
        let draft = Draft::of(event)?;
        Ok(match &self.trace {
            Some(trace) => draft.traceparent(trace),
            None => draft,
        })
    }

    /// Sends a draft, and again if need be until the timeout. It can be sent
    /// again after any error: it is one message by its id.
    ///
    /// # Errors
    /// What the sender can do about it.
    pub async fn send(&self, draft: Draft) -> Result<Receipt, PublishError> {
        let body = to_json(&draft.wire(self.source.as_deref())?, draft.id())?;
        let begun = Instant::now();
        let (mut tries, mut pause) = (0, PAUSE_FIRST);
        loop {
            tries += 1;
            let again: Again = match self.post(body.clone(), false, begun).await {
                Tried::Answered(mut items) => match items.pop() {
                    Some(Answered::Taken(receipt)) => return Ok(receipt),
                    Some(Answered::Refused(error)) => return Err(error),
                    Some(Answered::Again(why)) => why.into(),
                    None => "the host answered nothing".to_owned().into(),
                },
                Tried::Refused(error) => return Err(error),
                Tried::Again(again) => again,
            };
            if !self.rest(begun, &mut pause, again.least).await {
                return Err(PublishError::GaveUp { draft: Box::new(draft), tries, why: again.why });
            }
        }
    }

    /// Sends drafts in their order; answers for each, in the same order.
    pub async fn send_all(&self, drafts: Vec<Draft>) -> Vec<Result<Receipt, PublishError>> {
        let mut results: Vec<Option<Result<Receipt, PublishError>>> = drafts.iter().map(|_| None).collect();
        let mut start = 0;
        while start < drafts.len() {
            let mut bytes = 0;
            let fits = drafts[start..].iter().take(BATCH).take_while(|draft| {
                bytes += draft.body.len();
                bytes <= BATCH_BYTES
            });
            let end = start + fits.count().max(1);
            self.send_batch(&drafts[start..end], &mut results[start..end]).await;
            start = end;
        }
        let answered = results.into_iter().zip(drafts).map(|(result, draft)| {
            result.unwrap_or_else(|| Err(PublishError::GaveUp { draft: Box::new(draft), tries: 0, why: String::new() }))
        });
        answered.collect()
    }

    /// Sends one request's drafts until each has its answer.
    async fn send_batch(&self, drafts: &[Draft], results: &mut [Option<Result<Receipt, PublishError>>]) {
        let begun = Instant::now();
        let (mut tries, mut pause) = (0, PAUSE_FIRST);
        loop {
            tries += 1;
            let mut asked = Vec::new();
            let mut parts = Vec::new();
            for (at, draft) in drafts.iter().enumerate() {
                if results[at].is_some() {
                    continue;
                }
                match draft.wire(self.source.as_deref()).and_then(|wire| to_json(&wire, draft.id())) {
                    Ok(json) => {
                        asked.push(at);
                        parts.push(json);
                    }
                    Err(error) => results[at] = Some(Err(error)),
                }
            }
            if asked.is_empty() {
                return;
            }
            let again: Again = match self.post(format!("[{}]", parts.join(",")), true, begun).await {
                Tried::Answered(items) => {
                    let mut why = "the host answered fewer messages than it was sent".to_owned();
                    for (at, item) in asked.into_iter().zip(items) {
                        match item {
                            Answered::Taken(receipt) => results[at] = Some(Ok(receipt)),
                            Answered::Refused(error) => results[at] = Some(Err(error)),
                            Answered::Again(reason) => why = reason,
                        }
                    }
                    why.into()
                }
                Tried::Refused(PublishError::Refused { status, why, .. }) => {
                    for at in asked {
                        let id = Some(drafts[at].id().to_owned());
                        results[at] = Some(Err(PublishError::Refused { id, status, why: why.clone() }));
                    }
                    return;
                }
                Tried::Refused(error) => error.to_string().into(),
                Tried::Again(again) => again,
            };
            if results.iter().all(Option::is_some) {
                return;
            }
            if !self.rest(begun, &mut pause, again.least).await {
                for (result, draft) in results.iter_mut().zip(drafts).filter(|(result, _)| result.is_none()) {
                    let draft = Box::new(draft.clone());
                    *result = Some(Err(PublishError::GaveUp { draft, tries, why: again.why.clone() }));
                }
                return;
            }
        }
    }

    /// A message with its deliveries and their attempts; the newest one where its id
    /// repeats, see [`MessageView::also`].
    ///
    /// # Errors
    /// What the sender can do about it; status 404 for an unknown one.
    pub async fn ask(&self, id: &str) -> Result<MessageView, PublishError> {
        self.ask_for(id, Which::default()).await
    }

    /// As [`Self::ask`], for the message of a topic or a source.
    ///
    /// # Errors
    /// As for [`Self::ask`].
    pub async fn ask_for(&self, id: &str, which: Which<'_>) -> Result<MessageView, PublishError> {
        self.one(Method::GET, id, which).await
    }

    /// Takes a delayed message back that is not due yet; doing so again answers
    /// the same.
    ///
    /// # Errors
    /// What the sender can do about it; status 404 for an unknown one, 409 for
    /// one that went out and for an id that repeats.
    pub async fn cancel(&self, id: &str) -> Result<MessageView, PublishError> {
        self.cancel_for(id, Which::default()).await
    }

    /// As [`Self::cancel`], for the message of a topic or a source.
    ///
    /// # Errors
    /// As for [`Self::cancel`].
    pub async fn cancel_for(&self, id: &str, which: Which<'_>) -> Result<MessageView, PublishError> {
        self.one(Method::DELETE, id, which).await
    }

    async fn one(&self, method: Method, id: &str, which: Which<'_>) -> Result<MessageView, PublishError> {
        let mut url = self.url.clone();
        url.path_segments_mut().expect("`new` checked that it has a path").push(id);
        for (name, value) in [("topic", which.topic), ("source", which.source)] {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        let begun = Instant::now();
        let (mut tries, mut pause) = (0, PAUSE_FIRST);
        loop {
            tries += 1;
            let asked = one(self.http.request(method.clone(), url.clone()), self.caller(), id);
            let again: Again = match self.within(begun, asked).await {
                Ok(Ok(view)) => return Ok(view),
                Ok(Err(Tried::Refused(error))) => return Err(error),
                Ok(Err(Tried::Again(again))) | Err(again) => again,
                Ok(Err(Tried::Answered(_))) => "the host answered another question".to_owned().into(),
            };
            if !self.rest(begun, &mut pause, again.least).await {
                return Err(PublishError::NoAnswer { id: id.to_owned(), tries, why: again.why });
            }
        }
    }

    fn caller(&self) -> Caller<'_> {
        Caller { token: self.token.as_deref(), trace: self.trace.as_deref() }
    }

    async fn post(&self, body: String, many: bool, begun: Instant) -> Tried {
        let posted = post(&self.http, &self.url, self.caller(), body, many);
        self.within(begun, posted).await.unwrap_or_else(Tried::Again)
    }

    /// One try, no longer than what is left of the time.
    async fn within<T>(&self, begun: Instant, tried: impl Future<Output = T>) -> Result<T, Again> {
        let left = self.timeout.saturating_sub(begun.elapsed()).max(PAUSE_FIRST);
        tokio::time::timeout(left, tried).await.map_err(|_| "no answer in time".to_owned().into())
    }

    /// Waits before the next try, a little at random so that senders do not
    /// come back all at once; false when the time is up.
    async fn rest(&self, begun: Instant, pause: &mut Duration, least: Duration) -> bool {
        let wait = pause.mul_f64(rand::rng().random_range(0.5..1.0)).max(least);
        *pause = (*pause * 2).min(PAUSE_LONGEST);
        if begun.elapsed() + wait >= self.timeout {
            return false;
        }
        tokio::time::sleep(wait).await;
        true
    }
}

fn to_json(wire: &impl Serialize, id: &str) -> Result<String, PublishError> {
    serde_json::to_string(wire)
        .map_err(|error| PublishError::Invalid { id: Some(id.to_owned()), why: error.to_string() })
}
