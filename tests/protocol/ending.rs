//! BYE, half-close, end of file.

use std::time::{Duration, Instant};

use crate::support::message::{bye, frame, ping};
use crate::support::{Client, Daemon, EMERGENCY, HeldDaemon, Hello, NO_ACK, ROUTINE, Received, Server, code};

#[test]
fn bye_is_answered_with_the_durable_positions_after_the_last_acks() {
    let mut daemon = Daemon::start("[archive]\ncommit_delay = \"300ms\"");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    // All frames and BYE in one write, so that nothing can be durable when the daemon reads BYE.
    let mut all: Vec<u8> = (0..50).flat_map(|sequence| frame(ROUTINE, sequence, b"r")).collect();
    all.extend(frame(EMERGENCY, 8, b"e"));
    all.extend(bye([9, 50]));
    client.send(&all);
    assert_eq!(client.expect_bye(), [9, 50]);
    assert_eq!([client.ack(EMERGENCY).durable_next, client.ack(ROUTINE).durable_next], [9, 50]);
    assert_eq!(daemon.archived().len(), 51, "the server's BYE means that all is on the disk");
    assert_eq!(daemon.stop().archived, 51);
}

#[test]
fn a_bye_without_frames_is_answered() {
    let daemon = Daemon::start("");
    let (client, _) = Client::open(daemon.address(), &Hello::new(7));
    assert_eq!(client.bye([0, 0]), [0, 0]);
}

#[test]
fn the_positions_in_the_clients_bye_are_only_logged() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    client.deliver(ROUTINE, 0, b"r");
    assert_eq!(client.bye([77, 1_000]), [0, 1], "the server says what it has");
    let (_client, welcome) = Client::open(daemon.address(), &Hello::new(7));
    assert_eq!(welcome.resume_next, [0, 1]);
    assert!(daemon.wait_line("1000").contains("WARN"), "the mismatch is logged");
    daemon.stop();
}

#[test]
fn a_bye_after_a_reconnect_has_the_positions_of_the_stream() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    client.deliver(ROUTINE, 0, b"r");
    drop(client);
    let (client, _) = Client::open(daemon.address(), &Hello::new(7));
    assert_eq!(client.bye([0, 1]), [0, 1]);
}

#[test]
fn a_no_ack_client_has_its_bye_answered() {
    let daemon = Daemon::start("[archive]\ncommit_delay = \"300ms\"");
    let hello = Hello::new(7).epoch(0).flags(NO_ACK);
    let (mut client, _) = Client::welcomed(daemon.address(), &hello);
    let mut all: Vec<u8> = (0..50).flat_map(|sequence| frame(ROUTINE, sequence, b"r")).collect();
    all.extend(bye([0, 50]));
    client.send(&all);
    assert_eq!(client.next(), Server::Bye([0, 50]));
    client.expect_end();
    assert_eq!(daemon.archived().len(), 50);
}

#[test]
fn a_bye_with_the_socket_half_closed_behind_it_is_answered() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    client.frame(ROUTINE, 0, b"r");
    client.send(&bye([0, 1]));
    client.half_close();
    assert_eq!(client.expect_bye(), [0, 1]);
}

#[test]
fn a_half_closed_connection_without_bye_gets_the_last_acks() {
    let mut daemon = Daemon::start("[archive]\ncommit_delay = \"300ms\"");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    for sequence in 0..50 {
        client.frame(ROUTINE, sequence, b"r");
    }
    client.frame(EMERGENCY, 5, b"e");
    client.half_close();
    client.wait_durable(ROUTINE, 50);
    client.wait_durable(EMERGENCY, 6);
    client.read_to_end();
    assert_eq!(daemon.stop().archived, 51);
}

#[test]
fn frames_accepted_before_an_end_without_bye_are_archived() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    for sequence in 0..500 {
        client.frame(ROUTINE, sequence, b"r");
    }
    // The answer shows that the daemon has read all of them.
    client.settle(1);
    drop(client);
    let (_client, welcome) = Client::open(daemon.address(), &Hello::new(7));
    assert_eq!(welcome.resume_next, [0, 500]);
    assert_eq!(daemon.stop().archived, 500);
}

#[test]
fn half_a_message_at_the_end_of_file_is_not_a_frame() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    client.frame(ROUTINE, 0, b"whole");
    let cut = frame(ROUTINE, 1, b"cut");
    client.send(&cut[..cut.len() - 1]);
    client.half_close();
    client.wait_durable(ROUTINE, 1);
    client.read_to_end();
    assert_eq!(daemon.stop().archived, 1);
}

#[test]
fn a_frame_after_bye_is_protocol() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    let all = [frame(ROUTINE, 0, b"before"), bye([0, 1]), frame(ROUTINE, 1, b"after")].concat();
    client.send(&all);
    client.expect_error(code::PROTOCOL);
    let books = daemon.stop();
    assert_eq!((books.archived, books.rejected), (1, 1), "frames before the offending one stay accepted");
}

#[test]
fn a_ping_after_bye_is_no_offence() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    client.send(&[frame(ROUTINE, 0, b"r"), bye([0, 1]), ping(1)].concat());
    assert_eq!(client.expect_bye(), [0, 1]);
}

#[test]
fn a_no_ack_client_may_send_all_of_its_feed_in_one_write() {
    let mut daemon = Daemon::start("");
    let mut client = Client::connect(daemon.address());
    let mut all = Hello::new(7).epoch(0).flags(NO_ACK).bytes();
    all.extend((0..50).flat_map(|sequence| frame(ROUTINE, sequence, b"r")));
    all.extend(bye([0, 50]));
    client.send(&all);
    client.expect_welcome();
    assert_eq!(client.next(), Server::Bye([0, 50]));
    client.expect_end();
    assert_eq!(daemon.stop().archived, 50);
}

#[test]
fn a_half_closed_client_cannot_answer_pings_and_gets_its_last_acks_from_a_slow_disk() {
    let daemon = HeldDaemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7).heartbeat(1));
    daemon.hold();
    client.frame(ROUTINE, 0, b"r");
    client.half_close();
    daemon.wait_sync();
    // Wait for more than three heartbeats.
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(4_500) {
        match client.receive(Duration::from_millis(500)) {
            Received::Message(Server::Ack(_) | Server::Ping(_)) | Received::Silence => {}
            other => panic!("the last ACKs are due, but: {other:?}"),
        }
    }
    daemon.release();
    while client.ack(ROUTINE).durable_next == 0 {
        assert!(matches!(client.next(), Server::Ack(_) | Server::Ping(_)));
    }
}
