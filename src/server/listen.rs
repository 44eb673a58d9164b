//! The listening sockets: one for each worker, on one port. Whether the port is free is found out by one bind without SO_REUSEPORT first,
//! since two processes that both set it would share a port without a word.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted; the kernel caps it at its own bound.
const BACKLOG: i32 = 4096;

/// Why nothing can listen there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// Another process has it.
    #[error(
        "{address} is in use by another process; stop it, or set another port in `server.listen`"
    )]
    InUse {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// A port below 1024, for one who is not root.
    #[error("port {} needs rights that this process lacks; ports from 1024 on are free to all", address.port())]
    Denied {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// No interface has it.
    #[error("{} is not an address of this machine; `server.listen` takes one, or 0.0.0.0 for all", address.ip())]
    NotOurs {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {address}: {error}")]
    Other {
        /// Where it was to listen.
        address: SocketAddr,
        /// In the system's words.
        error: io::Error,
    },
}

/// One socket for each worker. Port 0 takes a free one, the same for all.
pub(crate) fn listen(address: SocketAddr, workers: usize) -> Result<Vec<TcpListener>, ListenError> {
    let address = free(address)?;
    (0..workers).map(|_| socket(address, true).map_err(|error| explain(address, error))).collect()
}

/// The address, with its port, if nobody has it.
fn free(address: SocketAddr) -> Result<SocketAddr, ListenError> {
    let probe = socket(address, false).and_then(|socket| socket.local_addr());
    probe.map_err(|error| explain(address, error))
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn explain(address: SocketAddr, error: io::Error) -> ListenError {
    match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { address },
        io::ErrorKind::PermissionDenied => ListenError::Denied { address },
        io::ErrorKind::AddrNotAvailable => ListenError::NotOurs { address },
        _ => ListenError::Other { address, error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o3_a_port_in_use_is_named_and_every_worker_gets_a_socket_on_one_port() {
        let sockets = listen("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let address = sockets[0].local_addr().unwrap();
        assert_eq!(sockets[1].local_addr().unwrap(), address);
        let error = listen(address, 1).unwrap_err();
        assert!(matches!(error, ListenError::InUse { .. }), "{error}");
        assert!(error.to_string().contains(&address.to_string()));
    }

    #[test]
    fn o3_an_address_that_is_not_ours_is_named() {
        let error = listen("192.0.2.1:0".parse().unwrap(), 1).unwrap_err();
        assert!(matches!(error, ListenError::NotOurs { .. }), "{error}");
    }
}
