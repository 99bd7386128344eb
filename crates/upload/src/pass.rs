//! One look at the directory of an export.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::panic::resume_unwind;
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::error::UploadError;
use super::store::{Store, open_file};
use super::{Status, UploadConfig};
use export::MANIFEST_NAME;
use export::listing::{self, Listing, Uploaded};
use frame::unix_now_ns;
use support::plain_file;

/// One look at the directory of an export.
pub(super) struct Pass<'a> {
    pub(super) config: &'a UploadConfig,
    pub(super) store: &'a Store,
    pub(super) status: &'a watch::Sender<Status>,
}

/// What the listings of a directory ask for, by the first offset of their segments.
#[derive(Default)]
struct Due {
    /// Segments to upload, with their sizes in bytes.
    uploads: BTreeMap<u64, u64>,
    /// Segments whose files are to be removed.
    removals: Vec<u64>,
    /// The first listing that cannot be read.
    unreadable: Option<UploadError>,
}

impl Pass<'_> {
    /// Uploads the files of each segment that the store does not have, in the order of their offsets, then removes files
    /// that are due. A segment with an unreadable file does not stop the others.
    ///
    /// # Errors
    /// The first [`UploadError`].
    pub(super) async fn run(self) -> Result<(), UploadError> {
        let (out, store) = (self.config.out.clone(), self.config.store.to_string());
        let retention = self.config.retention;
        let mut due = blocking(move || look(&out, &store, retention)).await?;
        self.note_pending(&due);
        let mut trouble = due.unreadable.take();
        if !due.uploads.is_empty() {
            self.claim().await?;
        }
        while let Some((base, bytes)) = due.uploads.pop_first() {
            match self.upload(base).await {
                Err(error) if error.is_of_segment() => trouble = trouble.or(Some(error)),
                result => {
                    result?;
                    self.note_uploaded(bytes);
                }
            }
        }
        let out = self.config.out.clone();
        blocking(move || remove(&out, &due.removals)).await?;
        trouble.map_or(Ok(()), Err)
    }

    /// Ensures that the store holds this export, or nothing.
    async fn claim(&self) -> Result<(), UploadError> {
        let path = self.config.out.join(MANIFEST_NAME);
        let manifest = blocking(move || {
            let read = plain_file::open(&path).and_then(|mut file| {
                let mut text = Vec::new();
                file.read_to_end(&mut text).map(|_| text)
            });
            read.map_err(|source| UploadError::read(&path, &path, source))
        });
        let manifest = manifest.await?;
        match self.store.get(MANIFEST_NAME).await? {
            None => self.store.put(MANIFEST_NAME, manifest).await,
            Some(found) if found == manifest => Ok(()),
            Some(_) => Err(UploadError::Foreign {
                store: self.config.store.to_string(),
                name: MANIFEST_NAME,
                out: self.config.out.clone(),
            }),
        }
    }

    /// Uploads the files of one segment, then its listing, and notes that in the directory.
    async fn upload(&self, base: u64) -> Result<(), UploadError> {
        let listed = listing::path_of(&self.config.out, base);
        let out = self.config.out.clone();
        let mut listing = blocking(move || read_listing(&out, base)).await?;
        for file in &listing.files {
            let path = self.config.out.join(&file.path);
            let of_file = |source| UploadError::read(&path, &listed, source);
            let (opened, bytes) = (path.clone(), file.bytes);
            let opened = blocking(move || Ok(open_file(&opened, bytes))).await?.map_err(of_file)?;
            self.store.put_file(&file.path, opened, bytes, of_file).await?;
        }
        let at_ms = unix_now_ns() / 1_000_000;
        listing.uploaded = Some(Uploaded { store: self.config.store.to_string(), at_ms });
        let json = listing.to_json();
        self.store.put(&listing.path(), json).await?;
        tracing::info!(
            from_offset = base,
            to_offset = listing.end,
            files = listing.files.len(),
            bytes = listing.bytes(),
            "segment uploaded"
        );
        let out = self.config.out.clone();
        blocking(move || Ok(listing.write(&out)?)).await
    }

    fn note_pending(&self, due: &Due) {
        self.status.send_modify(|status| {
            status.pending_segments = due.uploads.len() as u64;
            status.pending_bytes = due.uploads.values().sum();
        });
    }

    fn note_uploaded(&self, bytes: u64) {
        self.status.send_modify(|status| {
            status.pending_segments = status.pending_segments.saturating_sub(1);
            status.pending_bytes = status.pending_bytes.saturating_sub(bytes);
            status.segments += 1;
            status.bytes += bytes;
            status.uploaded_ms = Some(unix_now_ns() / 1_000_000);
        });
    }
}

/// Reads all listings of the export `out`.
fn look(out: &Path, store: &str, retention: Option<Duration>) -> Result<Due, UploadError> {
    let dir = out.join(listing::LISTINGS);
    let bases = listing::list(out).map_err(|source| UploadError::read(&dir, &dir, source))?;
    let mut due = Due::default();
    for base in bases {
        match read_listing(out, base) {
            Ok(listing) if !listing.is_in(store) => {
                due.uploads.insert(base, listing.bytes());
            }
            Ok(listing) if is_removal_due(&listing, retention) => due.removals.push(base),
            Ok(_) => {}
            Err(error) => due.unreadable = due.unreadable.or(Some(error)),
        }
    }
    Ok(due)
}

fn read_listing(out: &Path, base: u64) -> Result<Listing, UploadError> {
    let path = listing::path_of(out, base);
    listing::read(out, base).map_err(|source| UploadError::read(&path, &path, source))
}

/// Whether the files of an uploaded segment may leave the directory.
fn is_removal_due(listing: &Listing, retention: Option<Duration>) -> bool {
    let (Some(uploaded), Some(retention)) = (&listing.uploaded, retention) else { return false };
    let age_ms = unix_now_ns() / 1_000_000 - uploaded.at_ms;
    !listing.removed && u128::try_from(age_ms).is_ok_and(|age_ms| age_ms >= retention.as_millis())
}

/// Removes the files of the segments at `bases`.
fn remove(out: &Path, bases: &[u64]) -> Result<(), UploadError> {
    for base in bases {
        let mut listing = read_listing(out, *base)?;
        listing.remove_files(out)?;
        tracing::info!(
            from_offset = base,
            bytes = listing.bytes(),
            "files of the export removed after their upload"
        );
    }
    Ok(())
}

/// Runs `work` on a thread for blocking work.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, UploadError> + Send + 'static,
) -> Result<T, UploadError> {
    spawn_blocking(work).await.unwrap_or_else(|error| resume_unwind(error.into_panic()))
}
