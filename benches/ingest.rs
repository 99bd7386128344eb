//! How fast the daemon takes frames in, archived and acknowledged, beside a bare codec sink in the same run.
//!
//!     cargo bench --bench ingest
//!
//! 50 connections on loopback send flat out; sender and receiver share the machine. The receiver is a process of its
//! own, so that its CPU time can be told from the sender's. Figures of one run are ratios of that run: machines differ.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench prints and may fail")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use telemetry_aggregator::frame::{FrameFlags, FramePriority};
use telemetry_aggregator::sim::{self, Plan, Progress};
use telemetry_aggregator::wire::FrameMessage;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

const CONNECTIONS: u32 = 50;
/// Payload bytes each connection sends in a round; at 64 bytes that is 100,000 frames.
const PAYLOAD_BYTES: u64 = 6_400_000;
const ROUNDS: usize = 5;
/// Ticks of /proc/PID/stat per second on Linux.
const TICKS: f64 = 100.0;

struct Measured {
    frames_per_s: f64,
    cpu_ns_per_frame: f64,
    memory_mib: u64,
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("--sink") => Runtime::new().unwrap().block_on(sink()),
        // `cargo test --benches` runs benches to see that they work: nothing is measured there.
        _ if !std::env::args().any(|arg| arg == "--bench") => {
            println!("run it with: cargo bench --bench ingest")
        }
        _ => {
            for payload_bytes in [64, 256, 1115] {
                compare(payload_bytes);
            }
        }
    }
}

/// Frames per connection.
const fn frames(payload_bytes: usize) -> u64 {
    PAYLOAD_BYTES / payload_bytes as u64
}

fn compare(payload_bytes: usize) {
    let runtime = Runtime::new().unwrap();
    let (mut sinks, mut daemons) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        sinks.push(measure_sink(&runtime, payload_bytes));
        daemons.push(measure_daemon(&runtime, payload_bytes));
    }
    let ratio = median(&daemons, |one| one.frames_per_s) / median(&sinks, |one| one.frames_per_s);
    for (name, measured) in [("codec sink", &sinks), ("daemon", &daemons)] {
        println!(
            "{payload_bytes:>5} B  {name:<10}  {:>10.0} frames/s  {:>6.1} MB/s  {:>6.0} ns CPU/frame  {:>4} MiB",
            median(measured, |one| one.frames_per_s),
            median(measured, |one| one.frames_per_s) * payload_bytes as f64 / 1e6,
            median(measured, |one| one.cpu_ns_per_frame),
            measured.iter().map(|one| one.memory_mib).max().unwrap(),
        );
    }
    println!("{payload_bytes:>5} B  daemon / codec sink = {ratio:.2}\n");
}

fn median(measured: &[Measured], figure: impl Fn(&Measured) -> f64) -> f64 {
    let mut figures: Vec<f64> = measured.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Splits by length into one `Bytes` per frame and discards, until every connection has ended.
async fn sink() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    let mut connections = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (socket, _) = listener.accept().await.unwrap();
        connections.spawn(async move {
            let mut frames = FramedRead::with_capacity(socket, LengthDelimitedCodec::new(), 64 << 10);
            let mut count = 0;
            while frames.next().await.is_some_and(|frame| frame.is_ok()) {
                count += 1;
            }
            count
        });
    }
    let total: u64 = connections.join_all().await.into_iter().sum();
    println!("{total}");
    // The parent reads the figures of the living process.
    std::future::pending::<()>().await;
}

fn measure_sink(runtime: &Runtime, payload_bytes: usize) -> Measured {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut child = Receiver(command.arg("--sink").stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let address: SocketAddr = lines.next().unwrap().unwrap().parse().unwrap();
    let started = Instant::now();
    runtime.block_on(async {
        let mut senders = JoinSet::new();
        for _ in 0..CONNECTIONS {
            senders.spawn(send_raw(address, payload_bytes));
        }
        senders.join_all().await;
    });
    let total: u64 = lines.next().unwrap().unwrap().parse().unwrap();
    assert_eq!(total, u64::from(CONNECTIONS) * frames(payload_bytes));
    child.measured(started.elapsed(), payload_bytes)
}

async fn send_raw(address: SocketAddr, payload_bytes: usize) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let payload = Bytes::from(vec![7; payload_bytes]);
    let mut batch = BytesMut::new();
    let frames = frames(payload_bytes);
    for sequence in 0..frames {
        let frame =
            FrameMessage::new(FramePriority::Routine, FrameFlags::default(), sequence, 0, payload.clone());
        frame.encode(&mut batch);
        if batch.len() >= 64 << 10 || sequence + 1 == frames {
            socket.write_all(&batch).await.unwrap();
            batch.clear();
        }
    }
    socket.shutdown().await.unwrap();
}

fn measure_daemon(runtime: &Runtime, payload_bytes: usize) -> Measured {
    // Beside the build, so that it is a real disk and not a /tmp in memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let ready = dir.path().join("ready.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_telemetry-aggregator"));
    command
        .args(["run", "--ready-file"])
        .arg(&ready)
        .current_dir(dir.path())
        .env("TELEMETRY_AGGREGATOR__INGEST__LISTEN", "127.0.0.1:0")
        .env("TELEMETRY_AGGREGATOR__FEED__LISTEN", "127.0.0.1:0")
        .env("TELEMETRY_AGGREGATOR__LOG__LEVEL", "error");
    let child = Receiver(command.spawn().unwrap());
    while !ready.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let addresses: serde_json::Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
    let plan = Plan {
        connect: addresses["ingest"].as_str().unwrap().to_owned(),
        satellites: CONNECTIONS - 2,
        replays: 2,
        frames: Some(frames(payload_bytes)),
        payload_bytes,
        // A daemon that has gone away would be waited for without end.
        duration: Some(Duration::from_secs(60)),
        ..Plan::default()
    };
    let (_stop_tx, stop) = tokio::sync::watch::channel(false);
    let started = Instant::now();
    let report = runtime.block_on(sim::run(plan, stop, Arc::new(Progress::default())));
    let elapsed = started.elapsed();
    assert!(report.is_complete(), "{report}");
    child.measured(elapsed, payload_bytes)
}

/// The receiving process; killed when dropped.
struct Receiver(Child);

impl Receiver {
    fn measured(&self, elapsed: Duration, payload_bytes: usize) -> Measured {
        let frames = (u64::from(CONNECTIONS) * frames(payload_bytes)) as f64;
        let proc = format!("/proc/{}", self.0.id());
        let stat = std::fs::read_to_string(format!("{proc}/stat")).unwrap();
        // utime and stime are the 14th and 15th fields; the 2nd, in parentheses, may hold spaces.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        let status = std::fs::read_to_string(format!("{proc}/status")).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        Measured {
            frames_per_s: frames / elapsed.as_secs_f64(),
            cpu_ns_per_frame: ticks / TICKS * 1e9 / frames,
            memory_mib: peak_kib / 1024,
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
