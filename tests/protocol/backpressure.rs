//! What holds while the disk is held: credit, takeover, emergencies, durability.

use std::time::Duration;

use crate::support::message::{bye, frame};
use crate::support::{
    Client, EMERGENCY, Frame, HeldDaemon, Hello, LIMIT, NO_ACK, ROUTINE, Received, Server, code, cost,
};

/// Small windows, so that a queue fills soon. They hold full frames only.
const CONFIG: &str = "[ingest]\nroutine_window = \"64 KiB\"\nemergency_window = \"32 KiB\"";
const WINDOW: u64 = 64 * 1024;
const PAYLOAD: [u8; 16 * 1024 - 20] = [5; 16 * 1024 - 20];
const COST: u64 = 16 * 1024;
/// If no credit comes for this long, the pipeline after the queue is full. While nothing becomes durable, the daemon
/// may delay credit for a second.
const STALLED: Duration = Duration::from_millis(1_800);

/// Sends routine frames from `next` on until no more credit comes, and returns the next sequence.
fn fill(client: &mut Client, mut next: u64) -> u64 {
    loop {
        while client.credit(ROUTINE) >= COST {
            client.frame(ROUTINE, next, &PAYLOAD);
            next += 1;
            assert!(next < 2_000, "32 MB were taken in while the disk stood still");
        }
        match client.receive(STALLED) {
            Received::Message(Server::Ack(_)) => {}
            Received::Silence => return next,
            other => panic!("an ACK is due, not {other:?}"),
        }
    }
}

/// Asserts that nothing becomes durable. ACKs may come, because frames leave the queue.
fn expect_nothing_durable(client: &mut Client) {
    loop {
        match client.receive(Duration::from_millis(300)) {
            Received::Message(Server::Ack(ack)) => assert_eq!(ack.durable_next, 0),
            Received::Silence => return,
            other => panic!("nothing is durable, but: {other:?}"),
        }
    }
}

#[test]
fn nothing_is_acknowledged_before_the_disk_has_synced_it() {
    let mut daemon = HeldDaemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    daemon.hold();
    client.frame(ROUTINE, 0, b"r");
    client.frame(EMERGENCY, 0, b"e");
    daemon.wait_sync();
    expect_nothing_durable(&mut client);
    daemon.release();
    client.wait_durable(ROUTINE, 1);
    client.wait_durable(EMERGENCY, 1);
    drop(client);
    assert_eq!(daemon.stop().totals.archived, 2);
}

#[test]
fn accepted_is_not_yet_durable() {
    let daemon = HeldDaemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    client.deliver(ROUTINE, 4, b"durable");
    daemon.hold();
    client.frame(ROUTINE, 8, b"accepted");
    client.settle(1);
    drop(client);
    let (mut client, welcome) = Client::open(daemon.address(), &Hello::new(7));
    assert_eq!(welcome.resume_next, [0, 9], "send from here");
    assert_eq!(client.ack(ROUTINE).durable_next, 5, "keep from here");
    // A resend of an accepted frame that is not durable is a duplicate. The ACK of the original covers it.
    client.frame(ROUTINE, 8, b"again");
    client.wait_ack(ROUTINE, "a duplicate", |ack| ack.duplicates == 1);
    assert_eq!(client.ack(ROUTINE).durable_next, 5);
    daemon.release();
    client.wait_durable(ROUTINE, 9);
    assert_eq!(daemon.archived().len(), 2);
}

#[test]
fn credit_stops_when_the_pipeline_is_full_and_one_more_frame_is_flow_control() {
    let mut daemon = HeldDaemon::start(CONFIG);
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    daemon.hold();
    let next = fill(&mut client, 0);
    assert!(client.credit(ROUTINE) < COST);
    client.frame(ROUTINE, next, &PAYLOAD);
    client.expect_error(code::FLOW_CONTROL);
    daemon.release();
    let totals = daemon.stop().totals;
    assert_eq!((totals.received, totals.archived, totals.rejected), (next + 1, next, 1));
}

#[test]
fn credit_may_be_used_to_the_last_byte() {
    let mut daemon = HeldDaemon::start(CONFIG);
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    daemon.hold();
    let next = fill(&mut client, 0);
    // Windows and costs are multiples of COST, so the frames use the credit to the last byte.
    assert_eq!(client.credit(ROUTINE), 0);
    client.settle(1);
    daemon.release();
    client.wait_durable(ROUTINE, next);
    let whole = client.wait_credit(ROUTINE, WINDOW + client.spent(ROUTINE));
    assert_eq!(whole.credit_limit, WINDOW + client.spent(ROUTINE));
    drop(client);
    assert_eq!(daemon.stop().totals.archived, next);
}

#[test]
fn an_emergency_is_accepted_and_archived_ahead_of_all_queued_routine() {
    let mut daemon = HeldDaemon::start(CONFIG);
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    daemon.hold();
    let next = fill(&mut client, 0);
    // The credit is the window plus the cost of the frames that left the queue.
    let left_queue = (client.ack(ROUTINE).credit_limit - WINDOW) / COST;
    assert_eq!(next - left_queue, WINDOW / COST, "the queue is full");
    client.frame(EMERGENCY, 0, b"SAFE_MODE");
    // The daemon has read the frame, because it answers the PING after it.
    client.settle(1);
    daemon.release();
    client.wait_durable(EMERGENCY, 1);
    client.wait_durable(ROUTINE, next);
    let archived = daemon.archived();
    let place = archived.iter().position(|frame| frame.lane == EMERGENCY).unwrap() as u64;
    assert!(place <= left_queue, "{place} routine frames came first, {left_queue} had left the queue");
    drop(client);
    assert_eq!(daemon.stop().totals.archived, next + 1);
}

#[test]
fn a_takeover_does_not_wait_for_a_sync_and_counts_queued_frames() {
    let mut daemon = HeldDaemon::start(CONFIG);
    let (mut old, _) = Client::open(daemon.address(), &Hello::new(7));
    daemon.hold();
    let mut next = fill(&mut old, 0);
    // Add some emergencies. The pipeline has no room, so they stay in their queue.
    for sequence in 0..3 {
        old.frame(EMERGENCY, sequence, &[0; 980]);
    }
    old.settle(1);
    let (mut new, welcome) = Client::open(daemon.address(), &Hello::new(7));
    assert_eq!(welcome.resume_next, [3, next]);
    assert_eq!(new.ack(ROUTINE).credit_limit, 0, "the window less what is queued");
    assert_eq!([new.ack(EMERGENCY).durable_next, new.ack(ROUTINE).durable_next], [0, 0]);
    old.expect_error(code::TAKEN_OVER);
    // Some of the emergencies may have left the queue. After that nothing moves, and both sides count the same
    // credit.
    new.settle(1);
    assert_eq!(new.ack(EMERGENCY).credit_limit, old.credit(EMERGENCY));
    daemon.release();
    for _ in 0..10 {
        new.frame_within_credit(ROUTINE, next, b"newcomer");
        next += 1;
    }
    new.wait_durable(ROUTINE, next);
    new.wait_durable(EMERGENCY, 3);
    let whole = new.wait_credit(ROUTINE, WINDOW + 10 * 256);
    assert_eq!(whole.credit_limit, WINDOW + 10 * 256, "counted from 0 on each connection");
    let routine = daemon.archived().into_iter().filter(|frame| frame.lane == ROUTINE);
    assert!(routine.map(|frame| frame.sequence).eq(0..next), "what the old one handed over lies ahead");
    drop(new);
    assert_eq!(daemon.stop().totals.archived, next + 3);
}

#[test]
fn a_new_epoch_does_not_wait_for_a_sync() {
    let mut daemon = HeldDaemon::start(CONFIG);
    let (mut old, _) = Client::open(daemon.address(), &Hello::new(7));
    daemon.hold();
    let next = fill(&mut old, 0);
    let (mut new, welcome) = Client::open(daemon.address(), &Hello::new(7).epoch(2));
    assert_eq!(welcome.resume_next, [0, 0]);
    assert_eq!(new.ack(ROUTINE).credit_limit, 0, "queues belong to the stream");
    assert_eq!(old.expect_error(code::FENCED).detail, 2);
    daemon.release();
    new.frame_within_credit(ROUTINE, 0, b"new");
    assert_eq!(new.wait_durable(ROUTINE, 1).durable_next, 1, "the old epoch's commits do not count here");
    let whole = new.wait_credit(ROUTINE, WINDOW + 256);
    assert_eq!(whole.credit_limit, WINDOW + 256);
    drop(new);
    assert_eq!(daemon.stop().totals.archived, next + 1);
}

#[test]
fn duplicates_are_credited_while_the_pipeline_is_full() {
    let daemon = HeldDaemon::start(CONFIG);
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    for sequence in 0..20 {
        client.frame_within_credit(ROUTINE, sequence, &PAYLOAD);
    }
    client.wait_durable(ROUTINE, 20);
    drop(client);
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7).station("other"));
    daemon.hold();
    fill(&mut client, 0);
    // Another stream with an empty queue. The daemon drops resends at once, so they never wait in the queue.
    let (mut resender, _) = Client::open(daemon.address(), &Hello::new(7));
    for sequence in 0..20 {
        resender.frame_within_credit(ROUTINE, sequence, &PAYLOAD);
    }
    resender.wait_ack(ROUTINE, "20 duplicates", |ack| ack.duplicates == 20);
    daemon.release();
}

#[test]
fn other_streams_have_windows_of_their_own() {
    let daemon = HeldDaemon::start(CONFIG);
    let (mut one, _) = Client::open(daemon.address(), &Hello::new(1));
    daemon.hold();
    fill(&mut one, 0);
    let (mut two, _) = Client::open(daemon.address(), &Hello::new(2));
    assert_eq!(two.ack(ROUTINE).credit_limit, WINDOW);
    two.frame(ROUTINE, 0, b"two");
    daemon.release();
    two.wait_durable(ROUTINE, 1);
}

#[test]
fn an_error_does_not_wait_for_a_sync_and_keeps_earlier_frames() {
    let mut daemon = HeldDaemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    daemon.hold();
    client.frame(ROUTINE, 0, b"before");
    daemon.wait_sync();
    client.send(&frame(9, 1, b"offends"));
    client.expect_error(code::BAD_PRIORITY);
    assert_eq!(client.ack(ROUTINE).durable_next, 0);
    daemon.release();
    let totals = daemon.stop().totals;
    assert_eq!((totals.archived, totals.rejected), (1, 1));
}

#[test]
fn pending_acks_are_written_before_an_error() {
    let mut daemon = HeldDaemon::start(CONFIG);
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    client.deliver(ROUTINE, 5, b"first");
    drop(client);
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    // The daemon counts resends when it reads them, so the count is complete when it reads the offending message.
    let burst = [frame(ROUTINE, 3, b"again"), frame(ROUTINE, 4, b"again"), frame(7, 5, b"offends")].concat();
    client.send(&burst);
    client.expect_error(code::BAD_PRIORITY);
    assert_eq!(client.ack(ROUTINE).duplicates, 2);
    daemon.stop();
}

#[test]
fn bye_waits_until_all_frames_are_durable() {
    let daemon = HeldDaemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    daemon.hold();
    client.frame(ROUTINE, 0, b"r");
    client.send(&bye([0, 1]));
    daemon.wait_sync();
    expect_nothing_durable(&mut client);
    daemon.release();
    assert_eq!(client.expect_bye(), [0, 1]);
    assert_eq!(client.ack(ROUTINE).durable_next, 1);
}

#[test]
fn a_no_ack_client_is_slowed_down_by_tcp_and_not_timed_out() {
    let mut daemon = HeldDaemon::start(CONFIG);
    let hello = Hello::new(7).epoch(0).flags(NO_ACK).heartbeat(1);
    let (mut client, _) = Client::welcomed(daemon.address(), &hello);
    daemon.hold();
    // More bytes than all buffers on the way hold. A thread sends them, because the write blocks.
    const FRAMES: u64 = 2_000;
    let mut writer = client.twin();
    let sender = std::thread::spawn(move || {
        for sequence in 0..FRAMES {
            writer.frame(ROUTINE, sequence, &PAYLOAD);
        }
        writer.send(&bye([0, FRAMES]));
    });
    // For five heartbeats the server reads no byte. It sends PINGs and keeps the connection.
    for _ in 0..5 {
        match client.receive(LIMIT) {
            Received::Message(Server::Ping(_)) => {}
            other => panic!("a PING is due, not {other:?}"),
        }
    }
    assert!(!sender.is_finished(), "32 MB were taken while the disk stood still");
    daemon.release();
    loop {
        match client.next() {
            Server::Ping(_) => {}
            Server::Bye(next) => break assert_eq!(next, [0, FRAMES]),
            other => panic!("BYE is due, not {other:?}"),
        }
    }
    sender.join().unwrap();
    assert_eq!(daemon.stop().totals.archived, FRAMES);
}

#[test]
fn a_drain_waits_for_the_disk_and_acknowledges_the_frames_it_read() {
    let mut daemon = HeldDaemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    daemon.hold();
    let sent = Frame::new(ROUTINE, 0, b"r");
    assert_eq!(cost(sent.body().len()), 256);
    client.send_frame(&sent);
    daemon.wait_sync();
    daemon.begin_stop();
    loop {
        match client.next() {
            Server::Ack(ack) => assert_eq!(ack.durable_next, 0),
            Server::GoAway { .. } => break,
            other => panic!("GOAWAY is due, not {other:?}"),
        }
    }
    daemon.release();
    client.expect_error(code::DRAINING);
    assert_eq!(client.ack(ROUTINE).durable_next, 1, "the final ACK comes first");
    assert_eq!(daemon.stop().exit_code(), 0);
}

#[test]
fn queued_frames_of_a_closed_connection_count_against_the_next_one() {
    let daemon = HeldDaemon::start(CONFIG);
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    daemon.hold();
    let next = fill(&mut client, 0);
    // This time the client disconnects by itself.
    drop(client);
    let (mut client, welcome) = Client::open(daemon.address(), &Hello::new(7));
    assert_eq!(welcome.resume_next, [0, next]);
    assert_eq!(client.ack(ROUTINE).credit_limit, 0, "the window less what is queued");
    daemon.release();
    client.frame_within_credit(ROUTINE, next, b"next");
    client.wait_durable(ROUTINE, next + 1);
}
