//! The newest emergencies, for the operator on shift.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use api::Emergency;
use archive::Commit;
use frame::{FramePriority, FrameView};

/// How many emergencies are kept.
pub const KEPT: usize = 64;
/// How many characters of a payload that begins with text are shown.
const LABEL_CHARS_MAX: usize = 32;

/// The newest [`KEPT`] emergencies.
#[derive(Debug)]
pub struct Emergencies {
    /// The newest emergencies, oldest first.
    newest: Mutex<VecDeque<Emergency>>,
    /// How many emergencies there were since the start.
    count: watch::Sender<u64>,
}

impl Default for Emergencies {
    fn default() -> Self {
        Self { newest: Mutex::default(), count: watch::Sender::new(0) }
    }
}

impl Emergencies {
    /// Keeps the emergencies of `commit`.
    pub fn note(&self, commit: &Commit<'_>) {
        // All frames of a block are of one lane.
        if commit.received.first().is_none_or(|read| read.priority != FramePriority::Emergency) {
            return;
        }
        let count = commit.next_offset - commit.first_offset;
        let skipped = count.saturating_sub(KEPT as u64);
        let mut newest = self.lock();
        for (offset, frame) in (commit.first_offset..).zip(commit.frames.iter()).skip(skipped as usize) {
            if newest.len() == KEPT {
                newest.pop_front();
            }
            newest.push_back(emergency(offset, frame));
        }
        drop(newest);
        self.count.send_modify(|sum| *sum += count);
    }

    /// The newest emergencies, oldest first.
    #[must_use]
    pub fn newest(&self) -> Vec<Emergency> {
        self.lock().iter().cloned().collect()
    }

    /// A receiver of the number of emergencies since the start. It is notified of each change.
    #[must_use]
    pub fn count(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Emergency>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The emergency as the API shows it.
fn emergency(offset: u64, frame: FrameView<'_>) -> Emergency {
    let stream = &frame.origin.stream;
    Emergency {
        offset,
        source_id: stream.source_id,
        kind: stream.source_kind.into(),
        station: stream.station.as_str().to_owned(),
        sequence: frame.sequence,
        received_ms: frame.received_ns / 1_000_000,
        payload_bytes: frame.payload.len(),
        label: Some(label(frame.payload)),
    }
}

/// The text that a payload begins with. Empty for fewer than four capital letters, which may be there by chance.
fn label(payload: &[u8]) -> String {
    let is_text = |byte: &&u8| byte.is_ascii_graphic() || **byte == b' ';
    let text: String =
        payload.iter().take(LABEL_CHARS_MAX).take_while(is_text).map(|byte| char::from(*byte)).collect();
    if text.chars().filter(char::is_ascii_uppercase).count() < 4 { String::new() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_the_text_at_the_start_of_a_payload() {
        assert_eq!(label(b"SAFE_MODE\x00\x01\x02"), "SAFE_MODE");
        assert_eq!(label(&[0x08, 0x41, 0x42, 0x43]), "");
        assert_eq!(label(b"ABC\xff"), "");
        assert_eq!(label(&[b'X'; 100]).len(), LABEL_CHARS_MAX);
    }
}
