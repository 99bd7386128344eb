//! Ten thousand silent connections at once.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bench::Bench;
use crate::support::{Client, Hello, LIMIT, ROUTINE, Received, Server, code, wait_until};

const CROWD: u64 = 10_000;
/// Open files of this process besides the crowd. They include files of tests that run at the same time.
const OTHER_FILES: u64 = 500;
/// Connections that may wait for their HELLO at the same time.
const UNAUTHENTICATED_MAX: usize = 256;

/// The number of connections that this process may open, after it has raised its limit as far as the system allows.
fn crowd_size() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    let wanted = (CROWD + OTHER_FILES).min(most);
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).expect("the limit of open files cannot be raised");
    }
    assert!(wanted >= 2 * OTHER_FILES, "a limit of {wanted} open files is too low for a crowd");
    wanted - OTHER_FILES
}

#[test]
fn a_silent_crowd_is_evicted_and_keeps_no_memory() {
    // The daemon starts first, so that it has the usual limits.
    let mut bench = Bench::new(
        "[ingest]\nmax_connections = 64\nmax_connections_per_address = 64\nhello_timeout = \"60s\"",
    );
    let before = bench.daemon.rss_kib();
    let mut crowd = Vec::new();
    for number in 0..crowd_size() {
        crowd.push(Client::connect(bench.daemon.address()));
        // The crowd takes time to connect. Without a frame now and then, the healthy session would be idle.
        if number % 500 == 0 {
            bench.prove_healthy();
        }
    }
    bench.prove_healthy();
    let during = bench.daemon.rss_kib();
    assert!(during < before + 64 * 1024, "from {before} to {during} KiB for a crowd that is not served");

    // The newest connections wait for their HELLO. The daemon refuses or closes each of the others.
    let waiting = crowd.split_off(crowd.len() - UNAUTHENTICATED_MAX);
    for (number, client) in crowd.iter_mut().enumerate() {
        if number % 500 == 0 {
            bench.prove_healthy();
        }
        loop {
            match client.receive(LIMIT) {
                Received::Message(Server::Error(error)) => assert_eq!(error.code, code::BUSY),
                Received::End | Received::Reset => break,
                other => panic!("client {number} is neither refused nor closed: {other:?}"),
            }
        }
    }
    bench.prove_healthy();
    assert!(bench.daemon.is_running());
    drop((crowd, waiting));

    // Until the daemon has noticed that the crowd is gone, it answers `busy` to new clients.
    let mut served = wait_until("a place after the crowd", || {
        let mut client = Client::connect(bench.daemon.address());
        client.send(&Hello::new(1).bytes());
        match client.receive(LIMIT) {
            Received::Message(Server::Welcome(_)) => Ok(client),
            Received::Message(Server::Error(error)) if error.code == code::BUSY => Err(error.text),
            end @ (Received::End | Received::Reset) => Err(format!("{end:?}")),
            other => panic!("WELCOME or busy is due, not {other:?}"),
        }
    });
    served.expect_first_acks();
    served.deliver(ROUTINE, 0, b"served");
    drop(served);
    bench.finish();
}
