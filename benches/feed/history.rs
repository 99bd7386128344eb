//! Catch-up: subscribers begin with the oldest frame of an archive that is complete.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Instant;

use wire::Start;

use super::subscribers::Subscribers;
use super::support::{Amount, Daemon, Flood, median};
use super::{LIMITS, ROUNDS};

/// Numbers of subscribers at the same time.
const COUNTS: [usize; 2] = [1, 4];
const CONNECTIONS: u64 = 48;
/// Bytes of a frame in the archive before its payload.
const FRAME_HEADER_BYTES: usize = 32;
/// Bytes of one read of `cat`.
const CAT_BYTES: usize = 128 << 10;
/// Bytes of one write of the bare writer, and of one read.
const BARE_BYTES: usize = 256 << 10;

struct CaughtUp {
    /// Bytes of the archive delivered to all subscribers, in MB per second.
    archive_mb_per_s: f64,
    socket_mb_per_s: f64,
    /// CPU time of the daemon per GB delivered.
    daemon_cpu_ms: f64,
    receiver_cpu_ms: f64,
}

pub fn compare(payload_bytes: usize, megabytes: u64) {
    let daemon = Daemon::start(&LIMITS);
    let frame_bytes = (FRAME_HEADER_BYTES + payload_bytes) as u64;
    let per_connection = megabytes * 1_000_000 / frame_bytes / CONNECTIONS;
    let frames = Flood::new(daemon.ingest, payload_bytes, Amount::Frames(per_connection)).run().frames;
    let bytes = frames * frame_bytes;
    let (mut cats, mut bares, mut rows) = (vec![], vec![], COUNTS.map(|_| vec![]));
    for _ in 0..ROUNDS {
        cats.push(cat(&daemon.archive()));
        bares.push(bare(bytes));
        for (row, count) in rows.iter_mut().zip(COUNTS) {
            row.push(catch_up(&daemon, count, frames, bytes));
        }
    }
    let (cat, bare) = (median(cats), median(bares));
    println!(
        "{payload_bytes} B, {:.2} GB: cat {cat:.0} MB/s, bare {bare:.0} MB/s\n      \
         MB/s of archive   of cat   MB/s of socket   of bare   daemon ms/GB   receivers ms/GB",
        bytes as f64 / 1e9,
    );
    for (row, count) in rows.iter().zip(COUNTS) {
        let archive = median(row.iter().map(|one| one.archive_mb_per_s));
        let socket = median(row.iter().map(|one| one.socket_mb_per_s));
        println!(
            "{count:>5} {archive:>15.0}   {:>6.2}   {socket:>14.0}   {:>7.2}   {:>12.0}   {:>15.0}",
            archive / cat,
            socket / bare,
            median(row.iter().map(|one| one.daemon_cpu_ms)),
            median(row.iter().map(|one| one.receiver_cpu_ms)),
        );
    }
}

fn catch_up(daemon: &Daemon, count: usize, frames: u64, bytes: u64) -> CaughtUp {
    let (started, cpu_ns) = (Instant::now(), daemon.usage().cpu_ns);
    let mut subscribers = Subscribers::start(daemon.feed, count, Start::Earliest, frames);
    subscribers.done();
    let seconds = started.elapsed().as_secs_f64();
    let daemon_cpu_ns = daemon.usage().cpu_ns - cpu_ns;
    let got = subscribers.got();
    assert_eq!(got.frames, frames * count as u64);
    let delivered_gb = got.bytes as f64 / 1e9;
    CaughtUp {
        archive_mb_per_s: bytes as f64 * count as f64 / 1e6 / seconds,
        socket_mb_per_s: delivered_gb * 1e3 / seconds,
        daemon_cpu_ms: daemon_cpu_ns as f64 / 1e6 / delivered_gb,
        receiver_cpu_ms: got.cpu_ns as f64 / 1e6 / delivered_gb,
    }
}

/// Reads all segments plainly. Returns MB per second.
fn cat(archive: &Path) -> f64 {
    let mut buffer = vec![0; CAT_BYTES];
    let (mut bytes, started) = (0, Instant::now());
    for path in segments(archive) {
        let mut file = std::fs::File::open(path).unwrap();
        while let count @ 1.. = file.read(&mut buffer).unwrap() {
            bytes += count;
        }
    }
    bytes as f64 / 1e6 / started.elapsed().as_secs_f64()
}

fn segments(archive: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(archive).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == "seg"));
    paths.sort();
    paths
}

/// Writes the same bytes repeatedly to a socket whose other end a thread reads and discards. Returns MB per second.
fn bare(bytes: u64) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let reader = std::thread::spawn(move || {
        let mut socket = TcpStream::connect(address).unwrap();
        let mut buffer = vec![0; BARE_BYTES];
        while socket.read(&mut buffer).unwrap() > 0 {}
    });
    let (mut socket, _) = listener.accept().unwrap();
    let (chunk, started) = (vec![7; BARE_BYTES], Instant::now());
    for _ in 0..bytes / BARE_BYTES as u64 {
        socket.write_all(&chunk).unwrap();
    }
    drop(socket);
    reader.join().unwrap();
    bytes as f64 / 1e6 / started.elapsed().as_secs_f64()
}
