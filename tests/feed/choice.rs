//! Subscriptions to sources, lanes and kinds.

use crate::support::{Client, Daemon, EMERGENCY, Hello, ROUTINE, Subscribe, Subscriber, code};

/// Sends 6 frames with an offset each: two sources and a replay, both lanes of each.
fn six() -> Daemon {
    let daemon = Daemon::start("");
    for hello in [Hello::new(1), Hello::new(2), Hello::new(2).kind(1)] {
        let (mut client, _) = Client::open(daemon.address(), &hello);
        client.deliver(EMERGENCY, 0, b"emergency");
        client.deliver(ROUTINE, 0, b"routine");
    }
    daemon
}

/// The offsets of [`six`] that `subscribe` gets, history and live alike.
fn chosen(daemon: &Daemon, subscribe: Subscribe) -> Vec<u64> {
    let expected = |offset: u64| {
        let mask = |mask: u8, bit: u64| mask & 3 == 0 || mask & (1 << bit) != 0;
        let source = [1, 1, 2, 2, 2, 2][offset as usize];
        mask(subscribe.priorities, offset % 2)
            && mask(subscribe.kinds, u64::from(offset >= 4))
            && (subscribe.sources.is_empty() || subscribe.sources.contains(&source))
    };
    let expected: Vec<_> = (0..6).filter(|offset| expected(*offset)).collect();
    let (mut subscriber, _) = Subscriber::open(daemon.feed(), &subscribe);
    let offsets: Vec<_> = subscriber.expect_frames(expected.len()).iter().map(|frame| frame.offset).collect();
    // Any other frame in flight would come before the PONG, or soon after.
    subscriber.settle(1);
    subscriber.settle(2);
    assert_eq!(offsets, expected, "{subscribe:?}");
    offsets
}

#[test]
fn masks_and_sources_are_combined() {
    let daemon = six();
    for priorities in 0..4 {
        for kinds in 0..4 {
            for sources in [&[][..], &[1], &[2], &[1, 2], &[9, 2, 2]] {
                chosen(&daemon, Subscribe::earliest().priorities(priorities).kinds(kinds).sources(sources));
            }
        }
    }
    assert_eq!(chosen(&daemon, Subscribe::earliest().priorities(1).kinds(1).sources(&[2])), [2]);
}

#[test]
fn unknown_bits_are_ignored_beside_known_bits_and_protocol_without() {
    let daemon = six();
    assert_eq!(chosen(&daemon, Subscribe::earliest().priorities(0xFD)), [0, 2, 4]);
    assert_eq!(chosen(&daemon, Subscribe::earliest().kinds(0x82)), [4, 5]);
    for mask in [4, 0x80, 0xFC] {
        Subscriber::refused(daemon.feed(), &Subscribe::earliest().priorities(mask), code::PROTOCOL);
        Subscriber::refused(daemon.feed(), &Subscribe::earliest().kinds(mask), code::PROTOCOL);
    }
}

#[test]
fn live_frames_are_selected_like_history() {
    let daemon = Daemon::start("");
    let choices = [
        Subscribe::live().sources(&[2]),
        Subscribe::live().priorities(1),
        Subscribe::live().kinds(2),
        Subscribe::live().priorities(2).kinds(1).sources(&[1]),
        Subscribe::live(),
    ];
    let mut subscribers = choices.map(|subscribe| Subscriber::open(daemon.feed(), &subscribe).0);
    for hello in [Hello::new(1), Hello::new(2), Hello::new(2).kind(1)] {
        let (mut client, _) = Client::open(daemon.address(), &hello);
        client.deliver(EMERGENCY, 0, b"emergency");
        client.deliver(ROUTINE, 0, b"routine");
    }
    for (subscriber, expected) in
        subscribers.iter_mut().zip([&[2, 3, 4, 5][..], &[0, 2, 4], &[4, 5], &[1], &[0, 1, 2, 3, 4, 5]])
    {
        let offsets: Vec<_> =
            subscriber.expect_frames(expected.len()).iter().map(|frame| frame.offset).collect();
        assert_eq!(offsets, expected);
        subscriber.settle(1);
    }
}
