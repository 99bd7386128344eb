//! Sources that stay within their credit and still make the daemon keep as much memory as possible.
//!
//! Each write holds 45 KiB of emergencies and one empty routine frame. The emergencies leave the queue, the routine
//! frame waits.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue fails")]
#![allow(clippy::print_stdout, reason = "what a test measured belongs to its output")]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use config::Config;
use support::command::{aggregator, expect_exit};
use support::{Client, Daemon, EMERGENCY, Frame, HeldDaemon, Hello, LIMIT, ROUTINE, Signal, cost};

/// Held by each test, because a test measures the memory of its own process.
static ALONE: Mutex<()> = Mutex::new(());

const ATTACKERS: u32 = 24;
const EMERGENCIES: u64 = 45;
const EMERGENCY_BYTES: usize = 1_004;
/// Writes of each attacker. If each routine frame kept the whole read that brought it, all together would keep 190
/// MiB.
const WRITES: u64 = 128;

/// Routine gets no turn while emergencies wait. Apart from connections, little counts towards the memory limit.
const CONFIG: &str = r#"
    [ingest]
    max_connections = 24
    max_connections_per_address = 24
    max_message = "16 KiB"
    routine_window = "64 KiB"
    emergency_window = "64 KiB"
    max_streams = 32
    [pipeline]
    routine_max_delay = "60s"
    broadcast_capacity = 1
    [feed]
    max_subscribers = 1
"#;

/// Sends [`WRITES`] writes, each as soon as credit allows it, and stays connected.
fn attack(address: SocketAddr, source_id: u32) -> Client {
    let (mut client, _) = Client::open(address, &Hello::new(source_id));
    let payload = [7; EMERGENCY_BYTES];
    for write in 0..WRITES {
        let first = write * EMERGENCIES;
        let emergencies = (first..first + EMERGENCIES).map(|n| Frame::new(EMERGENCY, n, &payload));
        let frames: Vec<Frame> = emergencies.chain([Frame::new(ROUTINE, write, b"")]).collect();
        let mut bytes = Vec::new();
        for frame in &frames {
            client.spend(usize::from(frame.priority), cost(frame.body().len()));
            bytes.extend(frame.bytes());
        }
        for lane in [EMERGENCY, ROUTINE] {
            client.wait_credit(lane, client.spent(lane));
        }
        client.send(&bytes);
    }
    client
}

fn attack_together(address: SocketAddr) -> Vec<Client> {
    std::thread::scope(|scope| {
        let attackers: Vec<_> = (1..=ATTACKERS).map(|n| scope.spawn(move || attack(address, n))).collect();
        attackers.into_iter().map(|attacker| attacker.join().unwrap()).collect()
    })
}

/// The peak of the resident memory of the process, in bytes.
fn peak_bytes(process: &str) -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(process).join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Upper bound in bytes of the windows, read buffers and batches of `config`: everything that ingest keeps.
fn ingest_bytes(config: &Config) -> u64 {
    let bound = config.memory_bound();
    let of_ingest =
        ["connections (", "buffers that wait", "frames in the processor", "blocks of the archive"];
    let parts = of_ingest.map(|what| {
        let part = bound.items.iter().find(|item| item.what.starts_with(what));
        part.unwrap_or_else(|| panic!("{what} is not in the sum: {bound}")).bytes()
    });
    parts.into_iter().sum()
}

#[test]
fn a_queued_routine_frame_does_not_keep_emergencies_of_the_same_read_in_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut daemon = HeldDaemon::start(CONFIG);
    daemon.slow(Duration::from_millis(20));
    // Reset the peak to the current memory (proc_pid_clear_refs(5)).
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak_bytes("self");
    let mut clients = attack_together(daemon.address());
    let kept = peak_bytes("self") - before;
    let allowed = ingest_bytes(&daemon.config());
    println!("kept {} KiB of {} KiB", kept >> 10, allowed >> 10);
    assert!(kept < allowed, "{kept} bytes are kept where {allowed} are allowed for");
    for client in &mut clients {
        client.wait_durable(EMERGENCY, WRITES * EMERGENCIES);
        client.wait_durable(ROUTINE, WRITES);
    }
    drop(clients);
    let _ = daemon.stop();
}

#[test]
fn the_daemon_stays_below_the_memory_that_check_prints() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut daemon = Daemon::start(CONFIG);
    let (text, _) = expect_exit(aggregator(["check", "--config"]).arg(daemon.config_path()), 0);
    let line = text.lines().find(|line| line.contains(" in all, ingest.memory_limit is ")).unwrap();
    let mib: f64 = line.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    let mut clients = attack_together(daemon.address());
    let peak = peak_bytes(&daemon.pid().to_string()) as f64 / f64::from(1 << 20);
    println!("peak {peak:.1} MiB of {mib:.1} MiB");
    assert!(peak < mib, "{peak:.1} MiB are resident at the peak, {line}");
    for client in &mut clients {
        client.wait_durable(ROUTINE, WRITES);
    }
    drop(clients);
    // The test does not read the archive: that would count as memory of this process.
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit(LIMIT).code, Some(0));
}
