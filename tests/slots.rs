//! A connection's slot is in use until its stream's queue is empty, and once, however often the client comes back.

mod support;

use std::time::Instant;

use support::inside::Held;
use support::message::Server;
use support::{Client, EMERGENCY, Hello, LIMIT, ROUTINE, code};
use telemetry_aggregator::ingest::IngestConfig;

fn held() -> Held {
    Held::start(IngestConfig { max_connections: 3, ..IngestConfig::default() })
}

/// Connects as soon as there is a slot: the daemon may not have noticed yet that the client before is gone.
fn open(held: &Held, source_id: u32) -> Client {
    let deadline = Instant::now() + LIMIT;
    loop {
        let mut client = Client::connect(held.address);
        client.send(&Hello::new(source_id).bytes());
        match client.next() {
            Server::Welcome(_) => {
                client.expect_first_acks();
                return client;
            }
            Server::Error(error) if error.code == code::BUSY && Instant::now() < deadline => {}
            other => panic!("no slot for source {source_id}: {other:?}"),
        }
    }
}

/// Leaves a frame in the queue of `source_id` and goes away.
fn leave_a_frame(held: &Held, source_id: u32, sequence: u64) {
    let mut client = open(held, source_id);
    client.frame(ROUTINE, sequence, b"waits");
    client.settle(1);
    client.half_close();
    drop(client);
}

#[test]
fn a_client_that_comes_back_again_and_again_takes_one_slot() {
    let mut held = held();
    let (mut first, _) = Client::open(held.address, &Hello::new(1));
    first.frame(ROUTINE, 0, b"occupies the processor");
    held.next_batch();
    for sequence in 0..20 {
        leave_a_frame(&held, 2, sequence);
    }
    let mut other = open(&held, 3);
    other.frame(EMERGENCY, 0, b"gets in");
    held.release(100);
    other.wait_durable(EMERGENCY, 1);
}

#[test]
fn what_waits_of_streams_without_a_connection_counts_until_it_has_left() {
    let mut held = held();
    let (mut first, _) = Client::open(held.address, &Hello::new(1));
    first.frame(ROUTINE, 0, b"occupies the processor");
    held.next_batch();
    leave_a_frame(&held, 2, 0);
    leave_a_frame(&held, 3, 0);
    Client::refused(held.address, &Hello::new(4), code::BUSY);
    held.release(100);
    first.wait_durable(ROUTINE, 1);
    // The queues are empty as soon as the processor has them, and their slots with them.
    let mut client = open(&held, 5);
    client.deliver(ROUTINE, 0, b"in");
}
