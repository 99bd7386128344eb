//! Readers that are slow, or read nothing.

use std::net::TcpStream;

use crate::software::{connect, deliver, listening, read_exactly};
use crate::support::{Client, Daemon, Hello, LIMIT, ROUTINE};

/// A short tail, so that a slow reader soon falls out of it.
const SHORT_TAIL: &str = "[pipeline]\nbroadcast_capacity = 4\n";
/// Together the frames are far larger than all buffers on the way to a reader.
const FRAMES: u64 = 3_000;
const PAYLOAD_BYTES: usize = 16_000;

fn payload(sequence: u64) -> Vec<u8> {
    let mut payload = sequence.to_be_bytes().to_vec();
    payload.resize(PAYLOAD_BYTES, sequence as u8);
    payload
}

/// The sequence of the next frame, whose content must be whole.
fn read_frame(reader: &mut TcpStream) -> u64 {
    let frame = read_exactly(reader, PAYLOAD_BYTES);
    let sequence = u64::from_be_bytes(frame[..8].try_into().unwrap());
    assert!(frame == payload(sequence), "frame {sequence} is damaged");
    sequence
}

#[test]
fn a_complete_reader_gets_everything_however_late_and_others_do_not_wait_for_it() {
    let daemon = Daemon::start(&(SHORT_TAIL.to_owned() + &listening("yamcs", "")));
    let mut late = connect(&daemon, "yamcs");
    let _never = connect(&daemon, "yamcs");
    let mut prompt = connect(&daemon, "yamcs");
    let reading = std::thread::spawn(move || (0..FRAMES).all(|sequence| read_frame(&mut prompt) == sequence));
    deliver(&daemon, &Hello::new(7), (0..FRAMES).map(payload));
    assert!(reading.join().unwrap(), "a prompt reader gets every frame");
    for sequence in 0..FRAMES {
        assert_eq!(read_frame(&mut late), sequence);
    }
}

#[test]
fn a_timely_reader_skips_to_the_newest() {
    let daemon = Daemon::start(&(SHORT_TAIL.to_owned() + &listening("yamcs", "policy = \"timely\"")));
    let mut reader = connect(&daemon, "yamcs");
    deliver(&daemon, &Hello::new(7), (0..FRAMES).map(payload));
    let (mut newest, _) = Client::open(daemon.address(), &Hello::new(7).epoch(2));
    newest.deliver(ROUTINE, 0, &payload(FRAMES));
    let (mut last, mut frames) = (None, 0);
    while last != Some(FRAMES) {
        let sequence = read_frame(&mut reader);
        assert!(last.is_none_or(|last| sequence > last), "{sequence} behind {last:?}");
        (last, frames) = (Some(sequence), frames + 1);
    }
    assert!(frames < FRAMES * 3 / 4, "{frames} frames were not skipped");
}

#[test]
fn readers_that_read_nothing_cost_a_bounded_amount_of_memory_and_no_drain() {
    let output = listening("yamcs", "start = \"earliest\"\nclients = 20");
    let mut daemon = Daemon::start(&(SHORT_TAIL.to_owned() + &output));
    deliver(&daemon, &Hello::new(7), (0..FRAMES).map(payload));
    let before_kib = daemon.rss_kib();
    let readers: Vec<_> = (0..20).map(|_| connect(&daemon, "yamcs")).collect();
    // Each has begun to get frames.
    for reader in &readers {
        reader.set_read_timeout(Some(LIMIT)).unwrap();
        reader.peek(&mut [0; 1]).unwrap();
    }
    let grown_kib = daemon.rss_kib().saturating_sub(before_kib);
    assert!(grown_kib < 20 * 4_096, "20 readers that do not read cost {grown_kib} KiB");
    // Stops within the deadline, with code 0.
    daemon.stop();
}
