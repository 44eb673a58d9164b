//! Builds HTTP clients: the one place that does, so that time-outs, trust and what a client may follow are the same everywhere.
//! A client belongs to the runtime that first uses it, since its pooled connections do: each worker has its own.

use std::path::Path;
use std::sync::Once;
use std::time::Duration;

/// For a connection to stand, TLS included. Far away is 300 ms; a lost SYN is sent again after 1 s and 3 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An instance under full load answers its admin socket within a second.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections that are kept to one host; those past them are closed.
const IDLE_PER_HOST_MAX: usize = 16;

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
