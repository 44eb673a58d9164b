//! Builds HTTP clients: the one place that does, so that time-outs, trust and what a client may follow are the same everywhere.
//! A client belongs to the runtime that first uses it, since its pooled connections do: each worker has its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Once};
use std::time::Duration;

/// For a connection to stand, TLS included. Far away is 300 ms; a lost SYN is sent again after 1 s and 3 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An instance under full load answers its admin socket within a second.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections that are kept to one host; those past them are closed.
const IDLE_PER_HOST_MAX: usize = 16;

mod address;

/// How long an idle connection is kept: less than the 60 s after which many servers and proxies close theirs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// Whose certificates are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The authorities that this system trusts.
    System,
    /// Nobody: for talking plain HTTP to this machine, also where the system has no authorities at all.
    Nobody,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboundError {
    /// With `Trust::System` the usual cause is a system without a store of certificates, such as a bare container.
    #[error("cannot make an HTTP client ({}); where certificates are missing, install the package `ca-certificates`", cause(.0))]
    Build(#[source] reqwest::Error),
}

/// A client whose requests end within `timeout`, body included. It follows no redirects, which are the caller's business, and reads no
/// proxy from the environment.
pub(crate) fn client(timeout: Duration, trust: Trust) -> Result<reqwest::Client, OutboundError> {
    install_crypto();
    #[expect(clippy::disallowed_methods, reason = "this is the one place that builds clients")]
    let builder = reqwest::Client::builder();
    let builder = match trust {
        Trust::System => builder,
        Trust::Nobody => builder.tls_certs_only([]),
    };
    builder
        .user_agent(concat!("rhaiway/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
        .build()
        .map_err(OutboundError::Build)
}

/// How a provider may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// For a connection to stand, TLS included.
    pub(crate) connect_timeout: Duration,
    /// Whether a name may lead to public addresses only. A URL that names an address says itself where it leads.
    pub(crate) only_public: bool,
    /// Idle connections that are kept.
    pub(crate) idle_max: usize,
}

/// A client for one provider. Its requests end when the caller gives them up; it follows no redirects and reads no proxy from the environment.
pub(crate) fn provider(reach: Reach) -> Result<reqwest::Client, OutboundError> {
    install_crypto();
    #[expect(clippy::disallowed_methods, reason = "this is the one place that builds clients")]
    let builder = reqwest::Client::builder();
    let builder =
        if reach.only_public { builder.dns_resolver(Arc::new(OnlyPublic)) } else { builder };
    builder
        .user_agent(concat!("rhaiway/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(reach.connect_timeout)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .http1_only()
        .tcp_nodelay(true)
        .pool_max_idle_per_host(reach.idle_max)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build()
        .map_err(OutboundError::Build)
}

/// Looks names up and keeps what the world can reach. Asked for every connection, so a second answer fares no better than the first.
#[derive(Debug)]
struct OnlyPublic;

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
#[error(
    "its name leads to an address of a private network, which `private_network = true` would allow"
)]
struct Private;

impl reqwest::dns::Resolve for OnlyPublic {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let public: Vec<SocketAddr> =
                found.iter().copied().filter(|found| address::is_public(found.ip())).collect();
            if public.is_empty() && !found.is_empty() {
                return Err(Private.into());
            }
            let addresses: reqwest::dns::Addrs = Box::new(public.into_iter());
            Ok(addresses)
        })
    }
}

/// The innermost cause of an error of a client, without the URL, which may be a secret.
pub(crate) fn innermost(error: &reqwest::Error) -> String {
    cause(error)
}

/// Whether a name led to a private network, which config does not allow.
pub(crate) fn is_private(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<Private>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A client that talks to the Unix socket at `socket`, whatever host a URL names.
pub(crate) fn local(socket: &Path) -> Result<reqwest::Client, OutboundError> {
    install_crypto();
    #[expect(clippy::disallowed_methods, reason = "this is the one place that builds clients")]
    let builder = reqwest::Client::builder();
    builder
        .unix_socket(socket)
        .tls_certs_only([])
        .timeout(LOCAL_TIMEOUT)
        .build()
        .map_err(OutboundError::Build)
}

/// reqwest panics where no provider of cryptography is installed.
fn install_crypto() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // The only failure is that another one is there already, and then that one serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// The innermost cause, which says more than "builder error".
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_for_this_machine_needs_no_certificates() {
        client(Duration::from_secs(1), Trust::Nobody).unwrap();
        client(Duration::from_secs(1), Trust::Nobody).unwrap();
    }
}
