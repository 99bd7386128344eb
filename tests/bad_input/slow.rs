//! Clients that stop reading, and clients that stop sending.

use std::io::Write as _;
use std::time::Duration;

use crate::bench::{Bench, OFFENDER};
use crate::support::message::{frame, ping};
use crate::support::{Client, Hello, ROUTINE, Server, code};

#[test]
fn a_client_that_stops_reading_is_still_read_and_costs_no_memory() {
    const PINGS: u64 = 1_000_000;
    let mut bench = Bench::new("");
    let mut client = bench.offender();
    let before = bench.daemon.rss_kib();
    // The daemon answers every PING, and the client reads no answer: 13 MB, more than both sockets hold.
    for first in (0..PINGS).step_by(10_000) {
        let burst: Vec<u8> = (first..first + 10_000).flat_map(ping).collect();
        client.send(&burst);
    }
    bench.prove_healthy();
    let after = bench.daemon.rss_kib();
    assert!(after < before + 32 * 1024, "from {before} to {after} KiB");
    // When the client reads, the answer to the newest PING comes.
    loop {
        match client.next() {
            Server::Pong(nonce) if nonce == PINGS - 1 => break,
            Server::Pong(_) | Server::Ack(_) => {}
            other => panic!("a PONG is due, not {other:?}"),
        }
    }
    client.deliver(ROUTINE, 0, b"goes on");
    drop(client);
    bench.finish();
}

#[test]
fn a_client_that_reads_no_acks_has_its_frames_archived() {
    let mut bench = Bench::new("");
    let mut client = bench.offender();
    // As many frames as the first credit allows.
    let frames = client.credit(ROUTINE) / 256;
    let burst: Vec<u8> = (0..frames).flat_map(|sequence| frame(ROUTINE, sequence, b"deaf")).collect();
    client.send(&burst);
    bench.prove_healthy();
    assert_eq!(client.wait_durable(ROUTINE, frames).durable_next, frames);
    drop(client);
    let expected = bench.healthy_frames() + frames;
    assert_eq!(bench.finish().archived, expected);
}

#[test]
fn a_client_that_stops_in_the_middle_of_a_message_is_idle() {
    let bench = Bench::new("");
    let (mut client, _) = Client::open(bench.daemon.address(), &Hello::new(OFFENDER).heartbeat(1));
    client.deliver(ROUTINE, 0, b"whole");
    let cut = frame(ROUTINE, 1, &[0; 1_000]);
    client.send(&cut[..500]);
    client.expect_error(code::IDLE);
    let expected = bench.healthy_frames() + 1;
    assert_eq!(bench.finish().archived, expected);
}

#[test]
fn many_clients_that_neither_read_nor_send_do_not_delay_others() {
    let mut bench = Bench::new("[ingest]\nhello_timeout = \"300ms\"");
    let silent: Vec<_> = (0..50).map(|_| Client::connect(bench.daemon.address())).collect();
    bench.prove_healthy();
    let mut busy = bench.offender();
    for sequence in 0..100 {
        busy.deliver(ROUTINE, sequence, b"not kept waiting");
    }
    for mut client in silent {
        client.expect_error(code::IDLE);
    }
    assert_ne!(busy.receive(Duration::from_millis(1)), crate::support::Received::Reset);
    drop(busy);
    bench.finish();
}

/// PING costs no credit, so the daemon always reads from such clients.
#[test]
fn clients_that_never_stop_sending_do_not_delay_others() {
    let mut bench = Bench::new("");
    let talkers: Vec<_> = (0..3)
        .map(|source_id| {
            let (client, _) = Client::open(bench.daemon.address(), &Hello::new(source_id));
            let mut socket = client.socket().try_clone().expect("a second handle");
            let pings: Vec<u8> = (0..10_000).flat_map(ping).collect();
            // Until the daemon closes the connection.
            let talking = std::thread::spawn(move || while socket.write_all(&pings).is_ok() {});
            (client, talking)
        })
        .collect();
    for _ in 0..50 {
        bench.prove_healthy();
    }
    bench.finish();
    for (client, talking) in talkers {
        drop(client);
        talking.join().expect("a talker panicked");
    }
}
