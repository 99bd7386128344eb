//! Rates and quantiles. The sampler reads the counters once a second.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Latencies;
use archive::ArchiveStats;
use equipment::links::LinkList;
use frame::Lanes;
use frame::histogram::Counts;
use ingest::{Books, LaneCount, StreamId, StreamTable};

/// How often the sampler reads the counters.
pub const EVERY: Duration = Duration::from_secs(1);
/// Quantiles cover this many periods of `EVERY`.
const QUANTILES_OVER: usize = 10;

/// The rates and quantiles of the last samples.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    /// Rates of all streams together.
    pub lanes: Lanes<LaneRate>,
    /// Rates of each stream in the newest sample.
    pub streams: HashMap<StreamId, Lanes<LaneRate>>,
    /// Rates of each input link, by name.
    pub links: HashMap<String, LinkRate>,
    /// Time from the socket to stable storage, over the last ten seconds.
    pub ack: Lanes<Quantiles>,
    /// Durations of the archive's syncs, over the last ten seconds.
    pub sync: Quantiles,
    /// Disk, memory and open files.
    pub machine: Machine,
}

/// The rate of incoming frames in one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LaneRate {
    /// Frames accepted per second.
    pub frames_per_s: f64,
    /// Bytes of their payloads per second.
    pub bytes_per_s: f64,
}

/// The rate of an input link.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LinkRate {
    /// Units per second.
    pub units_per_s: f64,
    /// Bytes of units per second, framing included.
    pub bytes_per_s: f64,
}

/// A distribution of durations. `None` without any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantiles {
    /// Half of them take less.
    pub p50: Option<Duration>,
    /// 99 of 100 take less.
    pub p99: Option<Duration>,
    /// The longest.
    pub max: Option<Duration>,
}

impl Quantiles {
    fn of(counts: &Counts) -> Self {
        Self { p50: counts.quantile(0.5), p99: counts.quantile(0.99), max: counts.quantile(1.0) }
    }
}

/// Resources of the process and its disk. A value that the system does not report is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Free disk space that the archive can use.
    pub disk_free_bytes: u64,
    /// Size of its disk.
    pub disk_bytes: u64,
    /// Resident memory of the process.
    pub memory_bytes: u64,
    /// Open files and sockets of the process.
    pub open_files: u64,
}

/// What the sampler reads.
pub struct Sampled {
    /// The counters of all streams together. A single stream may vanish between two samples.
    pub books: Arc<Books>,
    /// All streams.
    pub table: Arc<StreamTable>,
    /// The input links.
    pub links: LinkList,
    /// Latencies from the socket to stable storage.
    pub latencies: Arc<Latencies>,
    /// The archive's counters.
    pub archive_stats: Arc<ArchiveStats>,
    /// A directory on the disk whose free space is measured.
    pub dir: PathBuf,
}

/// Samples the counters every [`EVERY`] and publishes the rates.
#[derive(Clone)]
pub struct Sampler {
    /// What the sampler reads.
    pub sampled: Arc<Sampled>,
    /// Publishes the rates.
    pub rates_tx: watch::Sender<Arc<Rates>>,
}

impl Sampler {
    /// Runs until the last receiver of the rates is dropped.
    pub async fn run(self) {
        run(self.sampled, self.rates_tx).await;
    }
}

async fn run(sampled: Arc<Sampled>, rates_tx: watch::Sender<Arc<Rates>>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = VecDeque::<Look>::with_capacity(QUANTILES_OVER + 1);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = rates_tx.closed() => return,
        }
        let sampled = Arc::clone(&sampled);
        // A disk that does not respond or thousands of streams must not block a thread of the runtime.
        let look = tokio::task::spawn_blocking(move || (machine(&sampled.dir), Look::at(&sampled)));
        let Ok((machine, look)) = look.await else { continue };
        // Only the last two samples need the counters of each stream.
        if let Some(older) = looks.iter_mut().rev().nth(1) {
            older.streams = HashMap::new();
        }
        looks.push_back(look);
        if looks.len() > QUANTILES_OVER + 1 {
            looks.pop_front();
        }
        rates_tx.send_replace(Arc::new(rates(&looks, machine)));
    }
}

/// The counters at one moment.
struct Look {
    /// When the counters were read.
    at: Instant,
    /// Frames of all streams.
    lanes: Lanes<LaneCount>,
    /// Frames of each stream. Empty in all but the last two looks.
    streams: HashMap<StreamId, Lanes<LaneCount>>,
    /// Units and bytes of each link.
    links: HashMap<String, (u64, u64)>,
    /// Latencies since the start.
    ack: Lanes<Counts>,
    /// Durations of syncs since the start.
    sync: Counts,
}

impl Look {
    fn at(sampled: &Sampled) -> Self {
        Self {
            at: Instant::now(),
            lanes: sampled.books.lanes(),
            streams: sampled.table.views().into_iter().map(|view| (view.id(), view.lanes)).collect(),
            links: sampled
                .links
                .reporters()
                .iter()
                .map(|link| link.report(0..0))
                .map(|link| (link.name, (link.counts.units, link.counts.bytes)))
                .collect(),
            ack: sampled.latencies.snapshot(),
            sync: sampled.archive_stats.sync_times.snapshot(),
        }
    }
}

/// The rates between the last two looks, and the quantiles over all of them.
fn rates(looks: &VecDeque<Look>, machine: Machine) -> Rates {
    let (Some(oldest), Some(newest)) = (looks.front(), looks.back()) else {
        return Rates::default();
    };
    let before = looks.len().checked_sub(2).and_then(|index| looks.get(index)).unwrap_or(newest);
    let seconds = (newest.at - before.at).as_secs_f64();
    let mut rates = Rates { machine, ..Rates::default() };
    rates.lanes = Lanes::from_fn(|lane| LaneRate::between(before.lanes[lane], newest.lanes[lane], seconds));
    for (stream, counts) in &newest.streams {
        // A stream that is not in the earlier sample started from 0.
        let earlier = before.streams.get(stream).copied().unwrap_or_default();
        let lanes = Lanes::from_fn(|lane| LaneRate::between(earlier[lane], counts[lane], seconds));
        rates.streams.insert(stream.clone(), lanes);
    }
    for (name, after) in &newest.links {
        let earlier = before.links.get(name).copied().unwrap_or_default();
        let rate = LinkRate {
            units_per_s: per_second(earlier.0, after.0, seconds),
            bytes_per_s: per_second(earlier.1, after.1, seconds),
        };
        rates.links.insert(name.clone(), rate);
    }
    rates.ack = Lanes::from_fn(|lane| Quantiles::of(&newest.ack[lane].since(&oldest.ack[lane])));
    rates.sync = Quantiles::of(&newest.sync.since(&oldest.sync));
    rates
}

impl LaneRate {
    fn between(before: LaneCount, after: LaneCount, seconds: f64) -> Self {
        Self {
            frames_per_s: per_second(before.frames, after.frames, seconds),
            bytes_per_s: per_second(before.payload_bytes, after.payload_bytes, seconds),
        }
    }
}

fn per_second(before: u64, after: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { after.saturating_sub(before) as f64 / seconds } else { 0.0 }
}

fn machine(dir: &Path) -> Machine {
    let disk = rustix::fs::statvfs(dir).ok();
    let bytes = |blocks: fn(&rustix::fs::StatVfs) -> u64| {
        disk.as_ref().map_or(0, |disk| blocks(disk).saturating_mul(disk.f_frsize))
    };
    let status = own_status();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident_kib: Option<u64> =
        resident.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
    Machine {
        disk_free_bytes: bytes(|disk| disk.f_bavail),
        disk_bytes: bytes(|disk| disk.f_blocks),
        memory_bytes: resident_kib.unwrap_or(0) * 1024,
        open_files: open_files(),
    }
}

/// The kernel's status of this process. Its file stays open, so that the memory does not read 0 when no more files can
/// be opened.
fn own_status() -> String {
    static STATUS: OnceLock<Option<File>> = OnceLock::new();
    let mut text = vec![0; 8 << 10];
    let file = STATUS.get_or_init(|| File::open("/proc/self/status").ok());
    let read = file.as_ref().map_or(Ok(0), |file| file.read_at(&mut text, 0));
    text.truncate(read.unwrap_or(0));
    String::from_utf8(text).unwrap_or_default()
}

fn open_files() -> u64 {
    match std::fs::read_dir("/proc/self/fd") {
        Ok(files) => files.count() as u64,
        // Listing the directory needs a free file descriptor too. The limit is reached, so the limit is the count.
        Err(error) if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
            getrlimit(Resource::Nofile).current.unwrap_or(0)
        }
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::{SourceKind, Station, StreamKey};

    fn look(at: Instant, counts: &[(u32, u64)]) -> Look {
        let stream = |source_id| {
            let key =
                StreamKey { source_id, source_kind: SourceKind::LiveUplink, station: Station::default() };
            (key, None)
        };
        let lanes =
            |frames| Lanes::new(LaneCount::default(), LaneCount { frames, payload_bytes: 10 * frames });
        let streams = counts.iter().map(|(source_id, frames)| (stream(*source_id), lanes(*frames))).collect();
        let all = lanes(counts.iter().map(|(_, frames)| frames).sum());
        Look {
            at,
            lanes: all,
            streams,
            links: HashMap::new(),
            ack: Lanes::default(),
            sync: Counts::default(),
        }
    }

    #[test]
    fn rates_cover_the_last_two_samples() {
        let start = Instant::now();
        let second = |n| start + Duration::from_secs(n);
        let looks =
            [look(start, &[(1, 0)]), look(second(1), &[(1, 90)]), look(second(3), &[(1, 100), (2, 40)])];
        let rates = rates(&looks.into(), Machine::default());
        assert_eq!(rates.lanes.routine, LaneRate { frames_per_s: 25.0, bytes_per_s: 250.0 });
        assert_eq!(rates.streams.len(), 2);
    }

    #[test]
    fn a_first_sample_has_no_rates() {
        let looks = [look(Instant::now(), &[(1, 1_000)])].into();
        assert_eq!(rates(&looks, Machine::default()).lanes, Lanes::default());
    }

    #[test]
    fn the_machine_report_has_disk_and_memory() {
        let machine = machine(Path::new("."));
        assert!(machine.disk_bytes > machine.disk_free_bytes && machine.disk_free_bytes > 0);
        assert!(machine.memory_bytes > 1 << 20 && machine.open_files > 2, "{machine:?}");
    }
}
