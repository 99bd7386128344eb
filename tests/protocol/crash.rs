//! kill -9 at any moment loses no acknowledged frame.

use crate::support::message::frame;
use crate::support::{Client, Daemon, EMERGENCY, Hello, LIMIT, ROUTINE, Received, Server, Signal};

#[test]
fn positions_survive_kill_9() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7).epoch(4).station("Kiruna"));
    client.deliver(ROUTINE, 0, b"r");
    client.deliver(ROUTINE, 90, b"r");
    client.deliver(EMERGENCY, 12, b"e");
    let daemon = daemon.kill_and_restart();
    let (client, welcome) = Client::open(daemon.address(), &Hello::new(7).epoch(4).station("Kiruna"));
    assert_eq!(welcome.resume_next, [13, 91]);
    assert_eq!([client.ack(EMERGENCY).durable_next, client.ack(ROUTINE).durable_next], [13, 91]);
    assert_eq!(daemon.archived().len(), 3);
}

#[test]
fn kill_9_in_a_flood_loses_no_acknowledged_frame_and_repeats_none() {
    let mut daemon = Daemon::start("");
    let mut next = 0;
    for round in 0..4 {
        let (mut client, welcome) = Client::open(daemon.address(), &Hello::new(7));
        let resume = welcome.resume_next[ROUTINE];
        assert!(resume >= next, "round {round}: frames below {next} were acknowledged, resume at {resume}");
        assert_eq!(client.ack(ROUTINE).durable_next, resume, "after a restart both are the same");
        let burst: Vec<u8> =
            (resume..resume + 3_000).flat_map(|sequence| frame(ROUTINE, sequence, b"flood")).collect();
        client.send(&burst);
        // Kill in the middle of the flood, at another position in each round.
        client.wait_durable(ROUTINE, resume + 1 + 400 * round);
        daemon.signal(Signal::KILL);
        assert_eq!(daemon.wait_exit(LIMIT).code, None);
        // Messages that the daemon wrote before the kill count.
        loop {
            match client.receive(LIMIT) {
                Received::Message(Server::Ack(_)) => {}
                Received::Message(other) => panic!("an ACK or the end is due, not {other:?}"),
                Received::End | Received::Reset => break,
                Received::Silence => panic!("a dead daemon's connection stays open"),
            }
        }
        next = client.ack(ROUTINE).durable_next;
        daemon = daemon.restart();
        let sequences: Vec<_> = daemon.archived().into_iter().map(|frame| frame.sequence).collect();
        assert!(
            sequences.len() as u64 >= next,
            "round {round}: {} archived, {next} acknowledged",
            sequences.len()
        );
        assert!(
            sequences.into_iter().eq(0..daemon.archived().len() as u64),
            "round {round}: each frame once"
        );
    }
    daemon.stop();
}

#[test]
fn resume_falls_back_to_the_durable_position() {
    // A long delay: the frames are accepted and not durable when the daemon is killed.
    let daemon = Daemon::start("[archive]\ncommit_delay = \"1s\"");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    for sequence in 0..10 {
        client.frame(ROUTINE, sequence, b"accepted");
    }
    client.settle(1);
    let acknowledged = client.ack(ROUTINE).durable_next;
    let daemon = daemon.kill_and_restart();
    let (mut client, welcome) = Client::open(daemon.address(), &Hello::new(7));
    let resume = welcome.resume_next[ROUTINE];
    assert!(resume >= acknowledged);
    assert_eq!(client.ack(ROUTINE).durable_next, resume);
    assert_eq!(daemon.archived().len() as u64, resume, "the archive decides");
    for sequence in resume..10 {
        client.frame(ROUTINE, sequence, b"again");
    }
    client.wait_durable(ROUTINE, 10);
    assert_eq!(client.ack(ROUTINE).duplicates, 0);
    assert!(daemon.archived().into_iter().map(|frame| frame.sequence).eq(0..10));
}
