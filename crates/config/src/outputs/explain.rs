//! The sentence that explains an output.

use std::fmt;

use super::{MessageForm, Output, OutputFraming, OutputStart, OutputTransport};
use crate::units::Size;
use frame::{FramePriority, SourceKind, Station};
use wire::feed::Policy;

impl fmt::Display for Output {
    /// Explains the output in one sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, transport, framing, .. } = self;
        write!(f, "output {name}: {}{framing} {transport}", self.content())?;
        f.write_str(match self.start {
            OutputStart::Live => ", from the next frame on",
            OutputStart::Cursor => ", from where it stood on",
            OutputStart::Earliest => ", from the oldest frame on",
        })?;
        f.write_str(match self.policy {
            Policy::Complete => "",
            Policy::Timely => ", skipping to the newest when the reader is slow",
        })?;
        f.write_str(if self.retention_hold { "; the archive keeps what is not forwarded" } else { "" })
    }
}

impl Output {
    /// What goes out.
    fn content(&self) -> String {
        let select = &self.select;
        let lane = match select.frames.priority {
            None => "",
            Some(FramePriority::Emergency) => "emergency ",
            Some(FramePriority::Routine) => "routine ",
        };
        let kind = match select.frames.kind {
            None => "",
            Some(SourceKind::LiveUplink) => "live ",
            Some(SourceKind::ArchivedReplay) => "replayed ",
        };
        let packets = if self.extract_packets { "space packets out of " } else { "" };
        let sources: Vec<_> = select.frames.sources().iter().map(u32::to_string).collect();
        let sources = match &sources[..] {
            [] => "all sources".to_owned(),
            [source] => format!("source {source}"),
            sources => format!("sources {}", sources.join(", ")),
        };
        let stations: Vec<_> = select.stations.iter().map(Station::as_str).collect();
        let stations = match &stations[..] {
            [] => String::new(),
            stations => format!(" from {}", stations.join(", ")),
        };
        format!("{packets}{kind}{lane}frames of {sources}{stations}")
    }
}

impl fmt::Display for OutputFraming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bare => Ok(()),
            Self::Length(length) => {
                write!(f, ", each behind a length of {} bytes,", length.length_field_length)
            }
            Self::Cosmos(cosmos) => write!(f, ", as packets of COSMOS target {},", cosmos.target),
        }
    }
}

impl fmt::Display for OutputTransport {
    /// Says where the frames go.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { at, clients: 1, .. } => write!(f, "to one client of {at}"),
            Self::Listen { at, clients, .. } => write!(f, "to up to {clients} clients of {at}"),
            Self::Connect { to } => write!(f, "to {to}"),
            Self::Udp { to, bytes_per_s } => {
                write!(f, "to UDP {to}, at most {} a second", Size(*bytes_per_s))
            }
            Self::Nats(nats) => {
                let unit = match nats.message {
                    MessageForm::Frame => "a message for each frame",
                    MessageForm::Batch => "many frames in a message",
                };
                write!(f, "into stream {} of NATS at {}, {unit}", nats.stream, nats.servers)
            }
            Self::Aggregator(aggregator) => write!(f, "to the aggregator at {}", aggregator.to),
        }
    }
}
