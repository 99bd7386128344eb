//! Imports a recording in a format of equipment: its units become frames of archived replays.
//!
//! A blocking thread reads the recording, cuts it into units ([`framing`]) and finds the source and the lane of
//! each ([`equipment::links`]). The replay ([`crate::replay`]) sends the frames. A frame gets the sequence that follows in
//! its lane. So a run that repeats the recording with the same options and epoch gives each frame the same sequence, and
//! the daemon says which of them it has.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::replay::{self, BATCHES_MAX, Batch, Control, Progress, Recording, Sending};
use archive::StoredFrame;
use config::Link;
use equipment::links::{Channel, Fate, Kept, Sorter};
use frame::{Frame, FrameFlags, Lanes, Origin, SourceKind, StreamKey};
use framing::{Continuity, Deframer, FramingError, Header, Step, Unit};

mod report;

pub use report::{ChannelReport, RecordingReport, Report};

/// Bytes of one read of the recording.
const READ_BYTES: usize = 64 << 10;
/// Most counters of spacecraft. The units of further channels are not checked for gaps.
const CHANNELS_MAX: usize = 4_096;
/// Most sources of a recording. Each one takes memory here and a place in the daemon, so a decoder that reads noise must
/// not make any number of them.
const SOURCES_MAX: usize = 4_096;

/// A recording to import, and the rules by which it is read.
pub struct Import {
    /// The bytes.
    pub input: Box<dyn Read + Send>,
    /// How many bytes there are; `None` if that is not known. Only the progress uses it.
    pub length: Option<u64>,
    /// The rules. The transport is not used.
    pub rules: Arc<Link>,
}

/// Sends `import` to a daemon. The progress counts bytes of the recording where that of a replay counts offsets.
///
/// # Cancel safety
/// As [`replay::run`].
///
/// # Panics
/// If one of its tasks panics.
pub async fn run(import: Import, sending: Sending, control: Arc<Control>, progress: Arc<Progress>) -> Report {
    let Import { input, length, rules } = import;
    progress.set_range(0, length.unwrap_or(0));
    let report = Arc::default();
    let (items_tx, items) = mpsc::channel(BATCHES_MAX);
    let sorter = Sorter::new(Arc::clone(&rules));
    let reader = Reader {
        deframer: Deframer::with_check(&rules.framing, sorter.unit_check()),
        sorter,
        rules,
        batch: Batch::default(),
        items_tx,
        streams: HashMap::new(),
        channels: BTreeMap::new(),
        counts: RecordingReport::default(),
        report: Arc::clone(&report),
    };
    let thread = spawn_blocking(move || reader.run(input));
    let replay = replay::send(sending, Recording { items, thread }, control, progress).await;
    // After a stop the thread may still wait for input, so the counts are taken from here.
    let recording = report.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Report { recording, replay }
}

/// Why reading ended before the end of the recording.
enum Ended {
    /// What is wrong with the recording.
    Problem(String),
    /// The scheduler takes no more frames.
    NotWanted,
}

/// Reads the recording; see the module.
struct Reader {
    rules: Arc<Link>,
    sorter: Sorter,
    deframer: Deframer,
    batch: Batch,
    items_tx: mpsc::Sender<replay::Read>,
    streams: HashMap<u32, Stream>,
    channels: BTreeMap<Channel, Continuity>,
    counts: RecordingReport,
    /// The counts as they were after the last read.
    report: Arc<Mutex<RecordingReport>>,
}

/// The frames of one source.
struct Stream {
    origin: Arc<Origin>,
    /// The sequence of the next frame, per lane.
    next: Lanes<u64>,
}

impl Reader {
    fn run(mut self, mut input: Box<dyn Read + Send>) {
        let ended = self.read_all(&mut input).and_then(|()| self.finish());
        self.publish();
        if let Err(Ended::Problem(problem)) = ended {
            // What comes before the problem is sent. A receiver that is gone needs neither.
            let _ = self.batch.send(&self.items_tx)
                && self.items_tx.blocking_send(replay::Read::Problem(problem)).is_ok();
        }
    }

    fn read_all(&mut self, input: &mut impl Read) -> Result<(), Ended> {
        let mut chunk = vec![0; READ_BYTES];
        loop {
            let count = match input.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Ended::Problem(format!("reading ended early: {error}"))),
            };
            self.deframer.push(&chunk[..count]);
            while let Some(unit) =
                self.deframer.next_unit().map_err(|error| Ended::Problem(with_bytes(&error)))?
            {
                self.place(&unit)?;
            }
            self.publish();
            self.send()?;
        }
    }

    /// Takes what the end of the recording completes.
    fn finish(&mut self) -> Result<(), Ended> {
        let skipped = self.deframer.counts().skipped;
        while let Some(unit) = self.deframer.finish() {
            self.place(&unit)?;
        }
        self.publish();
        self.send()?;
        let framing = self.deframer.counts();
        self.counts.left_over_bytes = framing.skipped - skipped;
        let bytes = framing.bytes + framing.skipped;
        if framing.units == 0 && bytes > 0 {
            return Err(Ended::Problem(format!("no unit found in {bytes} bytes: is the framing right?")));
        }
        if framing.units > 0 && self.counts.bad_dropped == framing.units {
            let units = framing.units;
            return Err(Ended::Problem(format!(
                "all {units} units are bad and were dropped: are the decoder and the spacecraft right?"
            )));
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Ended> {
        if self.batch.send(&self.items_tx) { Ok(()) } else { Err(Ended::NotWanted) }
    }

    /// Makes the counts visible.
    fn publish(&mut self) {
        let framing = self.deframer.counts();
        let counts = &mut self.counts;
        counts.units = framing.units;
        counts.bytes = framing.bytes + framing.skipped;
        counts.skipped_bytes = framing.skipped;
        counts.sync_losses = framing.sync_losses;
        counts.oversize = framing.oversize;
        counts.channels = self.channels.iter().map(ChannelReport::from).collect();
        counts.missing = counts.channels.iter().map(|channel| channel.missing).sum();
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone_from(counts);
    }

    /// Makes a frame of `unit`, or counts why it is none.
    fn place(&mut self, unit: &Unit) -> Result<(), Ended> {
        let (fate, header) = self.sorter.judge(unit);
        if header.is_some_and(|header| header.is_idle) {
            self.counts.idle += 1;
        }
        if header.is_none() || unit.bad_quality {
            self.counts.bad += 1;
            if self.counts.first_bad.is_none() {
                self.counts.first_bad = Some(self.explain_bad(unit));
            }
        }
        match fate {
            Fate::Keep(kept) => self.add(kept, header, unit)?,
            Fate::DropIdle => self.counts.idle_dropped += 1,
            Fate::DropBad => self.counts.bad_dropped += 1,
        }
        Ok(())
    }

    fn add(&mut self, kept: Kept, header: Option<Header>, unit: &Unit) -> Result<(), Ended> {
        if self.streams.len() >= SOURCES_MAX && !self.streams.contains_key(&kept.source) {
            return Err(Ended::Problem(self.explain_sources()));
        }
        let header = header.filter(|_| !kept.is_bad);
        let is_gap = header.is_some_and(|header| self.is_gap(kept.source, &header));
        let mut flags = FrameFlags::default();
        if is_gap || unit.discontinuity {
            flags.insert(FrameFlags::DISCONTINUITY);
        }
        if kept.is_bad {
            flags.insert(FrameFlags::BAD_QUALITY);
        }
        let station = &self.rules.station;
        let stream = self.streams.entry(kept.source).or_insert_with(|| {
            let (source_id, source_kind) = (kept.source, SourceKind::ArchivedReplay);
            let stream = StreamKey { source_id, source_kind, station: station.clone() };
            // The replay chooses the epochs. One origin is one epoch.
            Stream { origin: Arc::new(Origin { stream, epoch: 0 }), next: Lanes::default() }
        });
        let next = &mut stream.next[kept.priority];
        let frame = Frame {
            source_id: kept.source,
            source_kind: SourceKind::ArchivedReplay,
            priority: kept.priority,
            flags,
            sequence: *next,
            ert_ns: unit.ert_ns.unwrap_or(0),
            // The progress shows this time.
            received_ns: unit.ert_ns.unwrap_or(0),
            origin: Arc::clone(&stream.origin),
            payload: Bytes::clone(&unit.data),
        };
        *next += 1;
        self.counts.frames += 1;
        let counts = self.deframer.counts();
        // The progress stands behind the unit when its frame is sent.
        let offset = (counts.bytes + counts.skipped).saturating_sub(1);
        self.batch.add(StoredFrame { offset, frame });
        if self.batch.is_full() { self.send() } else { Ok(()) }
    }

    /// Whether units are missing before the unit with this header.
    fn is_gap(&mut self, source: u32, header: &Header) -> bool {
        let Some(count) = header.count else { return false };
        let channel = Channel { source, channel: header.channel, is_bypass: header.is_bypass };
        if self.channels.len() >= CHANNELS_MAX && !self.channels.contains_key(&channel) {
            return false;
        }
        let continuity = self.channels.entry(channel).or_insert_with(|| Continuity::new(None));
        continuity.take(count) != Step::Next
    }

    /// Why the recording cannot be read beyond the last source that has a place.
    fn explain_sources(&self) -> String {
        let counts = self.deframer.counts();
        format!(
            "there are more than {SOURCES_MAX} sources before byte {}: is the decoder right? list the spacecraft, or name \
             one source",
            counts.bytes + counts.skipped
        )
    }

    /// Why `unit` is bad, with its place.
    fn explain_bad(&self, unit: &Unit) -> String {
        let counts = self.deframer.counts();
        let why = match self.rules.decode.header(&unit.data) {
            Err(error) => error.to_string(),
            Ok(_) if unit.bad_quality => "the equipment marked it as bad".to_owned(),
            Ok(header) => match header.spacecraft.or(unit.spacecraft.map(u32::from)) {
                Some(spacecraft) => format!("it is of spacecraft {spacecraft}, which is not in the list"),
                None => "it names no source".to_owned(),
            },
        };
        format!("the unit that ends at byte {}: {why}", counts.bytes + counts.skipped)
    }
}

/// The problem with the bytes that show it. They are the user's own.
fn with_bytes(error: &FramingError) -> String {
    format!("{error}, where the bytes are {}", error.hex())
}
