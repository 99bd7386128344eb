//! The outcome of an import, for people and for programs.

use std::fmt;

use serde::Serialize;

use crate::replay;
use equipment::links::Channel;
use framing::Continuity;

/// At most this many channels are listed in the text.
const CHANNELS_LISTED_MAX: usize = 50;

/// Outcome of an import. Its serialized form is the object of `--report json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What the recording held.
    pub recording: RecordingReport,
    /// What was sent.
    #[serde(flatten)]
    pub replay: replay::Report,
}

/// What a recording held. `units` = frames + idle_dropped + bad_dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecordingReport {
    /// Bytes that were cut or skipped.
    pub bytes: u64,
    /// Units that the framing has cut.
    pub units: u64,
    /// Units that became frames.
    pub frames: u64,
    /// Units whose check failed, that cannot be decoded, or that come from a spacecraft that is not in the list.
    pub bad: u64,
    /// Bad units that were dropped.
    pub bad_dropped: u64,
    /// Idle units.
    pub idle: u64,
    /// Idle units that were dropped.
    pub idle_dropped: u64,
    /// Units that were dropped because they were longer than the limit of the framing.
    pub oversize: u64,
    /// Bytes that belong to no unit.
    pub skipped_bytes: u64,
    /// Bytes at the end that belong to no complete unit.
    pub left_over_bytes: u64,
    /// How often the synchronisation was lost.
    pub sync_losses: u64,
    /// Units that the spacecraft have sent and that are not in the recording, as far as the counts show.
    pub missing: u64,
    /// Where the first bad unit is, and why it is bad.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_bad: Option<String>,
    /// The counters of the spacecraft.
    pub channels: Vec<ChannelReport>,
}

/// What one counter of a spacecraft shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChannelReport {
    /// The source of the frames.
    pub source: u32,
    /// The virtual channel, or the application process of packets.
    pub channel: u32,
    /// Of USLP: frames with the bypass flag, which have a count of their own.
    pub bypass: bool,
    /// Units with a count.
    pub received: u64,
    /// Units that are missing.
    pub missing: u64,
    /// Restarts of the counter.
    pub restarts: u64,
}

impl From<(&Channel, &Continuity)> for ChannelReport {
    fn from((channel, continuity): (&Channel, &Continuity)) -> Self {
        let &Channel { source, channel, is_bypass: bypass } = channel;
        let &Continuity { received, missing, restarts, .. } = continuity;
        Self { source, channel, bypass, received, missing, restarts }
    }
}

impl fmt::Display for Report {
    /// Writes several lines without a line feed at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.recording)?;
        write!(f, "{}", self.replay)
    }
}

impl fmt::Display for RecordingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, units, frames, bad, bad_dropped, idle, idle_dropped, oversize, .. } = self;
        write!(
            f,
            "bytes {bytes}, units {units}, frames {frames}, bad {bad} ({bad_dropped} dropped), idle {idle} \
             ({idle_dropped} dropped), too long {oversize}"
        )?;
        write!(
            f,
            "\nbytes skipped {}, {} of them at the end; synchronisation lost {} times; missing {}",
            self.skipped_bytes, self.left_over_bytes, self.sync_losses, self.missing
        )?;
        for channel in self.channels.iter().take(CHANNELS_LISTED_MAX) {
            let ChannelReport { source, channel, bypass, received, missing, restarts } = channel;
            let bypass = if *bypass { " (bypass)" } else { "" };
            write!(
                f,
                "\nsource {source}, channel {channel}{bypass}: received {received}, missing {missing}, restarts \
                 {restarts}"
            )?;
        }
        match self.channels.len().saturating_sub(CHANNELS_LISTED_MAX) {
            0 => {}
            more => write!(f, "\nand {more} more channels")?,
        }
        self.first_bad.iter().try_for_each(|bad| write!(f, "\nfirst bad: {bad}"))
    }
}
