//! The gate at the fan-in: routine passes only while the archive has room for it.

use tokio::sync::watch;

use crate::frame::{Frame, FramePriority};

/// Counts what passes, in the archive's own measure, against a limit the archive raises.
///
/// The limit is absolute, like credit on the wire: the sum of charges since start up to which routine may pass.
/// Emergencies always pass and are counted too. So what is past the gate always fits.
#[derive(Debug)]
pub struct Gate {
    limit_rx: watch::Receiver<u64>,
    charge: fn(&Frame) -> u64,
    passed: u64,
}

impl Gate {
    /// A gate whose limit is what `limit_rx` says and where a frame counts as `charge` of it.
    #[must_use]
    pub fn new(limit_rx: watch::Receiver<u64>, charge: fn(&Frame) -> u64) -> Self {
        Self { limit_rx, charge, passed: 0 }
    }

    /// A gate that never closes, for pipelines without an archive.
    #[must_use]
    pub fn open() -> Self {
        Self::new(watch::channel(u64::MAX).1, |_| 0)
    }

    /// Whether `frame` could pass now.
    #[must_use]
    pub fn would_admit(&self, frame: &Frame) -> bool {
        frame.priority == FramePriority::Emergency
            || self.passed.saturating_add((self.charge)(frame)) <= *self.limit_rx.borrow()
    }

    /// Lets `frame` pass, and counts it, if it may.
    pub fn admit(&mut self, frame: &Frame) -> bool {
        let admitted = self.would_admit(frame);
        if admitted {
            self.passed = self.passed.saturating_add((self.charge)(frame));
        }
        admitted
    }

    /// Waits until the limit is another one. Cancel safe. Never returns when the archive is gone.
    pub async fn changed(&mut self) {
        if self.limit_rx.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
