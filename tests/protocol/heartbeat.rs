//! PING, PONG and silence.

use std::time::{Duration, Instant};

use crate::support::message::{framed, ping, pong};
use crate::support::{Client, Daemon, Hello, LIMIT, NO_ACK, ROUTINE, Received, Server, code};

#[test]
fn pong_repeats_the_nonce() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    for nonce in [0, 1, u64::MAX, 0x0123_4567_89AB_CDEF] {
        client.send(&ping(nonce));
        assert_eq!(client.next(), Server::Pong(nonce));
    }
}

#[test]
fn the_newest_ping_is_answered() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    let burst: Vec<u8> = (1..=100).flat_map(ping).collect();
    client.send(&burst);
    let mut last = 0;
    while last != 100 {
        match client.next() {
            Server::Pong(nonce) => {
                assert!(nonce > last && nonce <= 100, "PONG {nonce} after {last}");
                last = nonce;
            }
            other => panic!("a PONG is due, not {other:?}"),
        }
    }
}

#[test]
fn an_unrequested_pong_is_no_offence() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    client.send(&pong(1));
    client.settle(2);
}

#[test]
fn the_server_pings_a_silent_client_and_ends_it_after_three_heartbeats() {
    let mut daemon = Daemon::start("");
    let (mut client, welcome) = Client::open(daemon.address(), &Hello::new(7).heartbeat(1));
    assert_eq!(welcome.heartbeat_s, 1);
    let since = Instant::now();
    assert!(matches!(client.next(), Server::Ping(_)), "PING after one heartbeat");
    let until_ping = since.elapsed();
    assert!(until_ping > Duration::from_millis(800), "PING after {until_ping:?}");
    assert!(until_ping < Duration::from_millis(2_500), "PING after {until_ping:?}");
    client.expect_error(code::IDLE);
    let until_error = since.elapsed();
    assert!(until_error > Duration::from_millis(2_700), "ERROR idle after {until_error:?}");
    assert!(until_error < Duration::from_millis(5_500), "ERROR idle after {until_error:?}");
    // The stream is free for the next connection.
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    client.deliver(ROUTINE, 0, b"after");
    drop(client);
    daemon.stop();
}

#[test]
fn a_client_that_answers_pings_stays() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7).heartbeat(1));
    for _ in 0..5 {
        match client.next() {
            Server::Ping(nonce) => client.send(&pong(nonce)),
            other => panic!("a PING is due, not {other:?}"),
        }
    }
    client.deliver(ROUTINE, 0, b"still here");
}

#[test]
fn any_byte_ends_the_silence() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7).heartbeat(1));
    let message = framed(&[0xC0; 6]);
    // For each PING send one byte of a message, for more than five heartbeats.
    for byte in &message[..6] {
        assert!(matches!(client.next(), Server::Ping(_)));
        client.send(&[*byte]);
    }
    client.send(&message[6..]);
    client.deliver(ROUTINE, 0, b"still here");
}

#[test]
fn no_ack_clients_are_pinged_and_ended_as_well() {
    let daemon = Daemon::start("");
    let hello = Hello::new(7).epoch(0).flags(NO_ACK).heartbeat(1);
    let (mut client, _) = Client::welcomed(daemon.address(), &hello);
    assert!(matches!(client.receive(LIMIT), Received::Message(Server::Ping(_))));
    client.expect_error(code::IDLE);
}
