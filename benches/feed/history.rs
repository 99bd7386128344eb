//! Catch-up: subscribers begin with the oldest frame of an archive that nobody writes any more.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use telemetry_aggregator::archive::{self, Commit, Config, DiskStorage};
use telemetry_aggregator::frame::{Frame, FrameFlags, FramePriority, Origin, SourceKind, Station, StreamKey};
use telemetry_aggregator::wire::Start;
use tokio::runtime::Runtime;

use super::daemon::{Daemon, cpu_s};
use super::subscribers::Subscribers;
use super::{ROUNDS, median};

const SOURCES: u32 = 48;
/// Frames of one source in a row, as sessions hand them over.
const TURN: u64 = 16;
/// What `cat` reads at once.
const CAT_BYTES: usize = 128 << 10;

pub fn compare(payload_bytes: usize, megabytes: u64) {
    // Beside the build, so that it is a real disk and not a /tmp in memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let archive = dir.path().join("data/archive");
    let frames = write(&archive, payload_bytes, megabytes * 1_000_000);
    let bytes: u64 = segments(&archive).iter().map(|path| path.metadata().unwrap().len()).sum();
    let daemon = Daemon::start(dir.path());
    let (mut cats, mut wires, mut rows) = (vec![], vec![], [vec![], vec![]]);
    let mut delivered = 0;
    for _ in 0..ROUNDS {
        cats.push(cat(&archive));
        for (row, count) in rows.iter_mut().zip([1, 4]) {
            let one = catch_up(&daemon, count, frames);
            delivered = one.delivered / count as u64;
            row.push(one);
        }
        wires.push(wire(delivered));
    }
    let speed = |seconds: f64| bytes as f64 / 1e6 / seconds;
    let cat = speed(median(&cats, |one| *one));
    let wire = delivered as f64 / 1e6 / median(&wires, |one| *one);
    println!(
        "{payload_bytes:>5} B  {:.2} GB, delivered as {:.2} GB; cat {cat:.0} MB/s; a bare writer {wire:.0} MB/s of socket",
        bytes as f64 / 1e9,
        delivered as f64 / 1e9,
    );
    for (row, count) in rows.iter().zip([1, 4]) {
        let all = speed(median(row, |one| one.seconds)) * f64::from(count);
        let socket = delivered as f64 / 1e6 / median(row, |one| one.seconds) * f64::from(count);
        println!(
            "{payload_bytes:>5} B  {count} from history: {all:>6.0} MB/s of archive, {:.2} of cat; {socket:>6.0} MB/s of socket, {:.2} of bare; daemon {:.0} ms CPU/GB delivered, receivers {:.0}",
            all / cat,
            socket / wire,
            median(row, |one| one.daemon_s / (one.delivered as f64 / 1e9)) * 1e3,
            median(row, |one| one.receivers_s / (one.delivered as f64 / 1e9)) * 1e3,
        );
    }
}

struct CaughtUp {
    seconds: f64,
    delivered: u64,
    daemon_s: f64,
    receivers_s: f64,
}

fn catch_up(daemon: &Daemon, count: usize, frames: u64) -> CaughtUp {
    let (started, before_s) = (Instant::now(), daemon.cpu_s());
    let mut subscribers = Subscribers::start(daemon.feed, count, Start::Earliest, frames);
    subscribers.done();
    let seconds = started.elapsed().as_secs_f64();
    let (daemon_s, receivers_s) = (daemon.cpu_s() - before_s, cpu_s(subscribers.id()));
    let got = subscribers.got();
    assert_eq!(got.frames, frames * count as u64);
    CaughtUp { seconds, delivered: got.bytes, daemon_s, receivers_s }
}

/// Reads all segments plainly, and says how many seconds that took.
fn cat(archive: &Path) -> f64 {
    let mut buffer = vec![0; CAT_BYTES];
    let started = Instant::now();
    for path in segments(archive) {
        let mut file = std::fs::File::open(path).unwrap();
        while file.read(&mut buffer).unwrap() > 0 {}
    }
    started.elapsed().as_secs_f64()
}

/// Writes `bytes` of the same 256 KiB to a socket that a thread reads and discards: what loopback alone allows.
fn wire(bytes: u64) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let reader = std::thread::spawn(move || {
        let mut socket = TcpStream::connect(address).unwrap();
        let mut buffer = vec![0; 512 << 10];
        while socket.read(&mut buffer).unwrap() > 0 {}
    });
    let (mut socket, _) = listener.accept().unwrap();
    let chunk = vec![7; 256 << 10];
    let started = Instant::now();
    let mut left = bytes;
    while left > 0 {
        let count = left.min(chunk.len() as u64);
        socket.write_all(&chunk[..count as usize]).unwrap();
        left -= count;
    }
    drop(socket);
    reader.join().unwrap();
    started.elapsed().as_secs_f64()
}

fn segments(archive: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(archive).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == "seg"));
    paths.sort();
    paths
}

/// Writes an archive of about `bytes`, every source in its turn, and returns how many frames it holds.
fn write(dir: &Path, payload_bytes: usize, bytes: u64) -> u64 {
    let config = Config {
        dir: dir.to_owned(),
        max_streams: 64,
        payload_bytes_max: payload_bytes,
        reserve_bytes: 64 << 20,
        ..Config::default()
    };
    let (appender, log, _) = archive::open(config, DiskStorage, |_: &Commit<'_>| {}).unwrap();
    let origins: Vec<Arc<Origin>> = (0..SOURCES).map(origin).collect();
    let payload = Bytes::from((0..payload_bytes).map(|at| at as u8).collect::<Vec<_>>());
    let turns = bytes / (TURN * (32 + payload_bytes as u64));
    Runtime::new().unwrap().block_on(async {
        for turn in 0..turns {
            let origin = &origins[turn as usize % origins.len()];
            let batch: Arc<[Frame]> =
                (0..TURN).map(|index| frame(origin, turn * TURN + index, payload.clone())).collect();
            appender.append(batch).await.unwrap();
        }
        drop(appender);
        log.finish().await.unwrap();
    });
    turns * TURN
}

fn origin(source_id: u32) -> Arc<Origin> {
    let station = Station::new("Svalbard").unwrap();
    let stream = StreamKey { source_id, source_kind: SourceKind::LiveUplink, station };
    Arc::new(Origin { stream, epoch: 1 })
}

fn frame(origin: &Arc<Origin>, sequence: u64, payload: Bytes) -> Frame {
    Frame {
        source_id: origin.stream.source_id,
        source_kind: origin.stream.source_kind,
        priority: FramePriority::Routine,
        flags: FrameFlags::default(),
        sequence,
        ert_ns: 0,
        received_ns: sequence as i64 * 1_000,
        origin: Arc::clone(origin),
        payload,
    }
}
