//! Query parameters and path segments.
//!
//! A parameter that an operation does not know is refused, not ignored: a
//! misspelt filter would otherwise widen a list without a word.

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use base64::Engine;
use bytes::Bytes;
use courier_core::message::Timestamp;
use courier_core::status::State;

use super::problem::Problem;
use super::shown::BASE64;
use crate::rfc3339;
use crate::store::{MAX_PAGE, Page};

/// Items of a page by default.
const DEFAULT_PAGE: u32 = 100;

/// The query parameters of a request, not checked yet.
#[derive(Debug)]
pub struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|error| Problem::bad_request("bad query", error.to_string()))?;
        Ok(Self(pairs))
    }
}

impl Params {
    /// The parameters, when all of them are among `known`.
    ///
    /// # Errors
    /// 400 that names the first unknown, repeated or empty one.
    pub fn only(self, known: &[&str]) -> Result<KnownParams, Problem> {
        let mut seen: Vec<&str> = Vec::new();
        for (name, value) in &self.0 {
            if !known.contains(&name.as_str()) {
                let allowed = if known.is_empty() {
                    "this operation takes none".to_owned()
                } else {
                    format!("those of this operation are `{}`", known.join("`, `"))
                };
                let detail = format!("the query parameter `{name}` is unknown; {allowed}");
                return Err(Problem::bad_request("unknown parameter", detail));
            }
            if seen.contains(&name.as_str()) {
                return Err(bad(name, "is given twice; give it once".into()));
            }
            if value.contains('\0') {
                return Err(bad(name, "contains a NUL character, which no value has".into()));
            }
            // A key may be empty, and an unknown source is; other values are not.
            if value.is_empty() && !matches!(name.as_str(), "key" | "source") {
                return Err(bad(name, "is empty; leave it out to ask for all".into()));
            }
            seen.push(name);
        }
        Ok(KnownParams(self.0))
    }

    /// Refuses every parameter.
    ///
    /// # Errors
    /// 400 that names the first one.
    pub fn none(self) -> Result<(), Problem> {
        self.only(&[]).map(|_| ())
    }
}

/// Parameters whose names are known.
#[derive(Debug)]
pub struct KnownParams(Vec<(String, String)>);

impl KnownParams {
    /// The text of a parameter.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    /// A parameter that is `true` or `false`; absent is false.
    ///
    /// # Errors
    /// 400 for any other word.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        self.choice(name).map(|given| given.unwrap_or(false))
    }

    /// A parameter that is `true`, `false` or absent.
    ///
    /// # Errors
    /// 400 for any other word.
    pub fn choice(&self, name: &str) -> Result<Option<bool>, Problem> {
        match self.text(name).as_deref() {
            None => Ok(None),
            Some("false") => Ok(Some(false)),
            Some("true") => Ok(Some(true)),
            Some(other) => Err(bad(name, format!("is {other:?}; write true or false"))),
        }
    }

    /// A parameter that names a state.
    ///
    /// # Errors
    /// 400 that lists the states.
    pub fn state(&self, name: &str) -> Result<Option<State>, Problem> {
        self.text(name)
            .map(|word| word.parse().map_err(|why: String| bad(name, format!("is wrong: {why}"))))
            .transpose()
    }

    fn time(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        // A plus that was not percent-encoded arrives as a space. A time has one
        // only in its offset, as in +01:00.
        let plain = |text: String| if text.contains('T') { text.replace(' ', "+") } else { text };
        let parse = |text: String| rfc3339::parse(&text).map_err(|why| bad(name, format!("is wrong: {why}")));
        self.text(name).map(plain).map(parse).transpose()
    }

    /// The time range of `from` and `to`; either may be absent.
    ///
    /// # Errors
    /// 400 for a text that is no time, and for an empty range.
    pub fn between(&self) -> Result<(Option<Timestamp>, Option<Timestamp>), Problem> {
        let (from, to) = (self.time("from")?, self.time("to")?);
        if from.zip(to).is_some_and(|(from, to)| from >= to) {
            return Err(bad("from", "is not before `to`: nothing lies between".into()));
        }
        Ok((from, to))
    }

    /// The key: `key` as text, or `key_base64` for one that is not text.
    ///
    /// # Errors
    /// 400 when both are given or the Base64 is invalid.
    pub fn key(&self) -> Result<Option<Bytes>, Problem> {
        match (self.text("key"), self.text("key_base64")) {
            (Some(_), Some(_)) => Err(bad("key_base64", "is given beside `key`; give one of them".into())),
            (Some(text), None) => Ok(Some(text.into_bytes().into())),
            (None, Some(text)) => match BASE64.decode(&text) {
                Ok(bytes) => Ok(Some(bytes.into())),
                Err(error) => Err(bad("key_base64", format!("is no Base64: {error}"))),
            },
            (None, None) => Ok(None),
        }
    }

    /// The part of a list that `cursor` and `limit` ask for.
    ///
    /// # Errors
    /// 400 for a limit that is not a number from 1 to [`MAX_PAGE`].
    pub fn page(&self) -> Result<Page, Problem> {
        let limit = match self.text("limit") {
            None => DEFAULT_PAGE,
            Some(text) => match text.parse() {
                Ok(limit) if (1..=MAX_PAGE).contains(&limit) => limit,
                _ => return Err(bad("limit", format!("is {text:?}; write a number from 1 to {MAX_PAGE}"))),
            },
        };
        Ok(Page { cursor: self.text("cursor"), limit })
    }
}

fn bad(name: &str, detail: String) -> Problem {
    Problem::bad_request("bad parameter", format!("the query parameter `{name}` {detail}"))
}

/// The one variable segment of a path, percent-decoded.
#[derive(Debug)]
pub struct Segment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text): Path<String> = Path::from_request_parts(parts, state).await.map_err(|error| match error {
            PathRejection::FailedToDeserializePathParams(why) => Problem::bad_request("bad path", why.to_string()),
            other => Problem::internal(other),
        })?;
        if text.contains('\0') {
            return Err(Problem::not_found("nothing has a NUL character in its name"));
        }
        Ok(Self(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["topic", "state", "from", "to", "key", "key_base64", "limit", "cursor", "activate"];

    fn params(query: &str) -> Result<KnownParams, Problem> {
        let uri = format!("/x?{query}").parse().unwrap();
        Params(Query::<Vec<(String, String)>>::try_from_uri(&uri).unwrap().0).only(KNOWN)
    }

    #[test]
    fn an_unknown_parameter_is_named_with_the_known_ones() {
        let problem = params("topik=a").unwrap_err();
        assert_eq!(problem.title, "unknown parameter");
        assert!(problem.detail.contains("`topik`") && problem.detail.contains("`topic`"), "{}", problem.detail);
        assert!(params("topic=a&topic=b").unwrap_err().detail.contains("twice"));
        assert!(params("topic=").unwrap_err().detail.contains("empty"));
        assert!(params("topic=a%00b").unwrap_err().detail.contains("NUL"));
    }

    #[test]
    fn values_are_decoded_and_checked() {
        let known = params("topic=a%2Fb+c&state=HANDLED&from=1970-01-01T00:00:00Z&key=&limit=7&activate=true").unwrap();
        assert_eq!(known.text("topic").as_deref(), Some("a/b c"));
        assert_eq!(known.state("state").unwrap(), Some(State::Handled));
        assert_eq!(known.between().unwrap(), (Some(Timestamp(0)), None));
        for plus in ["+", "%2B"] {
            let known = params(&format!("from=1970-01-01T01:00:00{plus}01:00")).unwrap();
            assert_eq!(known.between().unwrap().0, Some(Timestamp(0)), "{plus}");
        }
        assert_eq!(known.key().unwrap(), Some(Bytes::new()));
        assert_eq!(known.page().unwrap().limit, 7);
        assert!(known.flag("activate").unwrap());
    }

    #[test]
    fn wrong_values_say_what_is_right() {
        let detail = |problem: Problem| problem.detail;
        assert!(detail(params("state=handled").unwrap().state("state").unwrap_err()).contains("HANDLED"));
        assert!(detail(params("from=now").unwrap().between().unwrap_err()).contains("RFC 3339"));
        let at = "2026-01-02T03:04:05Z";
        assert!(detail(params(&format!("from={at}&to={at}")).unwrap().between().unwrap_err()).contains("not before"));
        for limit in ["0", "1001", "-1", "x", "1e3"] {
            assert!(detail(params(&format!("limit={limit}")).unwrap().page().unwrap_err()).contains("1 to 1000"));
        }
        assert!(detail(params("key_base64=%21").unwrap().key().unwrap_err()).contains("Base64"));
        assert!(detail(params("key=a&key_base64=YQ==").unwrap().key().unwrap_err()).contains("one of them"));
        assert!(detail(params("activate=yes").unwrap().flag("activate").unwrap_err()).contains("true or false"));
    }
}
