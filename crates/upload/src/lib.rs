//! Uploads the export of each sealed segment to object storage (docs/export.md, "Object storage").
//!
//! [`Uploads`] follows the [listings](export::listing) of an export directory. A listing names whole files, so the upload
//! never waits for the export and never reads a file that is being written. Each pass:
//!
//! 1. compares `_export.json` with the one in the store, so that two archives never mix;
//! 2. uploads the files of each segment that is not in the store yet, then its listing. A reader that goes by listings
//!    sees all files of a segment or none;
//! 3. notes the upload in the listing of the directory. After `kill -9` the next pass uploads the files of at most one
//!    segment again, under the same names with the same content;
//! 4. removes the files of segments that were uploaded long enough ago.
//!
//! An upload never slows the intake down: it reads files of the export and holds no lock. While the store is away, the
//! exports remain in their directory.
//!
//! | file | purpose |
//! |---|---|
//! | `lib.rs` | [`Uploads`]: the task and its [`Status`] |
//! | `pass.rs` | one look at the directory: uploads what is missing, removes what is due |
//! | `store.rs` | [`Store`]: the objects below one URL |
//! | `url.rs` | [`StoreUrl`]: `s3://bucket/prefix` |
//! | `error.rs` | [`UploadError`] |
//!
//! This crate never depends on the archive, the configuration or the daemon.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use actor::{ActorHandle, Capacity, Mailbox, spawn_stage};
use client::Backoff;
use pass::Pass;

mod error;
mod pass;
mod store;
mod url;

pub use error::UploadError;
pub use store::{PART_BYTES, Store};
pub use url::{StoreUrl, StoreUrlError};

/// Memory of the uploads in bytes: the part of a file that is sent, the same in the request, and the listings.
pub const UPLOAD_BYTES: u64 = 4 * PART_BYTES as u64;

/// Time between two looks at the directory.
const LOOK: Duration = Duration::from_secs(5);
/// Longest time between two tries while the store refuses or is away.
const RETRY_MAX: Duration = Duration::from_mins(1);

/// What is uploaded, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadConfig {
    /// The directory of the export.
    pub out: PathBuf,
    /// The store.
    pub store: StoreUrl,
    /// How long after the upload of a segment its files stay in the directory. `None` keeps them.
    pub retention: Option<Duration>,
}

/// What operators see of the uploads. Counters begin with the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The URL of the store.
    pub store: String,
    /// Exported segments that are not in the store.
    pub pending_segments: u64,
    /// Size of their files in bytes.
    pub pending_bytes: u64,
    /// Segments uploaded.
    pub segments: u64,
    /// Bytes of files uploaded.
    pub bytes: u64,
    /// Passes that failed.
    pub failures: u64,
    /// When the last segment was uploaded, unix milliseconds.
    pub uploaded_ms: Option<i64>,
    /// Why the last pass failed. `None` if it did not.
    pub trouble: Option<String>,
}

/// The uploads of a daemon.
#[derive(Clone, Debug)]
pub struct Uploads(watch::Receiver<Status>);

impl Uploads {
    /// Starts the uploads. They end when `shutdown` is true. An upload that is under way then is abandoned and repeated
    /// after the next start. The handle is the task's.
    pub fn start(config: UploadConfig, shutdown: watch::Receiver<bool>) -> (Self, ActorHandle) {
        let (status_tx, status) =
            watch::channel(Status { store: config.store.to_string(), ..Status::default() });
        let capacity = Capacity { urgent: 1, routine: 1 };
        let (_, handle) = spawn_stage("uploads", capacity, |_: Mailbox<()>| run(config, status_tx, shutdown));
        (Self(status), handle)
    }

    /// The status now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.borrow().clone()
    }
}

async fn run(config: UploadConfig, status: watch::Sender<Status>, mut shutdown: watch::Receiver<bool>) {
    let mut backoff = Backoff::new(RETRY_MAX);
    let passes = async {
        let mut store = None;
        loop {
            let wait = match pass(&config, &mut store, &status).await {
                Ok(()) => {
                    backoff.reset();
                    status.send_if_modified(|status| status.trouble.take().is_some());
                    LOOK
                }
                Err(error) => {
                    note(&error, &status);
                    backoff.next(Duration::from_secs(1))
                }
            };
            sleep(wait).await;
        }
    };
    tokio::select! {
        () = passes => {}
        // An error means that the daemon is gone.
        _ = shutdown.wait_for(|is_shutdown| *is_shutdown) => {}
    }
}

async fn pass(
    config: &UploadConfig,
    store: &mut Option<Store>,
    status: &watch::Sender<Status>,
) -> Result<(), UploadError> {
    if store.is_none() {
        *store = Some(Store::open(&config.store)?);
    }
    match store {
        Some(store) => Pass { config, store, status }.run().await,
        None => Ok(()),
    }
}

/// Counts a failed pass, and logs its reason unless the one before had the same.
fn note(error: &UploadError, status: &watch::Sender<Status>) {
    let trouble = error.to_string();
    let is_new = status.borrow().trouble.as_ref() != Some(&trouble);
    if is_new {
        tracing::warn!(error = %trouble, "the upload of the export failed and is tried again");
    }
    status.send_modify(|status| {
        status.failures += 1;
        status.trouble = Some(trouble);
    });
}
