//! Lengths, types and directions of messages.

use crate::scene::send_durable;
use crate::support::message::{bye, frame, framed, ping, pong};
use crate::support::{Client, Daemon, Hello, ROUTINE, Subscribe, Subscriber, code};

#[test]
fn a_subscribe_may_be_as_long_as_4096_bytes_and_no_longer() {
    let daemon = Daemon::start("");
    let mut subscribe = Subscribe::live();
    subscribe.trailing = vec![1; 4096 - subscribe.body().len()];
    Subscriber::open(daemon.feed(), &subscribe);
    let mut subscriber = Subscriber::connect(daemon.feed());
    subscriber.send(&4097_u32.to_be_bytes());
    let error = subscriber.expect_error(code::TOO_LARGE);
    assert_eq!(error.detail, 4097, "known from the prefix alone");
}

#[test]
fn after_subscribed_a_message_may_have_max_message_bytes() {
    let daemon = Daemon::start("[ingest]\nmax_message = \"12 KiB\"");
    let (mut subscriber, subscribed) = Subscriber::open(daemon.feed(), &Subscribe::live());
    let bytes_max = subscribed.max_message_bytes;
    subscriber.send(&framed(&vec![0xF0; bytes_max as usize]));
    subscriber.settle(1);
    subscriber.send(&(bytes_max + 1).to_be_bytes());
    assert_eq!(subscriber.expect_error(code::TOO_LARGE).detail, u64::from(bytes_max) + 1);
}

#[test]
fn a_subscriber_may_send_only_ping_and_pong() {
    let daemon = Daemon::start("");
    let known = [
        Hello::new(7).bytes(),
        frame(ROUTINE, 0, b"x"),
        bye([0, 0]),
        Subscribe::live().bytes(),
        framed(&[0x02; 48]),
        framed(&[0x04; 24]),
        framed(&[0x08; 20]),
        framed(&[0x09; 20]),
        framed(&[0x11; 32]),
        framed(&[0x12; 60]),
        framed(&[0x13; 24]),
        framed(&[0x8A; 20]),
        framed(&[0x94; 16]),
        framed(&[]),
        framed(&[0x05, 1, 2]),
    ];
    for bytes in known {
        let (mut subscriber, _) = Subscriber::open(daemon.feed(), &Subscribe::live());
        subscriber.send(&bytes);
        subscriber.expect_error(code::PROTOCOL);
    }
}

#[test]
fn unknown_types_are_critical_below_0x80_and_skipped_above() {
    let daemon = Daemon::start("");
    for kind in [0x00, 0x0B, 0x14, 0x7F] {
        let (mut subscriber, _) = Subscriber::open(daemon.feed(), &Subscribe::live());
        subscriber.send(&framed(&[kind, 1, 2]));
        let error = subscriber.expect_error(code::UNKNOWN_TYPE);
        assert!(error.text.contains(&format!("{kind:02x}")), "it names the type: {error:?}");
    }
    let (mut subscriber, _) = Subscriber::open(daemon.feed(), &Subscribe::live());
    for kind in [0x80, 0x95, 0xFF] {
        subscriber.send(&framed(&[kind, 1, 2]));
    }
    subscriber.settle(1);
}

#[test]
fn messages_may_be_cut_anywhere_and_have_room_to_grow() {
    let daemon = Daemon::start("");
    let (mut subscriber, _) = Subscriber::open(daemon.feed(), &Subscribe::live());
    let longer = framed(&[0x05, 0, 0, 0, 0, 0, 0, 0, 7, 0xEE, 0xEE]);
    for byte in [pong(1), framed(&[0x99; 20]), longer].concat() {
        subscriber.send(&[byte]);
    }
    assert_eq!(subscriber.next(), crate::support::Feed::Pong(7));
    subscriber.settle(8);
}

#[test]
fn an_offence_of_one_subscriber_affects_no_other() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    let (mut good, _) = Subscriber::open(daemon.feed(), &Subscribe::live());
    let (mut bad, _) = Subscriber::open(daemon.feed(), &Subscribe::live());
    bad.send(&framed(&[0x7F]));
    bad.expect_error(code::UNKNOWN_TYPE);
    send_durable(&mut client, 0, 3);
    assert_eq!(good.expect_frames(3).len(), 3);
    good.send(&ping(1));
    drop((client, good));
    daemon.stop();
}
