//! The objects below one URL.

use std::error::Error as _;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::Path as FilePath;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{Error, ObjectStore as _, ObjectStoreExt as _, PutPayload, RetryConfig};
use tokio::task::spawn_blocking;

use super::error::UploadError;
use super::url::StoreUrl;

/// A file is sent in parts of this many bytes. Memory holds one of them.
pub const PART_BYTES: usize = 8 << 20;

/// Longest reason of a store that is logged, in characters.
const WHY_CHARS_MAX: usize = 300;

/// A request is tried again this often, for at most this long. The caller tries again after that.
const RETRIES: usize = 2;
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);

/// The objects below one URL.
#[derive(Debug)]
pub struct Store {
    objects: AmazonS3,
    url: StoreUrl,
}

impl Store {
    /// Opens the store at `url`, with the endpoint, region and credentials of the environment (`AWS_..`). Does not connect.
    ///
    /// # Errors
    /// [`UploadError::Unusable`] if a variable is wrong.
    pub fn open(url: &StoreUrl) -> Result<Self, UploadError> {
        // reqwest takes the provider of the process. An error means that there is one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let retry =
            RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
        let builder = AmazonS3Builder::from_env().with_bucket_name(&url.bucket).with_retry(retry);
        let objects = builder.build().map_err(|error| trouble(url, &error))?;
        Ok(Self { objects, url: url.clone() })
    }

    /// The object at `path`. `None` if there is none.
    ///
    /// # Errors
    /// [`UploadError`] of the store.
    pub async fn get(&self, path: &str) -> Result<Option<Vec<u8>>, UploadError> {
        let got = match self.objects.get(&self.path(path)).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            got => got.map_err(|error| self.error(&error))?,
        };
        Ok(Some(got.bytes().await.map_err(|error| self.error(&error))?.into()))
    }

    /// Writes the object at `path`, which appears whole or not at all.
    ///
    /// # Errors
    /// [`UploadError`] of the store.
    pub async fn put(&self, path: &str, content: Vec<u8>) -> Result<(), UploadError> {
        let put = self.objects.put(&self.path(path), content.into()).await;
        put.map(|_| ()).map_err(|error| self.error(&error))
    }

    /// Writes the object at `path` from the first `bytes` bytes of `file`. It appears whole or not at all. The file is
    /// read in parts, each on a thread for blocking work.
    ///
    /// Not cancel safe: when this future is dropped, the store may keep the parts that it has. They are no object. A rule of
    /// the bucket should remove them (`AbortIncompleteMultipartUpload`).
    ///
    /// # Errors
    /// [`UploadError`] of the store, or of the file as `of_file` makes it.
    pub(crate) async fn put_file(
        &self,
        path: &str,
        file: File,
        bytes: u64,
        of_file: impl Fn(std::io::Error) -> UploadError,
    ) -> Result<(), UploadError> {
        let object = self.path(path);
        let (mut file, first) = read_part(file).await.map_err(&of_file)?;
        if (first.len() as u64) >= bytes {
            self.objects.put(&object, first.into()).await.map_err(|error| self.error(&error))?;
        } else {
            let mut upload = self.objects.put_multipart(&object).await.map_err(|error| self.error(&error))?;
            let mut part = first;
            while !part.is_empty() {
                if let Err(error) = upload.put_part(PutPayload::from(part)).await {
                    // The reason for ending is the first error.
                    let _ = upload.abort().await;
                    return Err(self.error(&error));
                }
                (file, part) = read_part(file).await.map_err(&of_file)?;
            }
            upload.complete().await.map_err(|error| self.error(&error))?;
        }
        let found = self.objects.head(&object).await.map_err(|error| self.error(&error))?.size;
        if found != bytes {
            let path = path.to_owned();
            return Err(UploadError::Incomplete { store: self.url.to_string(), path, found, sent: bytes });
        }
        Ok(())
    }

    /// The names of the objects in the directory `dir`, in no order.
    ///
    /// # Errors
    /// [`UploadError`] of the store.
    pub async fn list(&self, dir: &str) -> Result<Vec<String>, UploadError> {
        let objects = self.objects.list(Some(&self.path(dir)));
        let names = objects.map_ok(|object| object.location.filename().unwrap_or_default().to_owned());
        names.try_collect().await.map_err(|error| self.error(&error))
    }

    fn path(&self, path: &str) -> Path {
        path.split('/').fold(self.url.prefix.clone(), |path, part| path.join(part))
    }

    fn error(&self, error: &Error) -> UploadError {
        trouble(&self.url, error)
    }
}

/// The next part of `file`, which is empty at its end.
async fn read_part(mut file: File) -> std::io::Result<(File, Vec<u8>)> {
    let read = spawn_blocking(move || {
        let mut part = Vec::with_capacity(PART_BYTES);
        (&mut file).take(PART_BYTES as u64).read_to_end(&mut part)?;
        Ok((file, part))
    });
    read.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

/// Opens `path` for [`Store::put_file`]. Blocks.
pub(crate) fn open_file(path: &FilePath, bytes: u64) -> std::io::Result<File> {
    let file = support::plain_file::open(path)?;
    let found = file.metadata()?.len();
    if found != bytes {
        let what = format!("it has {found} bytes, and {bytes} were exported");
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, what));
    }
    Ok(file)
}

fn trouble(url: &StoreUrl, error: &Error) -> UploadError {
    let (store, why) = (url.to_string(), reason(error));
    match error {
        // A get of what is not there is no error. So it is the bucket.
        Error::NotFound { .. } => UploadError::NoBucket { store },
        _ if why.contains("NoSuchBucket") => UploadError::NoBucket { store },
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => UploadError::Refused { store, why },
        _ => UploadError::Unusable { store, why },
    }
}

/// The error with its causes, in one short line.
fn reason(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.contains(&inner) {
            let _ = write!(text, ": {inner}");
        }
        cause = error.source();
    }
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(WHY_CHARS_MAX).collect()
}
