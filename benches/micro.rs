//! Measures each step of a frame separately, to find the slow step when a whole run is slower.
//!
//!     cargo bench --bench micro [-- FILTER]
//!
//! Each step prints frames or bytes per second next to the time of an iteration.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench prints and may fail")]

use std::any::Any;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use archive::{Access, Commit, Config, Storage, StorageFile, open};
use bytes::{Bytes, BytesMut};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use frame::{
    Batch, BufferPool, FrameFlags, FrameMeta, FramePriority, FrameRun, Lanes, Origin, ReadBuffer, SourceKind,
    Station, StreamKey,
};
use ingest::pipeline::{Counters, FanIn, Gate, Output, OutputGone, SourceQueue, Sources};
use tokio::runtime::{Builder, Runtime};
use wire::{Deliver, FrameHeader, FrameMessage, cut};

const PAYLOADS: [usize; 2] = [64, 1_115];
const READ_BYTES: usize = 64 << 10;
const SOURCES: u32 = 48;
const BATCH_FRAMES: usize = 64;
/// Batches that one iteration gives to the archive: several blocks.
const BATCHES: usize = 1_000;

fn main() {
    if std::env::args().any(|arg| arg == "--bench") {
        divan::main();
    } else {
        println!("run it with: cargo bench --bench micro");
    }
}

fn origin(source_id: u32) -> Arc<Origin> {
    let station = Station::new("Svalbard").unwrap();
    let stream = StreamKey { source_id, source_kind: SourceKind::LiveUplink, station };
    Arc::new(Origin { stream, epoch: 1 })
}

/// Whole FRAME messages, about as many as one read brings.
fn messages(payload_bytes: usize) -> Bytes {
    let payload = Bytes::from(vec![7; payload_bytes]);
    let mut read = BytesMut::new();
    for sequence in 0.. {
        if read.len() + payload_bytes + 24 > READ_BYTES {
            break;
        }
        let flags = FrameFlags::default();
        FrameMessage::new(FramePriority::Routine, flags, sequence, 0, payload.clone()).encode(&mut read);
    }
    read.freeze()
}

/// The run that a session makes of [`messages`].
fn run(source_id: u32, payload_bytes: usize) -> FrameRun {
    let mut buffer = ReadBuffer { bytes: messages(payload_bytes).into(), ..ReadBuffer::default() };
    let ReadBuffer { bytes, metas } = &mut buffer;
    for (at, body) in cut(bytes, 128 << 10) {
        metas.routine.push(meta(at, body));
    }
    let pool = BufferPool::new(0, 0);
    FrameRun::of_read(&origin(source_id), 0, buffer, true, &pool).into_values().flatten().next().unwrap()
}

fn meta(at: usize, body: &[u8]) -> FrameMeta {
    let header = FrameHeader::decode(body).unwrap();
    FrameMeta {
        sequence: header.sequence,
        ert_ns: header.ert_ns,
        payload_at: (at + header.header_len) as u32,
        payload_len: (body.len() - header.header_len) as u32,
        header_len: header.header_len as u8,
        flags: header.flags,
        ..FrameMeta::default()
    }
}

/// Finds the messages of a read and decodes the headers of its frames.
#[divan::bench(args = PAYLOADS)]
fn wire_decode(bencher: Bencher, payload_bytes: usize) {
    let read = messages(payload_bytes);
    let mut metas = Vec::with_capacity(READ_BYTES / 24);
    bencher.counter(BytesCount::of_slice(&read[..])).bench_local(|| {
        metas.clear();
        metas.extend(cut(&read, 128 << 10).map(|(at, body)| meta(at, body)));
        metas.len()
    });
}

/// Writes the DELIVER messages of a read. The tail does that once for all subscribers.
#[divan::bench(args = PAYLOADS)]
fn wire_deliver(bencher: Bencher, payload_bytes: usize) {
    let run = run(1, payload_bytes);
    let mut out = BytesMut::with_capacity(4 * READ_BYTES);
    bencher.counter(ItemsCount::new(run.len())).bench_local(|| {
        out.clear();
        for (offset, frame) in (0..).zip(run.iter()) {
            Deliver::encode(offset, frame, &mut out);
        }
        out.len()
    });
}

/// Passes one read of each of 48 sources through the queues and the fan-in.
#[divan::bench(args = PAYLOADS)]
fn fan_in(bencher: Bencher, payload_bytes: usize) {
    let runtime = runtime();
    let sources = Sources::new();
    let mut fan_in = FanIn::new(
        Arc::clone(&sources),
        Gate::open(),
        config::Config::default().fan_in_config(),
        Arc::new(Counters::default()),
    );
    let runs: Vec<FrameRun> = (0..SOURCES).map(|source_id| run(source_id, payload_bytes)).collect();
    let queues: Vec<_> =
        runs.iter().map(|_| SourceQueue::new(Arc::clone(&sources), Lanes::both(1 << 20))).collect();
    let frames: usize = runs.iter().map(FrameRun::len).sum();
    bencher.counter(ItemsCount::new(frames)).bench_local(|| {
        for (queue, run) in queues.iter().zip(&runs) {
            queue.push(Lanes::new(None, Some(run.clone())));
        }
        runtime.block_on(async {
            let mut left = frames;
            while left > 0 {
                left -= fan_in.next_batch(&Everything).await.unwrap().len();
            }
        });
    });
}

struct Everything;

impl Output for Everything {
    async fn append(&mut self, _batch: Batch) -> Result<(), OutputGone> {
        Ok(())
    }
}

/// Encodes batches of 64 frames into blocks with checksums, and writes them to a storage that takes no time.
#[divan::bench(args = PAYLOADS)]
fn archive_append(bencher: Bencher, payload_bytes: usize) {
    let runtime = runtime();
    let config = Config { dir: "/archive".into(), ..config::Config::default().archive_config() };
    let (appender, archive, _) = open(config, Nowhere::default(), |_: &Commit<'_>| {}).unwrap();
    let mut run = run(1, payload_bytes);
    let batch = Batch::new(run.priority(), vec![run.split_to(BATCH_FRAMES.min(run.len()))]);
    bencher.counter(ItemsCount::new(BATCHES * batch.len())).bench_local(|| {
        runtime.block_on(async {
            for _ in 0..BATCHES {
                appender.append(batch.clone()).await.unwrap();
            }
        });
    });
    drop(appender);
    runtime.block_on(archive.finish()).unwrap();
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// A file system that keeps only the names of files.
#[derive(Default)]
struct Nowhere(Mutex<BTreeSet<String>>);

impl Nowhere {
    fn names(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap()
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

struct Nothing;

impl Storage for Nowhere {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        Ok(Box::new(()))
    }

    fn identity(&self, _: &Path) -> io::Result<(u64, u64)> {
        Ok((0, 0))
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(self.names().iter().cloned().collect())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn StorageFile>> {
        if access == Access::Create {
            self.names().insert(name(path));
        } else if !self.names().contains(&name(path)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Box::new(Nothing))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.names().remove(&name(from));
        self.names().insert(name(to));
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.names().remove(&name(path));
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl StorageFile for Nothing {
    fn size(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn is_linked(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&self, bytes: &[u8], _: u64) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}
