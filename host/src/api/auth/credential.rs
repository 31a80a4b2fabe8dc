//! The caller of a request, by the token or the session that it shows.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::ops::Deref;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use sha2::{Digest, Sha256};

use super::{Caller, Role, bearer};
use crate::api::App;
use crate::api::answers::Asker;
use crate::api::problem::Problem;
use crate::api::sessions::{self, SessionSecret};
use crate::api::{changes, rate_limit, reads};
use crate::store::StoreError;
use crate::turns::Turn;

/// The credential that admitted a caller, so that an endless response can check it
/// again.
#[derive(Clone)]
pub enum Credential {
    /// No credential was needed.
    Open,
    /// A token, by its digest.
    Token([u8; 32]),
    /// A session.
    Session(SessionSecret),
}

impl Credential {
    /// The caller that it admits now; `None` when the token or the session is gone.
    ///
    /// # Errors
    /// When the store is unavailable, which revokes nothing.
    pub async fn judge(&self, app: &App) -> Result<Option<Caller>, StoreError> {
        match self {
            Self::Open => Ok(app.auth.is_open().then(Caller::local)),
            Self::Token(digest) => Ok(app.auth.of_digest(digest).map(|(_, caller)| caller)),
            Self::Session(secret) => sessions::holder(app, *secret).await,
        }
    }
}

impl FromRequestParts<App> for Credential {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let token = parts.headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        Ok(match (token, SessionSecret::of(&parts.headers, app.cookies)) {
            _ if app.auth.is_open() => Self::Open,
            (None, Some(secret)) => Self::Session(secret),
            (token, _) => Self::Token(Sha256::digest(token.unwrap_or_default()).into()),
        })
    }
}

/// A role as a type, for [`As`].
pub trait RoleType {
    /// The role.
    const ROLE: Role;
    /// Whether its changes take one of the token's turns of small changes.
    const TAKES_TURN: bool = false;
}

macro_rules! rank {
    ($($name:ident $({ $turn:item })?)*) => { $(
        #[doc = concat!("The role ", stringify!($name), ", for [`As`].")]
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl RoleType for $name {
            const ROLE: Role = Role::$name;
            $($turn)?
        }
    )* };
}

rank!(Viewer Publisher Operator { const TAKES_TURN: bool = true; } Admin);

/// The role Operator, for [`As`], of a bulk change: it takes its turn by
/// `changes::begin_bulk` once its body is read.
#[derive(Clone, Copy, Debug)]
pub struct BulkOperator;

impl RoleType for BulkOperator {
    const ROLE: Role = Role::Operator;
}

/// A caller who has at least the role `R`. For a request that only reads, and for a
/// small change of an operator, it holds a turn of its token until the operation has
/// its answer. Publishers and uploads have no such turns: the memory of their bodies
/// bounds them, and sends are written in batches.
#[derive(Debug)]
pub struct As<R> {
    caller: Caller,
    _turn: Option<Turn>,
    role: PhantomData<R>,
}

impl<R> Deref for As<R> {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl<R: RoleType> FromRequestParts<App> for As<R> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let authorization = parts.headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let caller = match SessionSecret::of(&parts.headers, app.cookies) {
            // A token counts before the cookie that a browser adds.
            Some(secret) if authorization.is_none() && !app.auth.is_open() => {
                sessions::admit(app, parts, secret).await?
            }
            _ => app.auth.admit(authorization, rate_limit::peer(parts))?,
        };
        if let Some(asker) = parts.extensions.get::<Asker>() {
            asker.is(&caller.name);
        }
        caller.at_least(R::ROLE)?;
        let turn = match parts.method.is_safe() {
            true => Some(reads::begin(&caller.name).await?),
            false if R::TAKES_TURN => Some(changes::begin(&caller.name).await?),
            false => None,
        };
        Ok(Self { caller, _turn: turn, role: PhantomData })
    }
}
