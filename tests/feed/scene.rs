//! Common setup of the feed tests.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::{Client, Frame, Hello, ROUTINE, Received, Server};

/// No credit for this long means that the pipeline behind the queue is full.
const STALLED: Duration = Duration::from_millis(700);

/// Sends `count` routine frames of `source_id` and waits until they are durable; the connection stays open.
pub fn durable(ingest: SocketAddr, source_id: u32, count: u64) -> Client {
    let (mut client, _) = Client::open(ingest, &Hello::new(source_id));
    send_durable(&mut client, 0, count);
    client
}

/// Sends `count` routine frames from sequence `first` on and waits until they are durable.
pub fn send_durable(client: &mut Client, first: u64, count: u64) {
    for sequence in first..first + count {
        client.frame_within_credit(ROUTINE, sequence, &payload(sequence));
    }
    client.wait_durable(ROUTINE, first + count);
}

pub fn payload(sequence: u64) -> Vec<u8> {
    format!("frame {sequence}").into_bytes()
}

/// A frame whose every field differs from the default.
pub fn peculiar(lane: usize, sequence: u64, flags: u8, ert_ns: i64, payload: &[u8]) -> Frame {
    Frame { flags, ert_ns, ..Frame::new(lane, sequence, payload) }
}

/// Call this while the disk is held. Sends routine frames until no more credit comes. Some of them then wait in the
/// queue, where an emergency overtakes them. Returns the number of frames sent.
pub fn fill(client: &mut Client) -> u64 {
    let mut sequence = 0;
    loop {
        while client.credit(ROUTINE) >= 16 * 1024 {
            client.frame(ROUTINE, sequence, &[0; 16 * 1024 - 20]);
            sequence += 1;
        }
        match client.receive(STALLED) {
            Received::Message(Server::Ack(_)) => {}
            Received::Silence => return sequence,
            other => panic!("an ACK is due, not {other:?}"),
        }
    }
}
