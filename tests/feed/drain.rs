//! The end of a daemon as subscribers see it.

use crate::scene::{durable, send_durable};
use crate::support::{
    Client, Daemon, HeldDaemon, Hello, LIMIT, ROUTINE, Signal, Subscribe, Subscriber, code,
};

#[test]
fn everything_below_the_final_head_is_delivered_and_detail_is_the_resume_offset() {
    let mut daemon = Daemon::start("");
    let _client = durable(daemon.address(), 7, 30);
    let (mut idle, _) = Subscriber::open(daemon.feed(), &Subscribe::live());
    let (mut sparse, _) = Subscriber::open(daemon.feed(), &Subscribe::earliest().sources(&[99]));
    let (mut all, _) = Subscriber::open(daemon.feed(), &Subscribe::earliest());
    daemon.signal(Signal::TERM);
    assert_eq!(idle.expect_error(code::DRAINING).detail, 30);
    assert_eq!(sparse.expect_error(code::DRAINING).detail, 30);
    let (frames, error) = all.frames_to_error(code::DRAINING);
    assert_eq!((frames.len(), error.detail), (30, 30));
    assert!(error.retry_after_ms > 0, "{error:?}");
    assert_eq!(daemon.wait_exit(LIMIT).code, Some(0));
    assert_eq!(frames, daemon.archived());
}

#[test]
fn frames_that_become_durable_in_the_drain_are_delivered() {
    let mut daemon = HeldDaemon::start("");
    let (mut live, _) = Subscriber::open(daemon.feed(), &Subscribe::live());
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    daemon.hold();
    for sequence in 0..50 {
        client.frame(ROUTINE, sequence, b"in the drain");
    }
    client.settle(1);
    daemon.begin_stop();
    daemon.wait_sync();
    daemon.release();
    let (frames, error) = live.frames_to_error(code::DRAINING);
    assert_eq!((frames.len(), error.detail), (50, 50));
    client.expect_error(code::DRAINING);
    assert_eq!(daemon.wait_end().exit_code(), 0);
    assert_eq!(frames, daemon.archived());
}

#[test]
fn the_offset_in_detail_resumes_at_the_next_daemon() {
    let mut daemon = Daemon::start("");
    let mut client = durable(daemon.address(), 7, 10);
    let (mut subscriber, subscribed) = Subscriber::open(daemon.feed(), &Subscribe::earliest());
    daemon.signal(Signal::TERM);
    let (frames, error) = subscriber.frames_to_error(code::DRAINING);
    assert_eq!(frames.len() as u64, error.detail);
    client.expect_error(code::DRAINING);
    assert_eq!(daemon.wait_exit(LIMIT).code, Some(0));
    let daemon = daemon.restart();
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    send_durable(&mut client, 10, 5);
    let resume = Subscribe::offset(error.detail).log(subscribed.log_id);
    let (mut subscriber, _) = Subscriber::open(daemon.feed(), &resume);
    assert_eq!(subscriber.expect_frames(5), daemon.archived()[10..]);
}

#[test]
fn a_subscriber_that_does_not_read_does_not_delay_the_drain() {
    let mut daemon = Daemon::start("");
    let (_deaf, _) = Subscriber::open(daemon.feed(), &Subscribe::earliest());
    let _never_subscribed = Subscriber::connect(daemon.feed());
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    // More bytes than the buffers of both sockets and of the daemon hold.
    for sequence in 0..1_500 {
        client.frame_within_credit(ROUTINE, sequence, &[0; 16_000]);
    }
    client.wait_durable(ROUTINE, 1_500);
    drop(client);
    assert_eq!(daemon.stop().archived, 1_500);
}

#[test]
fn no_new_client_is_served_in_a_drain() {
    let mut daemon = HeldDaemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    let mut waiting = Subscriber::connect(daemon.feed());
    let (mut live, _) = Subscriber::open(daemon.feed(), &Subscribe::live());
    daemon.hold();
    client.frame(ROUTINE, 0, b"keeps the drain waiting");
    daemon.wait_sync();
    daemon.begin_stop();
    waiting.expect_error(code::DRAINING);
    daemon.release();
    assert_eq!(live.frames_to_error(code::DRAINING).0.len(), 1);
    client.expect_error(code::DRAINING);
    assert_eq!(daemon.wait_end().exit_code(), 0);
}

#[test]
fn a_storage_failure_is_sent_to_all_subscribers() {
    let mut daemon = HeldDaemon::start("");
    let mut client = durable(daemon.address(), 7, 5);
    let (mut live, _) = Subscriber::open(daemon.feed(), &Subscribe::live());
    let (mut timely, _) = Subscriber::open(daemon.feed(), &Subscribe::live().timely());
    let (mut behind, _) = Subscriber::open(daemon.feed(), &Subscribe::earliest());
    behind.expect_frames(5);
    daemon.hold();
    client.frame(ROUTINE, 5, b"never durable");
    daemon.wait_sync();
    daemon.fail();
    daemon.release();
    for subscriber in [&mut live, &mut timely, &mut behind] {
        assert_eq!(subscriber.expect_error(code::STORAGE_FAILED).flags & 1, 1, "it is retryable");
    }
    assert_eq!(daemon.wait_end().exit_code(), 1);
}
