//! The tests' own daemon and client behave as the other tests expect.

use std::io::ErrorKind;
use std::net::TcpStream;

use socket2::{Domain, Socket, Type};

use crate::support::{Client, Daemon, EMERGENCY, Hello, LIMIT, Port, ROUTINE};

#[test]
fn a_frame_is_archived_and_counted() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    client.deliver(ROUTINE, 3, b"routine");
    client.deliver(EMERGENCY, 0, b"emergency");
    assert_eq!(client.bye([1, 4]), [1, 4]);
    assert!(daemon.rss_kib() > 0);
    let books = daemon.stop();
    assert_eq!((books.received, books.archived), (2, 2));
    let payloads: Vec<_> = daemon.archived().into_iter().map(|frame| frame.payload).collect();
    assert_eq!(payloads, [b"routine".to_vec(), b"emergency".to_vec()]);
}

#[test]
fn a_killed_daemon_is_seen_and_started_again() {
    let daemon = Daemon::start("[ingest]\nheartbeat = \"7s\"");
    let (mut client, welcome) = Client::open(daemon.address(), &Hello::new(7));
    assert_eq!(welcome.heartbeat_s, 7, "the configuration of the test is in force");
    client.deliver(ROUTINE, 0, b"kept");
    let first = daemon.pid();
    let mut daemon = daemon.kill_and_restart();
    assert_ne!(daemon.pid(), first);
    assert_eq!(daemon.archived().len(), 1);
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.wait_exit(LIMIT).code, Some(0));
}

#[test]
fn a_held_port_is_refused_to_others_and_usable_by_restarted_daemons() {
    let port = Port::hold();
    let config = format!("[ingest]\nlisten = \"{}\"", port.address());
    let refused = || TcpStream::connect(port.address()).unwrap_err().kind();
    assert_eq!(refused(), ErrorKind::ConnectionRefused);
    let mut daemon = Daemon::start(&config);
    for _ in 0..3 {
        let (mut client, _) = Client::open(port.address(), &Hello::new(7));
        client.settle(1);
        daemon.signal(rustix::process::Signal::KILL);
        daemon.wait_exit(LIMIT);
        assert_eq!(refused(), ErrorKind::ConnectionRefused);
        // Bind without `SO_REUSEADDR`, as an unrelated program would.
        let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert_eq!(other.bind(&port.address().into()).unwrap_err().kind(), ErrorKind::AddrInUse);
        daemon = daemon.restart();
    }
    daemon.stop();
}
