//! The gate at the fan-in: routine passes only while the archive has room for it.

use tokio::sync::watch;

use frame::{FramePriority, FrameRun, Origin};

/// Returns the charge of a frame of an origin with this many bytes of payload.
pub type Charge = fn(&Origin, usize) -> u64;

/// Counts the frames that pass, in the archive's own unit, against a limit that the archive raises.
///
/// The limit is absolute, like credit on the wire: routine may pass up to this sum of charges since the
/// start. Emergencies always pass and are counted too. So everything that has passed the gate always fits.
#[derive(Debug)]
pub struct Gate {
    /// The limit that the archive raises: its routine limit.
    limit_rx: watch::Receiver<u64>,
    /// The limit as last read. The receiver has a lock, and the limit only grows.
    limit: u64,
    /// Computes the charge of a frame.
    charge: Charge,
    /// Sum of the charges of all frames that have passed.
    passed: u64,
}

impl Gate {
    /// A gate with the limit of `limit_rx`. `charge` computes the charge of a frame.
    #[must_use]
    pub fn new(limit_rx: watch::Receiver<u64>, charge: Charge) -> Self {
        Self { limit_rx, limit: 0, charge, passed: 0 }
    }

    /// A gate that never closes, for pipelines without an archive.
    #[must_use]
    pub fn open() -> Self {
        Self::new(watch::channel(u64::MAX).1, |_, _| 0)
    }

    /// Lets a frame of `run` with `payload_bytes` pass, and counts it, if the limit allows.
    #[inline]
    pub fn admit(&mut self, run: &FrameRun, payload_bytes: usize) -> bool {
        let passed = self.passed.saturating_add((self.charge)(run.origin(), payload_bytes));
        if passed > self.limit && run.priority() == FramePriority::Routine {
            self.limit = *self.limit_rx.borrow();
            if passed > self.limit {
                return false;
            }
        }
        self.passed = passed;
        true
    }

    /// Waits until the limit changes. Cancel safe. Never returns when the archive is gone.
    pub async fn changed(&mut self) {
        if self.limit_rx.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
