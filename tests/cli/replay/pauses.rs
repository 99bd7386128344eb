//! Signals to a replay: SIGUSR1 pauses and resumes it, a second interrupt stops it at once.

use std::net::TcpListener;

use frame::Lanes;
use rustix::process::Signal;
use wire::{Bye, ClientMessage, ServerMessage};

use super::{Replay, archive_of, recording, simulate};
use crate::peer::Peer;
use crate::support::Daemon;

#[test]
fn a_second_interrupt_stops_at_once() {
    let recorded = recording();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let replay = Replay::start(&archive_of(&recorded), listener.local_addr().unwrap(), &["--speed", "max"]);
    // The replay uses up this credit, and the peer acknowledges no frame.
    let mut peer = Peer::accept(&listener, 1 << 20);
    assert!(matches!(peer.next(), ClientMessage::Frame(_)));
    replay.signal(Signal::INT);
    replay.wait_line("stopping");
    replay.signal(Signal::INT);
    replay.wait_line("stopped at once; to continue: ");
    let output = replay.child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(1), true));
}

/// A replay of 30 frames, paused after its credit for ten frames is used up. The archive exists as long as the daemon
/// value.
fn paused_after_ten() -> (Daemon, TcpListener, Replay, Peer) {
    let mut recorded = Daemon::start("");
    simulate(&recorded, "--satellites 1 --replays 0 --frames 30 --emergency-ratio 0");
    recorded.stop();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let replay = Replay::start(&archive_of(&recorded), listener.local_addr().unwrap(), &["--speed", "max"]);
    let mut peer = Peer::accept(&listener, 10 * 276);
    for sequence in 0..10 {
        assert!(matches!(peer.next(), ClientMessage::Frame(frame) if frame.sequence == sequence));
    }
    replay.signal(Signal::USR1);
    replay.wait_line("paused");
    (recorded, listener, replay, peer)
}

/// Checks that the paused replay sends nothing. Resumes it and expects the frames from `first` on and BYE. Returns
/// the report.
fn goes_on(replay: Replay, mut peer: Peer, first: u64) -> serde_json::Value {
    // If the replay sent frames, they would come between the two answers at the latest.
    for nonce in [1, 2] {
        peer.send(&ServerMessage::Ping(nonce));
        assert_eq!(peer.next(), ClientMessage::Pong(nonce));
    }
    replay.signal(Signal::USR1);
    replay.wait_line("resumed");
    for sequence in first..30 {
        assert!(matches!(peer.next(), ClientMessage::Frame(frame) if frame.sequence == sequence));
    }
    assert_eq!(peer.next(), ClientMessage::Bye(Bye { next: Lanes::new(0, 30) }));
    peer.send(&ServerMessage::Bye(Bye { next: Lanes::new(0, 30) }));
    replay.wait(0).0
}

#[test]
fn a_signal_pauses_and_the_next_one_resumes() {
    let (_recorded, _listener, replay, mut peer) = paused_after_ten();
    peer.credit(1 << 30);
    let report = goes_on(replay, peer, 10);
    assert_eq!((&report["acked"], &report["sent"]), (&30.into(), &30.into()));
}

#[test]
fn a_connection_lost_in_a_pause_is_reopened_and_sends_no_frame() {
    let (_recorded, listener, replay, peer) = paused_after_ten();
    drop(peer);
    let peer = Peer::accept(&listener, 1 << 30);
    let report = goes_on(replay, peer, 0);
    assert_eq!((&report["acked"], &report["sent"], &report["resent"]), (&30.into(), &30.into(), &10.into()));
}
