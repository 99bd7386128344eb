//! GOAWAY: the daemon receives the signal to stop.

use std::time::Duration;

use crate::support::message::{bye, frame};
use crate::support::{
    Client, Daemon, EMERGENCY, HeldDaemon, Hello, LIMIT, NO_ACK, ROUTINE, Received, Server, Signal, code,
};

/// Reads up to GOAWAY and checks GOAWAY.
fn expect_goaway(client: &mut Client) {
    loop {
        match client.next_answering() {
            Server::Ack(_) => {}
            Server::GoAway { code, deadline_ms, .. } => {
                assert_eq!(code, code::DRAINING);
                assert!(deadline_ms > 0 && deadline_ms <= 5_000, "deadline of {deadline_ms} ms");
                return;
            }
            other => panic!("GOAWAY is due, not {other:?}"),
        }
    }
}

#[test]
fn sigterm_reads_all_sent_frames_and_ends_with_final_acks_and_draining() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    // The daemon is stopped while the client sends, so all frames lie in its socket when SIGTERM comes.
    daemon.signal(Signal::STOP);
    for sequence in 0..1_000 {
        client.frame(ROUTINE, sequence, b"r");
    }
    client.frame(EMERGENCY, 0, b"e");
    daemon.signal(Signal::TERM);
    daemon.signal(Signal::CONT);
    expect_goaway(&mut client);
    client.expect_error(code::DRAINING);
    assert_eq!(client.ack(ROUTINE).durable_next, 1_000);
    assert_eq!(client.ack(EMERGENCY).durable_next, 1);
    let exit = daemon.wait_exit(LIMIT);
    assert_eq!(exit.code, Some(0));
    daemon.final_books().assert_balanced();
    assert_eq!(daemon.archived().len(), 1_001);
}

#[test]
fn a_client_that_finishes_in_the_drain_gets_bye() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    client.deliver(ROUTINE, 0, b"r");
    daemon.signal(Signal::TERM);
    expect_goaway(&mut client);
    client.send(&bye([0, 1]));
    assert_eq!(client.expect_bye(), [0, 1]);
    assert_eq!(daemon.wait_exit(LIMIT).code, Some(0));
}

#[test]
fn a_client_with_bye_in_the_socket_gets_bye_and_its_frames_are_durable() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    daemon.signal(Signal::STOP);
    for sequence in 0..100 {
        client.frame(ROUTINE, sequence, b"r");
    }
    client.send(&bye([0, 100]));
    daemon.signal(Signal::TERM);
    daemon.signal(Signal::CONT);
    assert_eq!(client.expect_bye(), [0, 100]);
    assert_eq!(client.ack(ROUTINE).durable_next, 100);
    assert_eq!(daemon.wait_exit(LIMIT).code, Some(0));
    assert_eq!(daemon.archived().len(), 100);
}

#[test]
fn a_no_ack_client_is_drained_as_well() {
    let mut daemon = Daemon::start("");
    let hello = Hello::new(7).epoch(0).flags(NO_ACK);
    let (mut client, _) = Client::welcomed(daemon.address(), &hello);
    daemon.signal(Signal::STOP);
    for sequence in 0..100 {
        client.frame(ROUTINE, sequence, b"r");
    }
    client.send(&bye([0, 100]));
    daemon.signal(Signal::TERM);
    daemon.signal(Signal::CONT);
    assert_eq!(client.expect_bye(), [0, 100]);
    assert_eq!(daemon.wait_exit(LIMIT).code, Some(0));
}

#[test]
fn a_client_that_keeps_sending_does_not_delay_the_drain() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    client.deliver(ROUTINE, 0, b"r");
    daemon.signal(Signal::TERM);
    let address = daemon.address();
    let mut sequence = 1;
    let end = loop {
        // Send within the credit, as fast as the server grants it.
        while client.credit(ROUTINE) >= 1_020 && sequence < 2_000_000 {
            client.spend(ROUTINE, 1_020);
            if client.try_send(&frame(ROUTINE, sequence, &[0; 1_000])).is_err() {
                break;
            }
            sequence += 1;
            if sequence % 16 == 0 {
                break;
            }
        }
        match client.receive(Duration::from_millis(1)) {
            Received::Message(Server::Error(error)) => break error,
            Received::Message(_) | Received::Silence => {}
            other => panic!("ERROR draining is due, but: {other:?}"),
        }
    };
    assert_eq!(end.code, code::DRAINING);
    let exit = daemon.wait_exit(Duration::from_secs(6));
    assert_eq!(exit.code, Some(0), "a client that went on sending is no reason for another code");
    let acknowledged = client.ack(ROUTINE).durable_next;
    let books = daemon.final_books();
    books.assert_balanced();
    assert_eq!((books.archived, books.undelivered), (acknowledged, 0), "what was read is acknowledged");
    assert_eq!(daemon.archived().len() as u64, acknowledged);
    assert!(std::net::TcpStream::connect(address).is_err(), "the listener is closed");
}

#[test]
fn a_silent_client_and_one_that_does_not_read_do_not_delay_the_drain() {
    let mut daemon = Daemon::start("");
    let (_silent, _) = Client::open(daemon.address(), &Hello::new(1));
    let _no_hello = Client::connect(daemon.address());
    let (mut deaf, _) = Client::open(daemon.address(), &Hello::new(2));
    deaf.frame(ROUTINE, 0, b"r");
    deaf.settle(1);
    assert_eq!(daemon.stop().archived, 1);
}

#[test]
fn positions_survive_an_orderly_restart() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7).epoch(3));
    client.deliver(ROUTINE, 41, b"r");
    client.deliver(EMERGENCY, 7, b"e");
    daemon.stop();
    let daemon = daemon.restart();
    let (client, welcome) = Client::open(daemon.address(), &Hello::new(7).epoch(3));
    assert_eq!(welcome.resume_next, [8, 42]);
    assert_eq!([client.ack(EMERGENCY).durable_next, client.ack(ROUTINE).durable_next], [8, 42]);
}

#[test]
fn sigint_drains_as_well() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    daemon.signal(Signal::INT);
    expect_goaway(&mut client);
    client.expect_error(code::DRAINING);
    assert_eq!(daemon.wait_exit(LIMIT).code, Some(0));
}

/// Small windows and a held disk, so that queues and sockets are full when the drain begins.
const SMALL: &str = "[ingest]\nroutine_window = \"64 KiB\"\nemergency_window = \"32 KiB\"";

#[test]
fn frames_queued_when_the_drain_begins_are_archived() {
    let mut daemon = HeldDaemon::start(SMALL);
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    daemon.hold();
    let mut sent = 0;
    // Use the credit of both lanes, including the credit for frames that leave the queue.
    while client.credit(ROUTINE) >= 1_020 {
        client.frame(ROUTINE, sent, &[0; 1_000]);
        sent += 1;
    }
    client.frame(EMERGENCY, 0, b"e");
    client.settle(1);
    daemon.begin_stop();
    expect_goaway(&mut client);
    daemon.release();
    client.expect_error(code::DRAINING);
    assert_eq!([client.ack(EMERGENCY).durable_next, client.ack(ROUTINE).durable_next], [1, sent]);
    let outcome = daemon.wait_end();
    assert_eq!((outcome.exit_code(), outcome.totals.archived), (0, sent + 1));
}

#[test]
fn socket_bytes_of_a_no_ack_client_beyond_the_queue_are_not_accepted() {
    let mut daemon = HeldDaemon::start(SMALL);
    let hello = Hello::new(7).epoch(0).flags(NO_ACK);
    let (mut client, _) = Client::welcomed(daemon.address(), &hello);
    daemon.hold();
    let mut writer = client.twin();
    let sender = std::thread::spawn(move || {
        // 64 MB: more bytes than all buffers between the test and the disk hold.
        let burst: Vec<u8> = (0..4_000).flat_map(|sequence| frame(ROUTINE, sequence, &[0; 16_000])).collect();
        drop(writer.try_send(&burst));
    });
    daemon.wait_sync();
    daemon.begin_stop();
    expect_goaway(&mut client);
    daemon.release();
    client.expect_error(code::DRAINING);
    drop(client);
    let outcome = daemon.wait_end();
    assert_eq!(outcome.exit_code(), 0);
    assert_eq!(outcome.totals.received, outcome.totals.archived);
    assert_eq!(daemon.archived().len() as u64, outcome.totals.archived);
    sender.join().unwrap();
}

#[test]
fn no_new_client_is_served_in_a_drain() {
    let mut daemon = HeldDaemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    daemon.hold();
    client.frame(ROUTINE, 0, b"keeps the drain waiting");
    daemon.wait_sync();
    daemon.begin_stop();
    expect_goaway(&mut client);
    if let Ok(socket) = std::net::TcpStream::connect(daemon.address()) {
        let mut late = Client::over(socket);
        drop(late.try_send(&Hello::new(8).bytes()));
        match late.receive(LIMIT) {
            Received::Message(Server::Error(error)) => assert_eq!(error.code, code::DRAINING),
            Received::End | Received::Reset => {}
            other => panic!("a newcomer is served in a drain, or left waiting: {other:?}"),
        }
    }
    daemon.release();
    client.expect_error(code::DRAINING);
    assert_eq!(daemon.wait_end().exit_code(), 0);
}
