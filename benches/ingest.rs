//! Measures how fast the daemon receives frames, archives and acknowledges them, compared with simpler receivers on
//! the same kind of sockets.
//!
//!     cargo bench --bench ingest -- [PAYLOAD_BYTES]... [RECEIVER]...
//!
//! 48 connections on loopback send as fast as they can from one thread. In each of three rounds every receiver has
//! its turn. A receiver that archives runs for 10 seconds, because a short burst would stay in caches. For the others
//! 2 seconds are enough. Each receiver is a separate process:
//!
//! * `split`: finds where frames end and discards them, the least a receiver can do;
//! * `codec`: `LengthDelimitedCodec`, one `Bytes` for each frame, discarded;
//! * `passing`: the daemon with `archive.store_replays = false`, which counts, broadcasts and acknowledges;
//! * `archived`: the daemon with its defaults: archived, synced, acknowledged;
//! * `encrypted`: the same over TLS 1.3, which the sender encrypts on the same cores.
//!
//! Time runs from the first byte to the last BYE, which means that everything is durable. `rcv ns` is the receiver's
//! CPU time per frame. `snd ns` is the sender's, which uses the same cores. Figures are medians. Machines differ, so
//! compare the ratios of one run. `of the disk` compares the growth of the log per second with the rate of sequential
//! writes on the disk: a file of 1 GiB, synced each MiB, in the same rounds, buffered or direct (`O_DIRECT`),
//! whichever is faster. The peak of the memory is printed with the sum of the limits in force.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench prints and may fail")]

mod support;

use std::time::Duration;

use frame::SourceKind;
use support::{
    Amount, Certificate, Credit, Daemon, Disk, Flood, Flooded, Sink, SinkKind, Usage, is_asked_for, median,
};

const CONNECTIONS: u32 = 48;
const PAYLOADS: [usize; 4] = [64, 256, 1_115, 8_192];
/// Bytes of a frame in the log besides its payload.
const LOG_BYTES: usize = 32;
const ROUNDS: usize = 3;
/// Time for which each connection sends. Long enough that the start does not matter.
const TIME: Duration = Duration::from_secs(2);
/// The same for a receiver that archives. Long enough that the disk's caches do not matter.
const ARCHIVED_TIME: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Receiving {
    Split,
    Codec,
    Passing,
    Archived,
    Encrypted,
}

const RECEIVING: [Receiving; 5] =
    [Receiving::Split, Receiving::Codec, Receiving::Passing, Receiving::Archived, Receiving::Encrypted];

/// The figures of one receiver in one round.
struct Measured {
    flooded: Flooded,
    receiver_cpu_ns: u64,
    peak_bytes: u64,
    /// The sum of the limits in MiB, if the receiver has limits.
    bound_mib: Option<f64>,
}

fn main() {
    Sink::serve_if_asked();
    if !is_asked_for("ingest") {
        return;
    }
    let args: Vec<String> = std::env::args().collect();
    let payloads: Vec<usize> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    let named = |receiving: &Receiving| args.iter().any(|arg| arg == receiving.name());
    let receiving: Vec<Receiving> = RECEIVING.into_iter().filter(named).collect();
    for payload_bytes in if payloads.is_empty() { PAYLOADS.to_vec() } else { payloads } {
        compare(payload_bytes, if receiving.is_empty() { &RECEIVING } else { &receiving });
    }
}

fn compare(payload_bytes: usize, receiving: &[Receiving]) {
    let mut disk = Disk::new();
    let mut measured: Vec<Vec<Measured>> = receiving.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        disk.write_sequential();
        for (receiving, measured) in receiving.iter().zip(&mut measured) {
            measured.push(receiving.measure(payload_bytes));
        }
    }
    println!("{payload_bytes} B     frames/s     MB/s   rcv ns   snd ns   peak memory");
    for (receiving, measured) in receiving.iter().zip(&measured) {
        println!("{:<10}{}", receiving.name(), row(measured, payload_bytes));
    }
    if receiving == RECEIVING {
        compare_all(&measured, payload_bytes, &disk);
    }
}

fn compare_all(measured: &[Vec<Measured>], payload_bytes: usize, disk: &Disk) {
    let [split, codec, passing, archived, encrypted] = [0, 1, 2, 3, 4].map(|at| frames_per_s(&measured[at]));
    println!(
        "encrypted/archived {:.2}   archived/codec {:.2}   archived/split {:.2}   passing/codec {:.2}",
        encrypted / archived,
        archived / codec,
        archived / split,
        passing / codec,
    );
    let archived = archived * (LOG_BYTES + payload_bytes) as f64;
    let [buffered, direct] = disk.ways_bytes_per_s();
    println!(
        "archived {:.2} of the disk ({:.0} MB/s buffered, {:.0} MB/s direct)\n",
        archived / disk.sequential_bytes_per_s(),
        buffered / 1e6,
        direct / 1e6,
    );
}

fn frames_per_s(measured: &[Measured]) -> f64 {
    median(measured.iter().map(|one| one.flooded.frames_per_s()))
}

fn row(measured: &[Measured], payload_bytes: usize) -> String {
    let peak_mib = measured.iter().map(|one| one.peak_bytes >> 20).max().unwrap();
    let bound = measured[0].bound_mib.map_or(String::new(), |bound| format!(" of {bound:.0}"));
    format!(
        "{:>10.0}  {:>7.0}  {:>7.0}  {:>7.0}   {peak_mib} MiB{bound}",
        frames_per_s(measured),
        frames_per_s(measured) * payload_bytes as f64 / 1e6,
        median(measured.iter().map(|one| one.receiver_cpu_ns as f64 / one.flooded.frames as f64)),
        median(measured.iter().map(|one| one.flooded.sender_cpu_ns_per_frame())),
    )
}

impl Receiving {
    const fn name(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::Codec => "codec",
            Self::Passing => "passing",
            Self::Archived => "archived",
            Self::Encrypted => "encrypted",
        }
    }

    fn measure(self, payload_bytes: usize) -> Measured {
        match self {
            Self::Split => sink(SinkKind::Split, payload_bytes),
            Self::Codec => sink(SinkKind::Codec, payload_bytes),
            Self::Passing => {
                let off = [("ARCHIVE__STORE_REPLAYS", "false")];
                daemon(&off, None, SourceKind::ArchivedReplay, payload_bytes, TIME)
            }
            Self::Archived => daemon(&[], None, SourceKind::LiveUplink, payload_bytes, ARCHIVED_TIME),
            Self::Encrypted => {
                let certificate = Certificate::new();
                let overrides = certificate.overrides();
                let overrides = overrides.each_ref().map(|(name, path)| (*name, path.as_str()));
                let tls = Some(certificate.client());
                daemon(&overrides, tls, SourceKind::LiveUplink, payload_bytes, ARCHIVED_TIME)
            }
        }
    }
}

fn sink(kind: SinkKind, payload_bytes: usize) -> Measured {
    let mut sink = Sink::start(kind, CONNECTIONS);
    let flood = Flood {
        connections: CONNECTIONS,
        credit: Credit::Unlimited,
        ..Flood::new(sink.address, payload_bytes, Amount::Time(TIME))
    };
    let before = sink.usage();
    let flooded = flood.run();
    let after = sink.usage();
    assert_eq!(sink.frames(), flooded.frames);
    Measured { bound_mib: None, ..measured(flooded, before, after) }
}

fn daemon(
    overrides: &[(&str, &str)],
    tls: Option<tls::Client>,
    source_kind: SourceKind,
    payload_bytes: usize,
    time: Duration,
) -> Measured {
    let daemon = Daemon::start(overrides);
    let flood = Flood {
        connections: CONNECTIONS,
        source_kind,
        tls,
        ..Flood::new(daemon.ingest, payload_bytes, Amount::Time(time))
    };
    let before = daemon.usage();
    let flooded = flood.run();
    Measured { bound_mib: Some(daemon.bound_mib), ..measured(flooded, before, daemon.usage()) }
}

fn measured(flooded: Flooded, before: Usage, after: Usage) -> Measured {
    Measured {
        flooded,
        receiver_cpu_ns: after.cpu_ns - before.cpu_ns,
        peak_bytes: after.resident_bytes_peak,
        bound_mib: None,
    }
}
