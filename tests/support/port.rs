//! Addresses that a test keeps while no daemon listens on them.

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// An address of this host, held until this is dropped.
///
/// One daemon after the other can listen on the address. In between, the system refuses connections. The system gives
/// the port to no other socket, because the test holds a socket that is bound and does not listen. `SO_REUSEADDR`,
/// which listeners set as well, admits only sockets that ask for this port.
pub struct Port {
    _socket: Socket,
    address: SocketAddr,
}

impl Port {
    /// Takes a free port.
    pub fn hold() -> Self {
        Self::hold_at([127, 0, 0, 1])
    }

    /// Takes a free port of this address of the host.
    pub fn hold_at(ip: [u8; 4]) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("SO_REUSEADDR");
        socket.bind(&SocketAddr::from((ip, 0)).into()).expect("no free port");
        let address = socket.local_addr().expect("an address").as_socket().expect("an IP address");
        Self { _socket: socket, address }
    }

    /// The address on which daemons listen, one after the other.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
