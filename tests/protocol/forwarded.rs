//! Frames that another daemon forwards: its archive holds earlier epochs of a stream beside the current one.

use crate::support::{Archived, Client, Daemon, EMERGENCY, Hello, ROUTINE, code};

/// VIA with the name of a forwarder behind the token.
const VIA: u16 = 32;

fn hello(epoch: u64) -> Hello {
    let mut hello = Hello::new(7).station("SVALBARD").epoch(epoch).flags(VIA);
    hello.trailing = b"\x06EDGE-1".to_vec();
    hello
}

/// The payloads of an epoch and lane, in the order of the log.
fn payloads(frames: &[Archived], epoch: u64, lane: usize) -> Vec<String> {
    let of_lane = frames.iter().filter(|frame| frame.epoch == epoch && frame.lane == lane);
    of_lane.map(|frame| String::from_utf8(frame.payload.clone()).unwrap()).collect()
}

#[test]
fn a_forwarder_brings_an_earlier_epoch_beside_the_current_one() {
    let mut daemon = Daemon::start("");
    let (mut current, _) = Client::open(daemon.address(), &hello(9));
    current.deliver(EMERGENCY, 0, b"safe mode");
    let (mut earlier, welcome) = Client::open(daemon.address(), &hello(5));
    assert_eq!((welcome.epoch, welcome.resume_next), (5, [0, 0]));
    earlier.deliver(ROUTINE, 3, b"before the pass");
    // Neither ends the other.
    current.deliver(ROUTINE, 0, b"in the pass");
    earlier.deliver(ROUTINE, 4, b"still before");
    // A takeover within the earlier epoch.
    let (mut again, welcome) = Client::open(daemon.address(), &hello(5));
    assert_eq!(welcome.resume_next, [0, 5]);
    earlier.expect_error(code::TAKEN_OVER);
    again.deliver(ROUTINE, 5, b"the last");
    let frames = daemon.archived();
    assert_eq!(payloads(&frames, 5, ROUTINE), ["before the pass", "still before", "the last"]);
    assert_eq!(payloads(&frames, 9, ROUTINE), ["in the pass"]);
    assert_eq!(payloads(&frames, 9, EMERGENCY), ["safe mode"]);
    daemon.stop().assert_balanced();
}

#[test]
fn the_archive_says_where_an_earlier_epoch_stood_after_kill_9() {
    let daemon = Daemon::start("");
    for (epoch, frames) in [(5, 40), (6, 0), (9, 20)] {
        let (mut client, _) = Client::open(daemon.address(), &hello(epoch));
        for sequence in 0..frames {
            client.frame_within_credit(ROUTINE, 2 * sequence, format!("{epoch} {sequence}").as_bytes());
        }
        client.wait_durable(ROUTINE, u64::max(1, 2 * frames) - 1);
    }
    let mut daemon = daemon.kill_and_restart();
    let resume = |epoch: u64| Client::open(daemon.address(), &hello(epoch)).1.resume_next;
    assert_eq!(resume(5), [0, 79]);
    assert_eq!(resume(6), [0, 0], "no frame of it was ever sent");
    assert_eq!(resume(9), [0, 39]);
    assert_eq!(resume(8), [0, 0]);
    daemon.stop();
}

#[test]
fn a_source_of_its_own_is_fenced_as_ever() {
    let mut daemon = Daemon::start("");
    Client::open(daemon.address(), &hello(9));
    let fenced = Client::refused(daemon.address(), &Hello::new(7).station("SVALBARD").epoch(5), code::FENCED);
    assert_eq!(fenced.detail, 9);
    daemon.stop();
}
