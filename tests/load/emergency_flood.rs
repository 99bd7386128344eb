//! A flood of emergencies over a slow disk: emergencies go first, and routine of the whole fleet still gets through.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::alone;
use crate::support::{Client, EMERGENCY, HeldDaemon, Hello, ROUTINE};

const FLOODING: u32 = 16;
const PAYLOAD_BYTES: usize = 4_000;
/// Most emergencies of each flooding connection: several times the number that is archived while routine gets
/// through.
const EMERGENCIES: u64 = 4_000;
/// At 8 frames per second, these would take two minutes.
const ROUTINE_FRAMES: u64 = 1_000;

/// Sends emergencies as fast as credit allows, until `is_over`. Returns their number, at most [`EMERGENCIES`].
fn flood(address: SocketAddr, source_id: u32, is_over: &AtomicBool) -> u64 {
    let (mut client, _) = Client::open(address, &Hello::new(source_id));
    let payload = vec![7; PAYLOAD_BYTES];
    for sequence in 0..EMERGENCIES {
        if is_over.load(Ordering::Relaxed) {
            return sequence;
        }
        client.frame_within_credit(EMERGENCY, sequence, &payload);
    }
    EMERGENCIES
}

#[test]
fn routine_gets_through_a_flood_of_emergencies() {
    let _alone = alone();
    let mut daemon = HeldDaemon::start("");
    daemon.slow(Duration::from_millis(20));
    let is_over = AtomicBool::new(false);
    let emergencies: Vec<u64> = std::thread::scope(|scope| {
        let (address, is_over) = (daemon.address(), &is_over);
        let flooding: Vec<_> =
            (1..=FLOODING).map(|source_id| scope.spawn(move || flood(address, source_id, is_over))).collect();
        // This emergency waits behind the flood, so the test begins when the flood is under way.
        let (mut client, _) = Client::open(daemon.address(), &Hello::new(FLOODING + 1));
        client.deliver(EMERGENCY, 0, b"first");
        for sequence in 0..ROUTINE_FRAMES {
            client.frame_within_credit(ROUTINE, sequence, b"routine");
        }
        client.wait_durable(ROUTINE, ROUTINE_FRAMES);
        is_over.store(true, Ordering::Relaxed);
        flooding.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let all = emergencies.iter().sum::<u64>();
    assert!(
        emergencies.iter().all(|sent| *sent < EMERGENCIES),
        "routine had to wait for the flood to end: {all}"
    );
    assert!(all > ROUTINE_FRAMES, "{all} emergencies: they are to go first");
    let _ = daemon.stop();
}
