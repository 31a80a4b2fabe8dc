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
use crate::api::rate_limit;
use crate::api::reads::{self, RunningRead};
use crate::api::sessions::{self, SessionSecret};
use crate::store::StoreError;

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
}

macro_rules! rank {
    ($($name:ident)*) => { $(
        #[doc = concat!("The role ", stringify!($name), ", for [`As`].")]
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl RoleType for $name {
            const ROLE: Role = Role::$name;
        }
    )* };
}

rank!(Viewer Publisher Operator Admin);

/// A caller who has at least the role `R`. For a request that only reads it holds
/// the place of a running read, until the operation has its answer.
#[derive(Debug)]
pub struct As<R> {
    caller: Caller,
    _read: Option<RunningRead>,
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
        let read = if parts.method.is_safe() { Some(reads::begin(&caller.name).await?) } else { None };
        Ok(Self { caller, _read: read, role: PhantomData })
    }
}
