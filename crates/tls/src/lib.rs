//! TCP connections with or without TLS 1.3.
//!
//! A [`Socket`] is a TCP connection that may be encrypted. It has the methods of [`tokio::net::TcpStream`] that the
//! daemon and its clients use. The TLS handshake is a part of the first reads: a caller that reads drives it.
//!
//! | file | purpose |
//! |---|---|
//! | `socket.rs` | [`Socket`]: waits for the TCP connection and carries its bytes |
//! | `engine.rs` | the state of TLS: bytes in, bytes out, no I/O |
//! | `identity.rs` | [`Identity`], [`Authorities`]: certificates and keys from files, and how long they are valid |
//! | `config.rs` | [`Server`], [`Client`]: what a side proves, and what it asks of the other |
//! | `args.rs` | [`ClientArgs`]: the options of a client's command line |
//! | `provider.rs` | the cryptography |
//! | `unverified.rs` | connections to this host |
//! | `error.rs` | [`TlsError`]: why there is no encrypted connection, in plain words |
//!
//! TLS 1.2 and older versions are not offered. There is no resumption: each connection checks the certificates that are
//! in force.

mod args;
mod config;
mod engine;
mod error;
mod identity;
mod provider;
mod socket;
#[cfg(test)]
mod tests;
mod unverified;

pub use args::{ArgsError, ClientArgs};
pub use config::{Ask, Client, Server};
pub use engine::{CONNECTION_BYTES, HANDSHAKE_BYTES};
pub use error::TlsError;
pub use identity::{Authorities, FileError, Identity};
pub use socket::Socket;
