//! Epochs and positions in rare cases: what the daemon remembers after a restart, and to which stream it belongs.

use crate::support::message::{bye, frame, ping};
use crate::support::{
    Client, Daemon, EMERGENCY, HeldDaemon, Hello, LIMIT, NO_ACK, ROUTINE, Received, Server, code,
};

#[test]
fn an_epoch_without_frames_fences_while_the_daemon_runs() {
    let daemon = Daemon::start("");
    Client::open(daemon.address(), &Hello::new(7).epoch(6));
    let error = Client::refused(daemon.address(), &Hello::new(7).epoch(5), code::FENCED);
    assert_eq!(error.detail, 6);
}

#[test]
fn an_epoch_without_frames_fences_when_the_table_of_streams_is_full() {
    let daemon = Daemon::start("[ingest]\nmax_streams = 2");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1).epoch(5));
    client.deliver(ROUTINE, 10, b"five");
    drop(client);
    // From here on the current epoch of the stream is 6, and no client is connected.
    let (client, _) = Client::open(daemon.address(), &Hello::new(1).epoch(6));
    assert_eq!(client.bye([0, 0]), [0, 0]);
    let (mut second, _) = Client::open(daemon.address(), &Hello::new(2));
    second.deliver(ROUTINE, 0, b"in the table for good");
    // One stream too many. Whether the daemon refuses it or accepts it, the first stream keeps its epoch.
    let mut third = Client::connect(daemon.address());
    third.send(&Hello::new(3).bytes());
    let answer = third.next();
    drop(third);
    let mut first = Client::connect(daemon.address());
    first.send(&Hello::new(1).epoch(5).bytes());
    match first.next() {
        Server::Error(error) => assert_eq!((error.code, error.detail), (code::FENCED, 6), "{error:?}"),
        other => panic!("epoch 5 after 6 is fenced, not {other:?}; the third stream got {answer:?}"),
    }
}

#[test]
fn a_restart_forgets_an_epoch_without_durable_frames_and_keeps_the_one_before() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7).epoch(5));
    client.deliver(ROUTINE, 10, b"five");
    Client::open(daemon.address(), &Hello::new(7).epoch(6));
    let daemon = daemon.kill_and_restart();
    let (client, welcome) = Client::open(daemon.address(), &Hello::new(7).epoch(5));
    assert_eq!((welcome.epoch, welcome.resume_next), (5, [0, 11]));
    assert_eq!(client.ack(ROUTINE).durable_next, 11);
}

#[test]
fn a_recovered_epoch_has_no_positions_of_the_epoch_before() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7).epoch(5));
    client.deliver(ROUTINE, 10, b"five");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7).epoch(6));
    client.deliver(EMERGENCY, 0, b"six");
    let daemon = daemon.kill_and_restart();
    let (mut client, welcome) = Client::open(daemon.address(), &Hello::new(7).epoch(6));
    assert_eq!(welcome.resume_next, [1, 0]);
    client.deliver(ROUTINE, 3, b"new in this epoch");
    assert_eq!(client.ack(ROUTINE).duplicates, 0);
}

#[test]
fn a_higher_epoch_after_a_restart_is_a_new_sequence_space() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7).epoch(5));
    client.deliver(ROUTINE, 10, b"five");
    let daemon = daemon.kill_and_restart();
    let (mut client, welcome) = Client::open(daemon.address(), &Hello::new(7).epoch(6));
    assert_eq!(welcome.resume_next, [0, 0]);
    client.deliver(ROUTINE, 0, b"six");
    let daemon = daemon.kill_and_restart();
    assert_eq!(Client::refused(daemon.address(), &Hello::new(7).epoch(5), code::FENCED).detail, 6);
}

#[test]
fn positions_survive_in_later_segments_than_the_frames() {
    let daemon = Daemon::start("");
    let (mut early, _) = Client::open(daemon.address(), &Hello::new(1).epoch(3).station("early"));
    early.deliver(EMERGENCY, 5, b"early");
    early.deliver(ROUTINE, 6, b"early");
    let (mut other, _) = Client::open(daemon.address(), &Hello::new(2));
    // The frames fill three segments of 8 MiB.
    let payload = vec![1; 16 * 1024 - 20];
    for sequence in 0..1_400 {
        other.frame_within_credit(ROUTINE, sequence, &payload);
    }
    other.wait_durable(ROUTINE, 1_400);
    let mut daemon = daemon;
    for _ in 0..2 {
        daemon = daemon.kill_and_restart();
        let (client, welcome) = Client::open(daemon.address(), &Hello::new(1).epoch(3).station("early"));
        assert_eq!(welcome.resume_next, [6, 7]);
        assert_eq!(client.ack(ROUTINE).durable_next, 7);
        let (_client, welcome) = Client::open(daemon.address(), &Hello::new(2));
        assert_eq!(welcome.resume_next, [0, 1_400]);
        assert_eq!(daemon.archived().len(), 1_402);
    }
}

#[test]
fn a_no_ack_client_may_have_an_epoch_and_resumes_like_others() {
    let daemon = Daemon::start("");
    let hello = Hello::new(7).epoch(4).flags(NO_ACK);
    let (mut client, welcome) = Client::welcomed(daemon.address(), &hello);
    assert_eq!(welcome.epoch, 4);
    client.frame(ROUTINE, 0, b"r");
    client.send(&ping(1));
    assert_eq!(client.next(), Server::Pong(1));
    drop(client);
    let (_client, welcome) = Client::welcomed(daemon.address(), &hello);
    assert_eq!(welcome.resume_next, [0, 1]);
}

#[test]
fn a_takeover_ends_a_connection_that_waits_for_the_bye_of_the_daemon() {
    let daemon = HeldDaemon::start("");
    let (mut old, _) = Client::open(daemon.address(), &Hello::new(7));
    daemon.hold();
    old.frame(ROUTINE, 0, b"r");
    old.send(&bye([0, 1]));
    daemon.wait_sync();
    let (mut new, welcome) = Client::open(daemon.address(), &Hello::new(7));
    assert_eq!(welcome.resume_next, [0, 1]);
    old.expect_error(code::TAKEN_OVER);
    daemon.release();
    new.wait_durable(ROUTINE, 1);
    assert_eq!(new.bye([0, 1]), [0, 1]);
}

#[test]
fn a_takeover_does_not_wait_for_the_old_socket() {
    let daemon = Daemon::start("");
    let (mut old, _) = Client::open(daemon.address(), &Hello::new(7));
    // The client requests answers and reads none, until the server can write no more to it.
    for first in (0..1_000_000_u64).step_by(10_000) {
        let burst: Vec<u8> = (first..first + 10_000).flat_map(ping).collect();
        old.send(&burst);
    }
    let (mut new, _) = Client::open(daemon.address(), &Hello::new(7));
    new.deliver(ROUTINE, 0, b"new");
    // The server chooses what this client receives at the end. The connection must not hang.
    let (_, end) = old.read_to_end();
    assert_ne!(end, Received::Silence);
}

#[test]
fn a_failed_sync_is_storage_failed_and_acknowledges_nothing() {
    let mut daemon = HeldDaemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    client.deliver(ROUTINE, 0, b"kept");
    let (mut bystander, _) = Client::open(daemon.address(), &Hello::new(8));
    daemon.fail();
    client.frame(ROUTINE, 1, b"not kept");
    client.expect_error(code::STORAGE_FAILED);
    assert_eq!(client.ack(ROUTINE).durable_next, 1);
    bystander.expect_error(code::STORAGE_FAILED);
    assert_eq!(daemon.wait_end().exit_code(), 1, "the restart recovers");
}

#[test]
fn frames_left_at_the_deadline_are_counted_and_not_acknowledged() {
    let mut daemon = HeldDaemon::start("[shutdown]\ndeadline = \"1s\"");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    client.deliver(ROUTINE, 0, b"kept");
    daemon.hold();
    for sequence in 1..4 {
        client.frame(ROUTINE, sequence, b"left behind");
    }
    client.settle(1);
    daemon.begin_stop();
    let outcome = daemon.wait_end();
    assert_eq!((outcome.exit_code(), outcome.totals.undelivered()), (3, 3));
    let end = loop {
        match client.receive(LIMIT) {
            Received::Message(Server::Ack(ack)) if ack.lane == ROUTINE => assert_eq!(ack.durable_next, 1),
            Received::Message(Server::Bye(_)) => panic!("BYE says that nothing is missing"),
            Received::Message(_) => {}
            end => break end,
        }
    };
    assert_ne!(end, Received::Silence);
}

#[test]
fn a_client_that_was_refused_or_said_bye_takes_no_slot_while_its_socket_is_open() {
    let daemon = Daemon::start("[ingest]\nmax_connections = 2");
    let mut stayed = Vec::new();
    for source in 0..6 {
        let (mut client, _) = Client::open_when_free(daemon.address(), &Hello::new(source));
        if source % 2 == 0 {
            client.send(&frame(9, 0, b"offends"));
            client.expect_error(code::BAD_PRIORITY);
        } else {
            client.send(&bye([0, 0]));
            client.expect_bye();
        }
        stayed.push(client);
    }
}
