//! Why an upload fails, with the way out.

use std::io;
use std::path::{Path, PathBuf};

use export::ExportError;

/// Why a pass of the uploads ended early. The next pass begins where this one ended.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The bucket does not exist.
    #[error("the bucket of {store} does not exist: create it, or correct export.store")]
    NoBucket {
        /// The URL of the store.
        store: String,
    },
    /// The store refuses the request.
    #[error(
        "{store} refuses the request: {why}; the credentials in the environment of the daemon (AWS_ACCESS_KEY_ID, \
         AWS_SECRET_ACCESS_KEY) must be allowed to list, read and write there"
    )]
    Refused {
        /// The URL of the store.
        store: String,
        /// The answer of the store.
        why: String,
    },
    /// The store does not answer, or with an error.
    #[error(
        "{store} cannot be used: {why}; see to the network, AWS_ENDPOINT and AWS_REGION in the environment of the daemon"
    )]
    Unusable {
        /// The URL of the store.
        store: String,
        /// The reason.
        why: String,
    },
    /// The store holds something else.
    #[error(
        "{store} holds another export: its {name} differs from that in {out}; choose another prefix in export.store",
        out = out.display()
    )]
    Foreign {
        /// The URL of the store.
        store: String,
        /// The name of the file that differs.
        name: &'static str,
        /// The directory of the export.
        out: PathBuf,
    },
    /// The store has another number of bytes than were sent.
    #[error("{store} has {found} bytes of {path} after {sent} bytes were sent: the file is uploaded again")]
    Incomplete {
        /// The URL of the store.
        store: String,
        /// The path of the file in the export.
        path: String,
        /// Size in bytes in the store.
        found: u64,
        /// Bytes that were sent.
        sent: u64,
    },
    /// A file of the export cannot be read.
    #[error(
        "cannot read {path}: {source}; restore the file, or remove {listing} so that the next start of the daemon exports the \
         segment again",
        path = path.display(),
        listing = listing.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// The listing that names it.
        listing: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// The directory of the export cannot be written.
    #[error(transparent)]
    Export(#[from] ExportError),
}

impl UploadError {
    pub(crate) fn read(path: &Path, listing: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), listing: listing.to_owned(), source }
    }

    /// Whether this concerns the files of one segment, so that other segments can be uploaded.
    pub(crate) const fn is_of_segment(&self) -> bool {
        matches!(self, Self::Read { .. })
    }
}
