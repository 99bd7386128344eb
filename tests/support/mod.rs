//! Parts that the end-to-end tests share: the real daemon as a child process, a client that only follows
//! `protocol.md`, and a reader for the archive.
//!
//! A test waits for a line of the log, a message of the server or the end of the process. Where nothing announces a state,
//! [`wait_until`] looks for it. [`LIMIT`] is the safety net that turns a hang into a failure.

#![allow(dead_code, unused_imports, reason = "each test crate uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot continue fails")]
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "what a failed test shows")]

pub use rustix::process::Signal;

pub mod archive;
pub mod browser;
pub mod client;
pub mod command;
pub mod crc16;
pub mod daemon;
pub mod elements;
pub mod fleet;
pub mod held;
pub mod http;
pub mod inside;
pub mod lines;
pub mod manager;
pub mod message;
pub mod mount;
pub mod pki;
pub mod port;
pub mod prober;
pub mod process;
pub mod python;
pub mod recording;
pub mod stream;
pub mod subscriber;
pub mod wait;

pub use archive::{Archived, archived};
pub use client::{Client, Received};
pub use daemon::{Books, Daemon, Exit, Launch};
pub use held::HeldDaemon;
pub use message::{
    Ack, EMERGENCY, ErrorMessage, Frame, Hello, NO_ACK, ROUTINE, Server, WANT_CATALOG, Welcome, code, cost,
};
pub use port::Port;
pub use subscriber::{Feed, Heard, Subscribe, Subscribed, Subscriber, reason};
pub use wait::{LIMIT, wait_until};

/// Connects as soon as a program listens at `address`. A test may read a whole archive before it starts the next daemon.
#[track_caller]
pub fn connect_when_up(address: std::net::SocketAddr) -> std::net::TcpStream {
    let connect = || std::net::TcpStream::connect(address).map_err(|error| error.to_string());
    wait::wait_within(3 * LIMIT, &format!("a listener at {address}"), connect)
}

/// Connects from another address of this host.
pub fn connect_from(from: [u8; 4], to: std::net::SocketAddr) -> std::net::TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &std::net::SocketAddr::from((from, 0))).expect("all of 127.0.0.0/8 is this host");
    connect(&socket, &to).expect("the daemon cannot be connected to");
    socket.into()
}

/// Reports on stderr what cannot be tested on this machine. The report is visible even when the test passes.
pub fn not_tested(what: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    let mut stderr = std::io::stderr();
    writeln!(stderr, "NOT TESTED HERE: {what}").unwrap();
}
