//! Authentication, and authorization by roles and scopes.
//!
//! An operation names the lowest role that it needs in its signature
//! (`caller: As<Operator>`), so that no operation is written without one, and checks
//! every topic and group against the caller's scope. Secrets are kept as SHA-256
//! and compared in constant time. Without tokens everybody is admin; the
//! configuration allows that on a loopback address only.

mod caller;
mod credential;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use parking_lot::RwLock;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use self::caller::Admission;
pub use self::caller::Caller;
pub use self::credential::{Admin, As, BulkOperator, Credential, Operator, Publisher, RoleType, Viewer};
use super::problem::Problem;
use super::rate_limit::PeerRateLimit;
pub use crate::config::Role;

/// Wrong tokens that one address may send at once, and the time after which it
/// may send one more.
const WRONG_BURST: u32 = 100;
const WRONG_REFILL: Duration = Duration::from_secs(1);

/// A token as the configuration gives it.
#[derive(Clone, Debug)]
pub struct TokenSpec {
    /// Its name in the audit log.
    pub name: String,
    /// The role of its holder.
    pub role: Role,
    /// The secret that clients send.
    pub secret: SecretString,
    /// The only topics it reaches; none means all.
    pub topics: Option<Vec<String>>,
    /// The only groups it reaches; none means all.
    pub groups: Option<Vec<String>>,
    /// The sources that belong to this token, beside its name: it publishes as
    /// these only, and no other token may. A token with `None` publishes as any
    /// source that belongs to no token. The name of another token among them is
    /// proven for neither.
    pub sources: Option<Vec<String>>,
}

/// A token without its secret.
struct KnownToken {
    digest: [u8; 32],
    caller: Caller,
}

/// Authenticates requests. Clones share the tokens, so that a reload of the
/// configuration applies to every later request.
#[derive(Clone)]
pub struct Authenticator {
    tokens: Arc<RwLock<Arc<Vec<KnownToken>>>>,
    wrong: PeerRateLimit,
}

impl Authenticator {
    /// An authenticator with these tokens; without any it admits everybody.
    #[must_use]
    pub fn new(specs: Vec<TokenSpec>) -> Self {
        let gate = Self { tokens: Arc::default(), wrong: PeerRateLimit::new(WRONG_BURST, WRONG_REFILL) };
        gate.replace(specs);
        gate
    }

    /// Replaces the tokens.
    pub fn replace(&self, specs: Vec<TokenSpec>) {
        let tokens = specs.into_iter().map(|spec| KnownToken {
            digest: Sha256::digest(spec.secret.expose_secret().as_bytes()).into(),
            caller: Caller {
                name: spec.name.into(),
                admission: Admission::Token,
                role: spec.role,
                topics: spec.topics.map(Arc::from),
                groups: spec.groups.map(Arc::from),
                sources: spec.sources.map(Arc::from),
            },
        });
        *self.tokens.write() = Arc::new(tokens.collect());
    }

    /// Whether there are no tokens.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.tokens().is_empty()
    }

    /// The caller that sent `authorization` from `peer`.
    ///
    /// A valid token is never refused because of wrong ones from the same address,
    /// which behind a proxy is everybody's. Its length protects a secret from
    /// guessing; the rate limit slows down clients with an old token.
    ///
    /// # Errors
    /// 401 without a valid token; 429 after too many wrong tokens.
    pub fn admit(&self, authorization: Option<&[u8]>, peer: IpAddr) -> Result<Caller, Problem> {
        let tokens = self.tokens();
        if tokens.is_empty() {
            return Ok(Caller::local());
        }
        let refuse = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, "not authenticated", detail);
        let shown =
            authorization.ok_or_else(|| refuse("no token was sent; send it as `Authorization: Bearer <token>`"))?;
        let secret = bearer(shown).ok_or_else(|| {
            refuse("the Authorization header is not of the form `Bearer <token>`, which is asked for")
        })?;
        match self.find(secret) {
            Some((_, caller)) => Ok(caller),
            None => {
                self.wrong.count(peer, "wrong tokens")?;
                Err(refuse("nobody has this token; the tokens are those of [auth] in the configuration"))
            }
        }
    }

    /// The digest and the caller of the token with this secret.
    #[must_use]
    pub fn find(&self, secret: &[u8]) -> Option<([u8; 32], Caller)> {
        self.of_digest(&Sha256::digest(secret).into())
    }

    /// The token whose secret has this digest.
    fn of_digest(&self, digest: &[u8; 32]) -> Option<([u8; 32], Caller)> {
        let tokens = self.tokens();
        // Every token is compared, so that the time taken does not reveal which
        // one matched.
        let mut found = u64::MAX;
        for (at, token) in tokens.iter().enumerate() {
            let same: Choice = token.digest.ct_eq(digest);
            found.conditional_assign(&(at as u64), same);
        }
        let token = usize::try_from(found).ok().and_then(|at| tokens.get(at))?;
        Some((token.digest, token.caller.clone()))
    }

    /// Whether `source` is known to be the caller's.
    ///
    /// # Errors
    /// 403 when the caller may not publish as `source`, because it belongs to
    /// another token or is not among the caller's own.
    pub fn proves(&self, caller: &Caller, source: &str) -> Result<bool, Problem> {
        let tokens = self.tokens();
        let others = || tokens.iter().map(|token| &token.caller).filter(|other| other.name != caller.name);
        let is_named = others().any(|other| *source == *other.name);
        let is_listed = others().any(|other| other.lists(source));
        if *source == *caller.name {
            return Ok(!is_listed);
        }
        if caller.lists(source) {
            return Ok(!is_named);
        }
        if let Some(own) = &caller.sources {
            let own = own.join("`, `");
            return Err(Problem::forbidden(format!(
                "the source `{source}` is none of the token `{}`, which publishes as `{}` or `{own}`",
                caller.name, caller.name
            )));
        }
        if is_named || is_listed {
            return Err(Problem::forbidden(format!(
                "the source `{source}` belongs to another token; the token `{}` publishes as itself unless it names \
                 another source",
                caller.name
            )));
        }
        Ok(false)
    }

    /// The digest and the caller of the token of this name; `None` when it left the
    /// configuration.
    #[must_use]
    pub fn holder(&self, name: &str) -> Option<([u8; 32], Caller)> {
        let tokens = self.tokens();
        let token = tokens.iter().find(|token| &*token.caller.name == name)?;
        Some((token.digest, token.caller.clone()))
    }

    fn tokens(&self) -> Arc<Vec<KnownToken>> {
        Arc::clone(&self.tokens.read())
    }
}

/// The secret of a bearer token; the scheme's case does not matter.
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, secret) = header.split_at_checked(b"bearer ".len())?;
    let secret = secret.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !secret.is_empty()).then_some(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn spec(name: &str, role: Role, topics: Option<&[&str]>) -> TokenSpec {
        TokenSpec {
            name: name.into(),
            role,
            secret: format!("{name}-secret").into(),
            topics: topics.map(|topics| topics.iter().map(ToString::to_string).collect()),
            groups: None,
            sources: None,
        }
    }

    /// A publisher took the id of another tenant's message by its source.
    #[test]
    fn a_source_belongs_to_a_token_or_is_unproven() {
        let own = |name: &str, sources: &[&str]| TokenSpec {
            sources: Some(sources.iter().map(ToString::to_string).collect()),
            ..spec(name, Role::Publisher, None)
        };
        let gate = Authenticator::new(vec![own("shop", &["/eu/shop"]), spec("other", Role::Publisher, None)]);
        let [shop, other] = ["shop", "other"].map(|name| gate.holder(name).unwrap().1);
        assert_eq!(gate.proves(&shop, "/eu/shop").ok(), Some(true));
        assert_eq!(gate.proves(&shop, "shop").ok(), Some(true));
        let why = gate.proves(&shop, "other").unwrap_err();
        assert_eq!(why.status, StatusCode::FORBIDDEN);
        assert_eq!(gate.proves(&other, "other").ok(), Some(true));
        assert_eq!(gate.proves(&other, "legacy").ok(), Some(false), "nobody's: taken, and shown as unproven");
        assert_eq!(gate.proves(&other, "/eu/shop").unwrap_err().status, StatusCode::FORBIDDEN);
        // Issue 17: only `sources` counted, and not the name that is a token's usual source.
        assert_eq!(gate.proves(&other, "shop").unwrap_err().status, StatusCode::FORBIDDEN);
    }

    /// Such a file is valid, and both may have published under the name for long.
    #[test]
    fn a_name_that_another_token_lists_is_proven_for_neither() {
        let listing = |name: &str, sources: &[&str]| TokenSpec {
            sources: Some(sources.iter().map(ToString::to_string).collect()),
            ..spec(name, Role::Publisher, None)
        };
        let gate = Authenticator::new(vec![
            listing("gateway", &["shop", "/gateway"]),
            spec("shop", Role::Publisher, None),
            spec("other", Role::Publisher, None),
        ]);
        let [gateway, shop, other] = ["gateway", "shop", "other"].map(|name| gate.holder(name).unwrap().1);
        assert_eq!(gate.proves(&gateway, "shop").ok(), Some(false));
        assert_eq!(gate.proves(&shop, "shop").ok(), Some(false));
        assert_eq!(gate.proves(&gateway, "/gateway").ok(), Some(true));
        assert_eq!(gate.proves(&other, "shop").unwrap_err().status, StatusCode::FORBIDDEN);
    }

    #[test]
    fn an_open_gate_lets_everybody_do_everything() {
        let gate = Authenticator::new(Vec::new());
        assert!(gate.is_open());
        let caller = gate.admit(Some(b"nonsense"), PEER).unwrap();
        assert_eq!((&*caller.name, caller.source(), caller.role), ("local", "", Role::Admin));
    }

    #[test]
    fn only_the_whole_secret_is_admitted() {
        let gate = Authenticator::new(vec![spec("shop", Role::Publisher, None), spec("ops", Role::Operator, None)]);
        assert_eq!(&*gate.admit(Some(b"Bearer ops-secret"), PEER).unwrap().name, "ops");
        assert_eq!(&*gate.admit(Some(b"bearer  shop-secret "), PEER).unwrap().name, "shop");
        for wrong in [&b"Bearer ops-secre"[..], b"Bearer ", b"Basic ops-secret", b"ops-secret", b"", b"Bearer \xff"] {
            assert_eq!(gate.admit(Some(wrong), PEER).unwrap_err().status, 401, "{wrong:?}");
        }
        assert_eq!(gate.admit(None, PEER).unwrap_err().status, 401);
    }

    #[test]
    fn wrong_tokens_are_bounded_and_right_ones_are_not() {
        let gate = Authenticator::new(vec![spec("shop", Role::Publisher, None)]);
        let wrong = || gate.admit(Some(b"Bearer old-secret"), PEER).unwrap_err();
        for _ in 0..WRONG_BURST {
            assert_eq!(wrong().status, 401);
        }
        let refused = wrong();
        assert!(refused.status == 429 && refused.retry_after == Some(1), "{refused:?}");
        assert!(gate.admit(Some(b"Bearer shop-secret"), PEER).is_ok());
        assert_eq!(gate.admit(None, PEER).unwrap_err().status, 401, "who sends no token guesses none");
    }

    #[test]
    fn a_reload_reaches_every_clone() {
        let gate = Authenticator::new(vec![spec("old", Role::Admin, None)]);
        let clone = gate.clone();
        gate.replace(vec![spec("new", Role::Admin, None)]);
        assert!(clone.admit(Some(b"Bearer old-secret"), PEER).is_err());
        assert!(clone.admit(Some(b"Bearer new-secret"), PEER).is_ok());
    }

    #[test]
    fn roles_and_scopes_are_held() {
        let gate = Authenticator::new(vec![spec("shop", Role::Publisher, Some(&["order"]))]);
        let shop = gate.admit(Some(b"Bearer shop-secret"), PEER).unwrap();
        assert!(shop.at_least(Role::Viewer).is_ok() && shop.at_least(Role::Publisher).is_ok());
        assert!(shop.at_least(Role::Operator).unwrap_err().detail.contains("needs the role operator"));
        assert!(shop.topic("order").is_ok() && shop.group("any").is_ok() && !shop.sees_all());
        assert!(shop.topic("stock").unwrap_err().detail.contains("reaches `order`"));
        assert_eq!(shop.unscoped("plugins").unwrap_err().status, 403);
    }
}
