//! Streams, epochs and takeovers.

use std::io::ErrorKind;
use std::sync::Barrier;

use crate::support::message::{bye, frame};
use crate::support::{Client, Daemon, EMERGENCY, Hello, ROUTINE, Received, Server, code};

const ANONYMOUS: u64 = 1 << 63;
/// Rounds of a test that meets a race by chance.
const ROUNDS: u64 = 100;

#[test]
fn a_reconnect_resumes_one_past_the_last_accepted_of_each_lane() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    client.deliver(ROUTINE, 10, b"r");
    client.deliver(EMERGENCY, 3, b"e");
    drop(client);
    let (client, welcome) = Client::open(daemon.address(), &Hello::new(7));
    assert_eq!(welcome.resume_next, [4, 11]);
    assert_eq!([client.ack(EMERGENCY).durable_next, client.ack(ROUTINE).durable_next], [4, 11]);
}

#[test]
fn a_higher_epoch_is_a_new_sequence_space_and_fences_the_older_connection() {
    let mut daemon = Daemon::start("");
    let (mut old, _) = Client::open(daemon.address(), &Hello::new(7).epoch(5));
    old.deliver(ROUTINE, 100, b"old");
    old.deliver(EMERGENCY, 100, b"old");
    let (mut new, welcome) = Client::open(daemon.address(), &Hello::new(7).epoch(6));
    assert_eq!((welcome.epoch, welcome.resume_next), (6, [0, 0]));
    assert_eq!([new.ack(EMERGENCY).durable_next, new.ack(ROUTINE).durable_next], [0, 0]);
    assert_eq!(old.expect_error(code::FENCED).detail, 6, "the detail is the current epoch");
    new.deliver(ROUTINE, 0, b"new");
    assert_eq!(new.ack(ROUTINE).duplicates, 0);
    drop(new);
    assert_eq!(daemon.stop().archived, 3);
}

#[test]
fn a_lower_epoch_is_fenced_and_ends_no_connection() {
    let daemon = Daemon::start("");
    let (mut current, _) = Client::open(daemon.address(), &Hello::new(7).epoch(500));
    current.deliver(ROUTINE, 0, b"before");
    let error = Client::refused(daemon.address(), &Hello::new(7).epoch(499), code::FENCED);
    assert_eq!(error.detail, 500);
    current.deliver(ROUTINE, 1, b"after");
    drop(current);
    // The result is the same whether or not a client is connected.
    assert_eq!(Client::refused(daemon.address(), &Hello::new(7).epoch(1), code::FENCED).detail, 500);
}

#[test]
fn the_highest_epoch_of_a_client_is_2_to_the_63_less_1() {
    let daemon = Daemon::start("");
    let (mut client, welcome) = Client::open(daemon.address(), &Hello::new(7).epoch(ANONYMOUS - 1));
    assert_eq!(welcome.epoch, ANONYMOUS - 1);
    client.deliver(ROUTINE, 0, b"taken");
}

#[test]
fn an_epoch_is_remembered_across_a_restart_from_its_first_durable_frame_on() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7).epoch(8));
    client.deliver(EMERGENCY, 30, b"kept");
    drop(client);
    daemon.stop();
    let daemon = daemon.restart();
    assert_eq!(Client::refused(daemon.address(), &Hello::new(7).epoch(7), code::FENCED).detail, 8);
    let (_client, welcome) = Client::open(daemon.address(), &Hello::new(7).epoch(8));
    assert_eq!(welcome.resume_next, [31, 0]);
    let (_client, welcome) = Client::open(daemon.address(), &Hello::new(7).epoch(9));
    assert_eq!(welcome.resume_next, [0, 0]);
}

#[test]
fn epoch_0_lasts_only_for_its_connection() {
    let mut daemon = Daemon::start("");
    let (mut named, _) = Client::open(daemon.address(), &Hello::new(7).epoch(5));
    let (mut one, welcome_one) = Client::open(daemon.address(), &Hello::new(7).epoch(0));
    let (mut two, welcome_two) = Client::open(daemon.address(), &Hello::new(7).epoch(0));
    assert!(welcome_one.epoch >= ANONYMOUS && welcome_two.epoch >= ANONYMOUS);
    assert_ne!(welcome_one.epoch, welcome_two.epoch);
    assert_eq!([welcome_one.resume_next, welcome_two.resume_next], [[0, 0]; 2]);
    for client in [&mut named, &mut one, &mut two] {
        client.deliver(ROUTINE, 17, b"at least once");
        assert_eq!(client.ack(ROUTINE).duplicates, 0);
    }
    // A newer epoch of the stream ends only the named connection.
    let (_newer, _) = Client::open(daemon.address(), &Hello::new(7).epoch(6));
    named.expect_error(code::FENCED);
    one.deliver(ROUTINE, 18, b"goes on");
    two.deliver(EMERGENCY, 0, b"goes on");
    drop((one, two));
    let (again, welcome) = Client::open(daemon.address(), &Hello::new(7).epoch(0));
    assert_eq!(welcome.resume_next, [0, 0], "no position is kept");
    assert!(![welcome_one.epoch, welcome_two.epoch].contains(&welcome.epoch));
    drop(again);
    assert_eq!(daemon.stop().archived, 5);
}

#[test]
fn epoch_0_keeps_no_position_and_no_epoch_across_a_restart() {
    let mut daemon = Daemon::start("");
    let (mut client, before) = Client::open(daemon.address(), &Hello::new(7).epoch(0));
    client.deliver(ROUTINE, 17, b"x");
    drop(client);
    daemon.stop();
    let daemon = daemon.restart();
    let (_client, after) = Client::open(daemon.address(), &Hello::new(7).epoch(0));
    assert_eq!(after.resume_next, [0, 0]);
    assert_ne!(after.epoch, before.epoch, "frames of two connections would share a space in the archive");
    let (_client, welcome) = Client::open(daemon.address(), &Hello::new(7).epoch(1));
    assert_eq!(welcome.resume_next, [0, 0]);
}

#[test]
fn the_newest_connection_of_an_epoch_wins() {
    let mut daemon = Daemon::start("");
    let (mut old, _) = Client::open(daemon.address(), &Hello::new(7));
    old.deliver(ROUTINE, 4, b"old");
    let (mut new, welcome) = Client::open(daemon.address(), &Hello::new(7));
    assert_eq!(welcome.resume_next, [0, 5]);
    old.expect_error(code::TAKEN_OVER);
    new.deliver(ROUTINE, 5, b"new");
    let (mut newest, welcome) = Client::open(daemon.address(), &Hello::new(7));
    assert_eq!(welcome.resume_next, [0, 6]);
    new.expect_error(code::TAKEN_OVER);
    newest.deliver(ROUTINE, 6, b"newest");
    drop(newest);
    assert_eq!(daemon.stop().archived, 3);
}

#[test]
fn a_takeover_under_load_accepts_nothing_of_the_old_connection_after_welcome() {
    let mut daemon = Daemon::start("[ingest]\nmax_takeovers_per_minute = 1000");
    let mut next = 0;
    for round in 0..10 {
        let (mut old, welcome) = Client::open(daemon.address(), &Hello::new(7));
        assert_eq!(welcome.resume_next[ROUTINE], next, "round {round}");
        // The cost is far below the window, so credit does not matter. The burst is larger than one read.
        let burst: Vec<u8> =
            (next..next + 2_000).flat_map(|sequence| frame(ROUTINE, sequence, b"old")).collect();
        let writer = std::thread::spawn(move || {
            let sent = old.try_send(&burst);
            (old, sent)
        });
        let (new, welcome) = Client::open(daemon.address(), &Hello::new(7));
        let resume = welcome.resume_next[ROUTINE];
        assert!(resume >= next && resume <= next + 2_000, "resume at {resume}, {next} before");
        let (mut old, sent) = writer.join().unwrap();
        if let Err(error) = sent {
            let gone = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset].contains(&error.kind());
            assert!(gone, "the old connection is discarded, not stalled: {error}");
        }
        old.expect_error(code::TAKEN_OVER);
        drop(new);
        let (_check, welcome) = Client::open(daemon.address(), &Hello::new(7));
        assert_eq!(welcome.resume_next[ROUTINE], resume, "accepted after the newcomer's WELCOME");
        next = resume;
    }
    let books = daemon.stop();
    assert_eq!(books.archived, next, "what was accepted is archived, once");
    let sequences: Vec<_> = daemon.archived().into_iter().map(|frame| frame.sequence).collect();
    assert!(sequences.into_iter().eq(0..next));
}

#[test]
fn a_takeover_does_not_wait_for_a_partial_message() {
    let mut daemon = Daemon::start("");
    let (mut old, _) = Client::open(daemon.address(), &Hello::new(7));
    old.deliver(ROUTINE, 0, b"whole");
    let cut = frame(ROUTINE, 1, b"cut in two");
    old.send(&cut[..15]);
    let (mut new, welcome) = Client::open(daemon.address(), &Hello::new(7));
    assert_eq!(welcome.resume_next, [0, 1]);
    drop(old.try_send(&cut[15..]));
    old.expect_error(code::TAKEN_OVER);
    new.deliver(ROUTINE, 1, b"new");
    drop(new);
    assert_eq!(daemon.stop().archived, 2);
    assert_eq!(daemon.archived()[1].payload, b"new");
}

#[test]
fn kinds_and_stations_are_streams_of_their_own() {
    let mut daemon = Daemon::start("");
    let hellos = [
        Hello::new(7),
        Hello::new(8),
        Hello::new(7).kind(1),
        Hello::new(7).station("Kiruna"),
        Hello::new(7).station("kiruna"),
        Hello::new(7).station("Kiruna").kind(1),
    ];
    let mut clients: Vec<_> = hellos.iter().map(|hello| Client::open(daemon.address(), hello).0).collect();
    for (sequence, client) in clients.iter_mut().enumerate() {
        client.deliver(ROUTINE, sequence as u64, b"all at once");
    }
    drop(clients);
    for (sequence, hello) in hellos.iter().enumerate() {
        let (_client, welcome) = Client::open(daemon.address(), hello);
        assert_eq!(welcome.resume_next, [0, sequence as u64 + 1], "{hello:?}");
    }
    // Each stream also has its own epoch.
    Client::open(daemon.address(), &hellos[3].clone().epoch(9));
    Client::open(daemon.address(), &hellos[0]);
    daemon.stop();
}

#[test]
fn a_session_that_was_taken_over_sends_nothing_more() {
    let daemon = Daemon::start("");
    let (mut old, _) = Client::open(daemon.address(), &Hello::new(7));
    let (_new, _) = Client::open(daemon.address(), &Hello::new(7));
    let (messages, end) = old.read_to_end();
    assert!(
        matches!(&messages[..], [.., Server::Error(error)] if error.code == code::TAKEN_OVER),
        "{messages:?}"
    );
    assert_eq!(end, Received::End);
}

#[test]
fn a_bye_during_a_newer_epoch_gets_its_own_positions_or_fenced() {
    let daemon = Daemon::start("[ingest]\nmax_takeovers_per_minute = 60000");
    let address = daemon.address();
    for epoch in 1..ROUNDS {
        let (mut old, _) = Client::open(address, &Hello::new(7).epoch(epoch));
        old.deliver(ROUTINE, 41, b"old");
        let meet = Barrier::new(2);
        let (old_end, _new) = std::thread::scope(|scope| {
            let newcomer = scope.spawn(|| {
                let mut new = Client::connect(address);
                meet.wait();
                new.send(&Hello::new(7).epoch(epoch + 1).bytes());
                new.expect_welcome();
                new
            });
            meet.wait();
            // The session of the newer epoch may have closed this connection already.
            drop(old.try_send(&bye([0, 42])));
            (old.read_to_end(), newcomer.join().unwrap())
        });
        match old_end.0.last() {
            Some(Server::Bye(next)) => assert_eq!(*next, [0, 42], "epoch {epoch}"),
            Some(Server::Error(error)) => assert_eq!(error.code, code::FENCED, "{error:?}"),
            other => panic!("BYE or fenced is due, not {other:?}, then {:?}", old_end.1),
        }
    }
}
