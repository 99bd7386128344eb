//! SUBSCRIBE and SUBSCRIBED, and the order in which the daemon checks a subscriber.

use std::time::{Duration, Instant};

use crate::scene::durable;
use crate::support::message::{framed, ping};
use crate::support::{Daemon, Feed, Hello, Subscribe, Subscriber, code, wait_until};

const TOKENS: &str = "[[feed.tokens]]\ntoken = \"all\"\n[[feed.tokens]]\ntoken = \"two\"\nsources = [1, 2]";

#[test]
fn subscribed_carries_the_values_in_force() {
    let daemon = Daemon::start("[ingest]\nheartbeat = \"21s\"\nmax_message = \"12 KiB\"");
    let (_, empty) = Subscriber::open(daemon.feed(), &Subscribe::live());
    assert_eq!((empty.version, empty.heartbeat_s, empty.max_message_bytes), (1, 21, 12 * 1024));
    assert_eq!((empty.start_offset, empty.head_offset), (0, 0));
    assert_ne!(empty.log_id, 0, "0 stands for any log");
    durable(daemon.address(), 7, 5);
    let (_, live) = Subscriber::open(daemon.feed(), &Subscribe::live());
    assert_eq!((live.start_offset, live.head_offset, live.log_id), (5, 5, empty.log_id));
    let (_, offset) = Subscriber::open(daemon.feed(), &Subscribe::offset(2));
    assert_eq!((offset.start_offset, offset.head_offset), (2, 5));
    let (_, earliest) = Subscriber::open(daemon.feed(), &Subscribe::earliest());
    assert_eq!((earliest.start_offset, earliest.head_offset), (0, 5));
}

#[test]
fn the_log_id_stays_after_a_restart_and_differs_between_archives() {
    let mut daemon = Daemon::start("");
    let (_, first) = Subscriber::open(daemon.feed(), &Subscribe::live());
    durable(daemon.address(), 7, 3);
    daemon.stop();
    let daemon = daemon.restart();
    let (_, again) = Subscriber::open(daemon.feed(), &Subscribe::offset(1).log(first.log_id));
    assert_eq!((again.log_id, again.start_offset), (first.log_id, 1));
    let other = Daemon::start("");
    let (_, other) = Subscriber::open(other.feed(), &Subscribe::live());
    assert_ne!(other.log_id, first.log_id);
}

#[test]
fn the_highest_version_both_speak_is_chosen() {
    let daemon = Daemon::start("");
    for (min, max) in [(1, 1), (0, 1), (1, 255), (0, 255)] {
        let (_, subscribed) = Subscriber::open(daemon.feed(), &Subscribe::live().versions(min, max));
        assert_eq!(subscribed.version, 1, "versions {min} to {max}");
    }
    Subscriber::refused(daemon.feed(), &Subscribe::live().versions(2, 9), code::VERSION);
    Subscriber::refused(daemon.feed(), &Subscribe::live().versions(0, 0), code::VERSION);
}

#[test]
fn reserved_values_and_a_wrong_magic_are_protocol() {
    let daemon = Daemon::start("");
    let refused = |change: fn(&mut Subscribe)| {
        let mut subscribe = Subscribe::live();
        change(&mut subscribe);
        Subscriber::refused(daemon.feed(), &subscribe, code::PROTOCOL);
    };
    refused(|subscribe| subscribe.magic = *b"TMA2");
    refused(|subscribe| subscribe.policy = 2);
    refused(|subscribe| subscribe.start = 4);
    refused(|subscribe| subscribe.sources = vec![7; 513]);
    refused(|subscribe| subscribe.token = vec![0xFF]);
}

#[test]
fn a_subscribe_that_is_too_short_for_its_fields_is_protocol() {
    let daemon = Daemon::start("");
    let whole = Subscribe::live().sources(&[1, 2]).token("t").body();
    for length in [1, 4, 8, 16, 31, 36, whole.len() - 1] {
        let mut subscriber = Subscriber::connect(daemon.feed());
        subscriber.send(&framed(&whole[..length]));
        subscriber.expect_error(code::PROTOCOL);
    }
}

#[test]
fn bytes_behind_the_token_and_the_zero_byte_are_ignored() {
    let daemon = Daemon::start("");
    let mut subscribe = Subscribe::live();
    (subscribe.zero, subscribe.trailing) = (0xAA, vec![0xAA; 500]);
    Subscriber::open(daemon.feed(), &subscribe);
}

#[test]
fn everything_at_its_limit_fits() {
    let token = "t".repeat(1_024);
    let daemon = Daemon::start(&format!("[[feed.tokens]]\ntoken = \"{token}\""));
    let sources: Vec<u32> = (0..512).collect();
    Subscriber::open(daemon.feed(), &Subscribe::live().sources(&sources).token(&token));
}

#[test]
fn any_other_message_before_subscribe_is_protocol() {
    let daemon = Daemon::start("");
    for bytes in [ping(1), Hello::new(7).bytes(), framed(&[]), framed(&[0x7F]), framed(&[0x11; 32])] {
        let mut subscriber = Subscriber::connect(daemon.feed());
        subscriber.send(&bytes);
        subscriber.expect_error(code::PROTOCOL);
    }
}

#[test]
fn a_subscriber_at_the_ingest_listener_is_refused() {
    let daemon = Daemon::start("");
    let mut subscriber = Subscriber::connect(daemon.address());
    subscriber.send(&Subscribe::live().bytes());
    subscriber.expect_error(code::PROTOCOL);
}

#[test]
fn a_late_subscribe_is_idle() {
    let daemon = Daemon::start("[ingest]\nhello_timeout = \"300ms\"");
    let (mut silent, mut slow) = (Subscriber::connect(daemon.feed()), Subscriber::connect(daemon.feed()));
    let since = Instant::now();
    slow.send(&Subscribe::live().bytes()[..20]);
    silent.expect_error(code::IDLE);
    slow.expect_error(code::IDLE);
    assert!(since.elapsed() >= Duration::from_millis(200), "{:?}", since.elapsed());
}

#[test]
fn a_subscribe_may_arrive_byte_by_byte_and_with_more_behind_it() {
    let daemon = Daemon::start("");
    let mut subscriber = Subscriber::connect(daemon.feed());
    for byte in Subscribe::live().bytes() {
        subscriber.send(&[byte]);
    }
    subscriber.expect_subscribed();
    let mut subscriber = Subscriber::connect(daemon.feed());
    subscriber.send(&[Subscribe::live().bytes(), ping(9)].concat());
    subscriber.expect_subscribed();
    assert_eq!(subscriber.next(), Feed::Pong(9));
}

#[test]
fn a_token_admits_to_the_feed_only_its_sources() {
    let daemon = Daemon::start(TOKENS);
    let feed = daemon.feed();
    for (one, other) in [(1, 2), (2, 3)] {
        drop(durable(daemon.address(), one, 1));
        drop(durable(daemon.address(), other + 10, 1));
    }
    Subscriber::refused(feed, &Subscribe::live(), code::UNAUTHORIZED);
    Subscriber::refused(feed, &Subscribe::live().token("tw"), code::UNAUTHORIZED);
    Subscriber::refused(feed, &Subscribe::live().token("two").sources(&[2, 3]), code::FORBIDDEN);
    let (mut all, _) = Subscriber::open(feed, &Subscribe::earliest().token("all"));
    let sources: Vec<_> = all.expect_frames(4).iter().map(|frame| frame.source_id).collect();
    assert_eq!(sources, [1, 12, 2, 13]);
    let (mut two, _) = Subscriber::open(feed, &Subscribe::earliest().token("two").sources(&[2]));
    assert_eq!(two.expect_frame().source_id, 2);
}

#[test]
fn a_token_with_sources_gets_no_frames_of_others() {
    let daemon = Daemon::start(TOKENS);
    drop(durable(daemon.address(), 3, 2));
    let mut subscriber = Subscriber::connect(daemon.feed());
    subscriber.ask(&Subscribe::earliest().token("two"));
    subscriber.expect_holes();
    // Two readings are valid: all sources are more than this token allows, or all sources means the allowed ones.
    match subscriber.next() {
        Feed::Error(error) => assert_eq!(error.code, code::FORBIDDEN),
        Feed::Subscribed(_) => {
            drop(durable(daemon.address(), 1, 1));
            assert_eq!(subscriber.expect_frame().source_id, 1);
        }
        other => panic!("SUBSCRIBED or ERROR is due, not {other:?}"),
    }
}

#[test]
fn the_checks_are_in_the_documented_order() {
    let daemon = Daemon::start(&format!("[feed]\nmax_subscribers = 1\n{TOKENS}"));
    let feed = daemon.feed();
    durable(daemon.address(), 1, 3);
    let (_place, subscribed) = Subscriber::open(feed, &Subscribe::live().token("all"));
    // Each SUBSCRIBE is also wrong in everything that the daemon checks later.
    let position = Subscribe::offset(99).log(subscribed.log_id + 1);
    let limits = position.clone().token("two").sources(&[1]);
    let source = limits.clone().sources(&[9]);
    let token = source.clone().token("none");
    let version = token.clone().versions(2, 3);
    Subscriber::refused(feed, &version, code::VERSION);
    Subscriber::refused(feed, &token, code::UNAUTHORIZED);
    Subscriber::refused(feed, &source, code::FORBIDDEN);
    let busy = Subscriber::refused(feed, &limits, code::BUSY);
    assert!(busy.retry_after_ms > 0, "{busy:?}");
    drop(_place);
    // The place is free as soon as the daemon has noticed that the subscriber is gone.
    wait_until("a free place", || {
        let mut subscriber = Subscriber::connect(feed);
        subscriber.ask(&limits);
        match subscriber.next() {
            Feed::Error(error) if error.code == code::BUSY => Err(error.text),
            Feed::Error(error) if error.code == code::PROTOCOL => Ok(()),
            other => panic!("ERROR protocol is due, not {other:?}"),
        }
    });
}

#[test]
fn a_refused_subscriber_takes_no_slot() {
    let daemon = Daemon::start("[feed]\nmax_subscribers = 1");
    for _ in 0..20 {
        Subscriber::refused(daemon.feed(), &Subscribe::offset(1), code::PROTOCOL);
        Subscriber::refused(daemon.feed(), &Subscribe::live().versions(2, 2), code::VERSION);
    }
    // A connection that waits for SUBSCRIBE uses no place either.
    let _silent: Vec<_> = (0..5).map(|_| Subscriber::connect(daemon.feed())).collect();
    wait_until("the place that no refused subscriber holds", || {
        let mut subscriber = Subscriber::connect(daemon.feed());
        subscriber.ask(&Subscribe::live());
        match subscriber.next() {
            Feed::Subscribed(_) => Ok(()),
            Feed::Error(error) if error.code == code::BUSY => Err(error.text),
            other => panic!("SUBSCRIBED is due, not {other:?}"),
        }
    });
}
