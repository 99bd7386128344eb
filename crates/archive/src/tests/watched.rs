//! A storage that counts the bytes read and has bad sectors.

use std::any::Any;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::{Access, Storage, StorageFile};

type Sectors = Arc<Mutex<Vec<(PathBuf, Range<u64>)>>>;

/// Wraps another storage. Clones share the counter and the bad sectors.
#[derive(Clone)]
pub(crate) struct Watched {
    inner: Arc<dyn Storage>,
    read_bytes: Arc<AtomicU64>,
    bad: Sectors,
}

impl Watched {
    pub(crate) fn new(inner: impl Storage) -> Self {
        Self { inner: Arc::new(inner), read_bytes: Arc::default(), bad: Arc::default() }
    }

    /// Returns the bytes read since the last call.
    pub(crate) fn take_read_bytes(&self) -> u64 {
        self.read_bytes.swap(0, Ordering::Relaxed)
    }

    /// Makes these bytes of a file unreadable from now on.
    pub(crate) fn spoil(&self, path: &Path, bytes: Range<u64>) {
        self.bad.lock().unwrap().push((path.to_owned(), bytes));
    }
}

impl Storage for Watched {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir(dir)
    }

    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.inner.lock(dir)
    }

    fn identity(&self, dir: &Path) -> io::Result<(u64, u64)> {
        self.inner.identity(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn StorageFile>> {
        let inner = self.inner.open(path, access)?;
        Ok(Box::new(WatchedFile { inner, path: path.to_owned(), storage: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.inner.unlink(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.inner.free_bytes(dir)
    }

    fn cached_file_system(&self, dir: &Path) -> io::Result<Option<&'static str>> {
        self.inner.cached_file_system(dir)
    }
}

struct WatchedFile {
    inner: Box<dyn StorageFile>,
    path: PathBuf,
    storage: Watched,
}

impl StorageFile for WatchedFile {
    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn is_linked(&self) -> io::Result<bool> {
        self.inner.is_linked()
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let end = at + buffer.len() as u64;
        let bad = self.storage.bad.lock().unwrap();
        let hit = |(path, bytes): &&(PathBuf, Range<u64>)| {
            *path == self.path && bytes.start < end && at < bytes.end
        };
        // Like a disk, returns the bytes before the bad sector.
        let sound = bad.iter().filter(hit).map(|(_, bytes)| bytes.start.saturating_sub(at)).min();
        if sound == Some(0) {
            return Err(rustix::io::Errno::IO.into());
        }
        let count = sound.map_or(buffer.len(), |sound| sound as usize);
        let count = self.inner.read_at(&mut buffer[..count], at)?;
        self.storage.read_bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn data_from(&self, at: u64) -> io::Result<Option<u64>> {
        self.inner.data_from(at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.inner.write_at(bytes, at)
    }

    fn direct_alignment(&self) -> io::Result<usize> {
        self.inner.direct_alignment()
    }

    fn bypass_cache(&self) -> io::Result<()> {
        self.inner.bypass_cache()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        self.inner.allocate(from, to)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
}
