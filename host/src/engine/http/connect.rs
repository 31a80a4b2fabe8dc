//! Connections: the addresses that a name may have, and the time to connect.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tower::{Layer, Service};

use super::rules::HttpRules;
use crate::addresses::{AddressKind, is_localhost, literal, operator_may_reach};
use crate::engine::limits::HTTP_CONNECT_WITHIN;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A name has only addresses that may not be connected to.
#[derive(Debug, thiserror::Error)]
#[error("{name} has no address that may be connected to, only {found}: {remedy}")]
pub(super) struct Prohibited {
    name: String,
    found: String,
    remedy: &'static str,
}

/// A connection took longer than its bound.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {0:?}")]
pub(super) struct TooLate(Duration);

/// Resolves names to the addresses that may be connected to. A URL with an
/// address for its host does not come here, since `admit` judged it. An address
/// in the allow-list is reached as that address only: a name that resolves to it
/// says nothing about the port that was listed.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    /// Whether private and loopback addresses are allowed too.
    pub(super) private: bool,
    /// The name in the URL that the operator wrote for `http-push`.
    pub(super) own: Option<String>,
    /// The one address to which `own` resolves here. It is judged as any other.
    pub(super) own_address: Option<IpAddr>,
    #[cfg(test)]
    pub(super) names: Option<super::tests_of_targets::Names>,
}

impl Resolver {
    /// The resolver of a binding.
    pub(super) fn of(rules: &HttpRules) -> Self {
        let own = rules.own_url.as_ref().filter(|url| literal(url).is_none()).and_then(|url| url.host_str());
        Self {
            private: rules.private,
            own: own.map(str::to_ascii_lowercase),
            own_address: rules.own_address,
            #[cfg(test)]
            names: None,
        }
    }

    pub(super) async fn look_up(&self, name: &str) -> std::io::Result<Vec<SocketAddr>> {
        if let Some(address) = self.own_address.filter(|_| self.is_own(name)) {
            return Ok(vec![SocketAddr::new(address, 0)]);
        }
        #[cfg(test)]
        if let Some(names) = &self.names {
            return Ok(names.of(name));
        }
        Ok(tokio::net::lookup_host((name, 0)).await?.collect())
    }

    fn is_own(&self, name: &str) -> bool {
        self.own.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name))
    }

    /// Whether a name may resolve to an address.
    pub(super) fn lets_through(&self, name: &str, address: IpAddr) -> bool {
        match AddressKind::of(address) {
            AddressKind::Public => true,
            AddressKind::Private | AddressKind::Loopback if self.private => true,
            AddressKind::Private | AddressKind::Loopback => {
                self.is_own(name) && operator_may_reach(address, is_localhost(name))
            }
            AddressKind::Nowhere => false,
        }
    }

    /// The addresses of a name that may be connected to.
    pub(super) fn judge(&self, name: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Prohibited> {
        let (good, bad): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|address| self.lets_through(name, address.ip()));
        if !good.is_empty() {
            return Ok(good);
        }
        let found = bad.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ");
        let remedy = if self.is_own(name) {
            "write localhost into url for this machine"
        } else {
            "set private = true in [binding.http] if it is one of this network"
        };
        Err(Prohibited { name: name.to_owned(), found, remedy })
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let good = resolver.judge(&name, resolver.look_up(&name).await?)?;
            Ok(Box::new(good.into_iter()) as Addrs)
        })
    }
}

tokio::task_local! {
    /// The time that the connection of the current request may take.
    static CONNECT_WITHIN: Duration;
}

/// Sends a request whose connection, if it needs one, may take `connect`. The
/// client has one bound for all requests, and guests ask for their own.
pub(super) async fn within<T>(connect: Duration, send: impl Future<Output = T>) -> T {
    CONNECT_WITHIN.scope(connect, send).await
}

/// The layer that bounds the time of each connection.
#[derive(Clone, Copy)]
pub(super) struct ConnectWithin;

/// The service of [`ConnectWithin`].
#[derive(Clone)]
pub(super) struct Bounded<S>(S);

impl<S> Layer<S> for ConnectWithin {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded(inner)
    }
}

impl<S, R> Service<R> for Bounded<S>
where
    S: Service<R, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        // Called while the request is first polled, and so within its scope.
        let within = CONNECT_WITHIN.try_with(|within| *within).unwrap_or(HTTP_CONNECT_WITHIN);
        let connecting = self.0.call(request);
        Box::pin(async move {
            match tokio::time::timeout(within, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(TooLate(within).into()),
            }
        })
    }
}
