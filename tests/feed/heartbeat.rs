//! PING, PONG, PROGRESS and silence. The daemon sets the heartbeat.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::scene::durable;
use crate::support::message::{framed, ping, pong};
use crate::support::{Daemon, Feed, Subscribe, Subscriber, code};

const HEARTBEAT: &str = "[ingest]\nheartbeat = \"1s\"";

#[test]
fn pong_repeats_the_nonce() {
    let daemon = Daemon::start("");
    let (mut subscriber, _) = Subscriber::open(daemon.feed(), &Subscribe::live());
    for nonce in [0, 1, u64::MAX, 0x0123_4567_89AB_CDEF] {
        subscriber.send(&ping(nonce));
        assert_eq!(subscriber.next(), Feed::Pong(nonce));
    }
    subscriber.send(&(1..=100).flat_map(ping).collect::<Vec<u8>>());
    let mut last = 0;
    while last != 100 {
        match subscriber.next() {
            Feed::Pong(nonce) => {
                assert!(nonce > last && nonce <= 100, "PONG {nonce} after {last}");
                last = nonce;
            }
            other => panic!("a PONG is due, not {other:?}"),
        }
    }
}

#[test]
fn a_silent_subscriber_is_pinged_and_ended_after_three_heartbeats() {
    let daemon = Daemon::start(HEARTBEAT);
    let (mut subscriber, subscribed) = Subscriber::open(daemon.feed(), &Subscribe::live());
    assert_eq!(subscribed.heartbeat_s, 1);
    let since = Instant::now();
    let mut pinged = None;
    loop {
        match subscriber.next() {
            Feed::Ping(_) => drop(pinged.get_or_insert(since.elapsed())),
            Feed::Progress(_) => {}
            Feed::Error(error) => break assert_eq!(error.code, code::IDLE),
            other => panic!("a PING is due, not {other:?}"),
        }
    }
    let pinged = pinged.expect("PING after one heartbeat");
    assert!(pinged > Duration::from_millis(800) && pinged < Duration::from_millis(2_500), "{pinged:?}");
    let ended = since.elapsed();
    assert!(ended > Duration::from_millis(2_700) && ended < Duration::from_millis(5_500), "{ended:?}");
}

#[test]
fn a_subscriber_that_answers_stays_and_any_byte_is_an_answer() {
    let daemon = Daemon::start(HEARTBEAT);
    let (mut answering, _) = Subscriber::open(daemon.feed(), &Subscribe::live());
    let (mut dribbling, _) = Subscriber::open(daemon.feed(), &Subscribe::live());
    let message = framed(&[0xC0; 6]);
    for byte in &message[..5] {
        loop {
            match answering.next() {
                Feed::Ping(nonce) => break answering.send(&pong(nonce)),
                Feed::Progress(_) => {}
                other => panic!("a PING is due, not {other:?}"),
            }
        }
        dribbling.send(&[*byte]);
    }
    dribbling.send(&message[5..]);
    drop(durable(daemon.address(), 7, 1));
    for mut subscriber in [answering, dribbling] {
        assert_eq!(subscriber.expect_frame().offset, 0);
    }
}

#[test]
fn progress_comes_each_heartbeat_with_the_resume_offset() {
    let daemon = Daemon::start(HEARTBEAT);
    let (mut sparse, _) = Subscriber::open(daemon.feed(), &Subscribe::live().sources(&[99]));
    let (mut all, _) = Subscriber::open(daemon.feed(), &Subscribe::live());
    let _client = durable(daemon.address(), 7, 40);
    all.expect_frames(40);
    let since = Instant::now();
    for subscriber in [&mut sparse, &mut all] {
        // PROGRESS covers frames that the filter removed. One PROGRESS may already be on its way.
        let mut seen = 0;
        while seen < 40 {
            match subscriber.next() {
                Feed::Progress(next) => seen = next,
                Feed::Ping(nonce) => subscriber.send(&pong(nonce)),
                other => panic!("PROGRESS is due, not {other:?}"),
            }
        }
        assert_eq!(seen, 40);
    }
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
    // PROGRESS continues while no frame arrives.
    for _ in 0..2 {
        loop {
            match sparse.next() {
                Feed::Progress(next) => break assert_eq!(next, 40),
                Feed::Ping(nonce) => sparse.send(&pong(nonce)),
                other => panic!("PROGRESS is due, not {other:?}"),
            }
        }
    }
    assert!(since.elapsed() > Duration::from_millis(1_500), "{:?}", since.elapsed());
    let (mut resumed, _) = Subscriber::open(daemon.feed(), &Subscribe::offset(40).sources(&[99]));
    resumed.settle(1);
}

#[test]
fn subscribers_that_never_stop_sending_do_not_delay_others() {
    let mut daemon = Daemon::start("");
    let talkers: Vec<_> = (0..3)
        .map(|_| {
            let (subscriber, _) = Subscriber::open(daemon.feed(), &Subscribe::live());
            let mut socket = subscriber.socket().try_clone().unwrap();
            let pings = (0..10_000).flat_map(ping).collect::<Vec<u8>>();
            // Until the daemon closes the connection.
            let talking = std::thread::spawn(move || while socket.write_all(&pings).is_ok() {});
            (subscriber, talking)
        })
        .collect();
    for _ in 0..20 {
        let (mut subscriber, _) = Subscriber::open(daemon.feed(), &Subscribe::live());
        subscriber.settle(1);
    }
    durable(daemon.address(), 7, 5);
    assert_eq!(daemon.stop().archived, 5);
    for (subscriber, talking) in talkers {
        drop(subscriber);
        talking.join().unwrap();
    }
}
