//! A file system in memory, for tests. It can lose unsynced content, fill up, and fail.

mod file;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Access, Storage, StorageFile};
use file::{Inode, MemFile, resize};

/// The operation for which a [`Hook`] is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// [`Storage::open`] of a file that exists.
    Open,
    /// [`Storage::open`] with [`Access::Create`].
    Create,
    /// [`StorageFile::read_at`].
    Read,
    /// [`StorageFile::write_at`].
    Write,
    /// [`StorageFile::sync_data`].
    Sync,
    /// [`StorageFile::allocate`].
    Allocate,
    /// [`StorageFile::set_len`].
    SetLen,
    /// [`Storage::rename`].
    Rename,
    /// [`Storage::unlink`].
    Unlink,
    /// [`Storage::sync_dir`].
    SyncDir,
    /// [`Storage::identity`].
    Identity,
}

/// A function that is called before each operation, outside of all locks. It may block, and may make the operation
/// fail.
pub(crate) type Hook = dyn Fn(Op, &Path) -> Option<io::Error> + Send + Sync;

/// The file system; clones share it.
#[derive(Clone, Default)]
pub(crate) struct MemStorage {
    /// The state that the clones share.
    disk: Arc<Mutex<Disk>>,
}

/// The disk and the page cache in front of it. Files are known by the numbers of their inodes.
#[derive(Default)]
struct Disk {
    /// The files by path, as a process sees them.
    names: BTreeMap<PathBuf, u64>,
    /// The files by path, as they are after a power failure.
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names that are not yet durable, in order: a journal persists them in order.
    pending_names: Vec<(PathBuf, Change)>,
    /// The files by number. A removed file stays.
    inodes: BTreeMap<u64, Inode>,
    /// The number that was given last.
    inode_next: u64,
    /// The directories that are locked.
    locks: BTreeSet<PathBuf>,
    /// Size of the disk in bytes; `None` means no limit.
    capacity: Option<u64>,
    /// Whether space cannot be allocated ahead.
    no_allocate: bool,
    /// Whether each write ends in its middle.
    short_writes: bool,
    /// Alignment of direct writes, if there are any.
    direct: Option<usize>,
    /// Number of changing operations until the power fails.
    power: Option<u64>,
    /// Whether the power has failed. The operation at which it fails is the last one to reach the disk in part.
    is_off: bool,
    /// Called before each operation.
    hook: Option<Arc<Hook>>,
    /// How often [`MemStorage::replace_dir`] was called.
    dirs_replaced: u64,
}

/// A change of a name.
#[derive(Clone)]
enum Change {
    /// The name leads to this inode.
    Link(u64),
    /// The name is removed.
    Unlink,
    /// The file gets this name.
    RenameTo(PathBuf),
}

impl MemStorage {
    /// A file system that writes past its cache, in pages of `alignment` bytes.
    pub(crate) fn direct(alignment: usize) -> Self {
        let storage = Self::default();
        storage.disk().direct = Some(alignment);
        storage
    }

    /// Simulates a power failure: the cache is lost.
    ///
    /// Without a `seed`, only synced content survives. With a `seed`, a random part of the rest survives too: any
    /// sectors, and the changes of names up to some point.
    pub(crate) fn crash(&self, seed: Option<u64>) {
        let mut disk = self.disk();
        let mut rng = seed.map(StdRng::seed_from_u64);
        let mut keep = || rng.as_mut().is_some_and(|rng| rng.random_bool(0.5));
        for (path, change) in std::mem::take(&mut disk.pending_names) {
            if !keep() {
                break;
            }
            apply(&mut disk.durable_names, path, change);
        }
        let direct = disk.direct;
        for inode in disk.inodes.values_mut() {
            if keep() {
                resize(&mut inode.durable, inode.cached.len());
            }
            for sector in std::mem::take(&mut inode.dirty) {
                if keep() {
                    inode.persist(sector);
                }
            }
            inode.cached = inode.durable.clone();
            inode.allocated = whole(inode.cached.len() as u64, direct);
        }
        disk.names = disk.durable_names.clone();
        disk.locks.clear();
        disk.set_power(None);
    }

    /// Another disk with the same content, cached and durable, and without locks.
    pub(crate) fn clone_disk(&self) -> Self {
        let disk = self.disk();
        let copy = Disk {
            names: disk.names.clone(),
            durable_names: disk.durable_names.clone(),
            pending_names: disk.pending_names.clone(),
            inodes: disk.inodes.clone(),
            inode_next: disk.inode_next,
            capacity: disk.capacity,
            direct: disk.direct,
            ..Disk::default()
        };
        Self { disk: Arc::new(Mutex::new(copy)) }
    }

    /// Simulates a kill of the process: only its locks are lost.
    pub(crate) fn kill(&self) {
        let mut disk = self.disk();
        disk.locks.clear();
        disk.set_power(None);
    }

    /// Lets `operations` more changing operations succeed. Every operation after them fails.
    pub(crate) fn cut_power_after(&self, operations: u64) {
        self.disk().set_power(Some(operations));
    }

    pub(crate) fn set_hook(&self, hook: impl Fn(Op, &Path) -> Option<io::Error> + Send + Sync + 'static) {
        self.disk().hook = Some(Arc::new(hook));
    }

    pub(crate) fn clear_hook(&self) {
        self.disk().hook = None;
    }

    /// Sets the size of the disk in bytes. `None` means no limit.
    pub(crate) fn set_capacity(&self, capacity: Option<u64>) {
        self.disk().capacity = capacity;
    }

    /// Replaces all directories by other ones with the same files.
    pub(crate) fn replace_dir(&self) {
        self.disk().dirs_replaced += 1;
    }

    pub(crate) fn set_no_allocate(&self) {
        self.disk().no_allocate = true;
    }

    pub(crate) fn set_short_writes(&self, short: bool) {
        self.disk().short_writes = short;
    }

    /// Bytes allocated.
    pub(crate) fn used(&self) -> u64 {
        self.disk().used()
    }

    /// Paths of all files.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.disk().names.keys().cloned().collect()
    }

    /// Returns whether a file was written past the cache, and only in this way.
    pub(crate) fn is_direct(&self, path: &Path) -> bool {
        let disk = self.disk();
        disk.inodes[&disk.names[path]].written == Some(file::Written::Direct)
    }

    /// Allows the next process to write the files in another way.
    pub(crate) fn forget_ways(&self) {
        self.disk().inodes.values_mut().for_each(|inode| inode.written = None);
    }

    /// The content of a file as the process sees it.
    pub(crate) fn content(&self, path: &Path) -> Vec<u8> {
        let disk = self.disk();
        disk.inodes[&disk.names[path]].cached.clone()
    }

    /// Overwrites the content of a file. Open handles still lead to the same file, and the way of writing does not
    /// change.
    pub(crate) fn overwrite(&self, path: &Path, content: &[u8]) {
        let mut disk = self.disk();
        let id = disk.names[path];
        let inode = disk.inodes.get_mut(&id).unwrap();
        inode.resize(inode.cached.len().max(content.len()));
        inode.write(content, 0);
    }

    /// Puts a file on the medium.
    pub(crate) fn put(&self, path: &Path, content: Vec<u8>) {
        let mut disk = self.disk();
        let id = disk.new_inode();
        let direct = disk.direct;
        disk.inodes.insert(
            id,
            Inode {
                allocated: whole(content.len() as u64, direct),
                durable: content.clone(),
                cached: content,
                ..Inode::default()
            },
        );
        disk.names.insert(path.to_owned(), id);
        disk.durable_names.insert(path.to_owned(), id);
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks with the hook and the power supply whether the operation may run.
    fn admit(&self, op: Op, path: &Path) -> io::Result<()> {
        self.ask(op, path)?;
        let changes = !matches!(op, Op::Read | Op::Open | Op::Create | Op::Identity);
        match self.disk().draw_power(changes) {
            Power::On => Ok(()),
            Power::Failing | Power::Off => Err(no_power()),
        }
    }

    /// As [`Self::admit`], for a write. An inner error means that the power fails during this write: any part of the
    /// write may have reached the disk.
    fn admit_write(&self, path: &Path) -> io::Result<io::Result<()>> {
        self.ask(Op::Write, path)?;
        match self.disk().draw_power(true) {
            Power::On => Ok(Ok(())),
            Power::Failing => Ok(Err(no_power())),
            Power::Off => Err(no_power()),
        }
    }

    fn ask(&self, op: Op, path: &Path) -> io::Result<()> {
        let hook = self.disk().hook.clone();
        hook.and_then(|hook| hook(op, path)).map_or(Ok(()), Err)
    }
}

/// Whether there is power for an operation.
enum Power {
    /// The operation runs.
    On,
    /// The power fails during this operation.
    Failing,
    /// The power has failed before. The operation does nothing.
    Off,
}

fn no_power() -> io::Error {
    io::Error::other("no power")
}

impl Disk {
    fn draw_power(&mut self, changes: bool) -> Power {
        match &mut self.power {
            None => Power::On,
            Some(0) if self.is_off => Power::Off,
            Some(0) => {
                self.is_off = true;
                Power::Failing
            }
            Some(left) => {
                *left -= u64::from(changes);
                Power::On
            }
        }
    }

    fn set_power(&mut self, operations: Option<u64>) {
        (self.power, self.is_off) = (operations, false);
    }

    fn new_inode(&mut self) -> u64 {
        self.inode_next += 1;
        self.inode_next
    }

    fn used(&self) -> u64 {
        let live: BTreeSet<_> = self.names.values().collect();
        live.iter().map(|id| self.inodes[id].allocated).sum()
    }

    /// Allocates up to `to`, or nothing.
    fn allocate(&mut self, id: u64, to: u64) -> io::Result<()> {
        let to = whole(to, self.direct);
        let free = self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()));
        let inode = self.inodes.get_mut(&id).unwrap();
        if to > inode.allocated {
            if to - inode.allocated > free {
                return Err(io::ErrorKind::StorageFull.into());
            }
            inode.allocated = to;
        }
        Ok(())
    }

    fn change(&mut self, path: PathBuf, change: Change) {
        apply(&mut self.names, path.clone(), change.clone());
        self.pending_names.push((path, change));
    }
}

/// `bytes`, rounded up to whole pages if the disk has pages.
fn whole(bytes: u64, page_bytes: Option<usize>) -> u64 {
    page_bytes.map_or(bytes, |page| bytes.next_multiple_of(page as u64))
}

fn apply(names: &mut BTreeMap<PathBuf, u64>, path: PathBuf, change: Change) {
    match change {
        Change::Link(id) => _ = names.insert(path, id),
        Change::Unlink => _ = names.remove(&path),
        Change::RenameTo(to) => {
            if let Some(id) = names.remove(&path) {
                names.insert(to, id);
            }
        }
    }
}

impl Storage for MemStorage {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        if !self.disk().locks.insert(dir.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemLock(self.clone(), dir.to_owned())))
    }

    fn identity(&self, dir: &Path) -> io::Result<(u64, u64)> {
        self.admit(Op::Identity, dir)?;
        Ok((0, self.disk().dirs_replaced))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        let children = disk.names.keys().filter(|path| path.parent() == Some(dir));
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        Ok(children.map(name).collect())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn StorageFile>> {
        self.admit(if access == Access::Create { Op::Create } else { Op::Open }, path)?;
        let mut disk = self.disk();
        let id = match (disk.names.get(path).copied(), access) {
            (None, Access::Create) => {
                let id = disk.new_inode();
                disk.inodes.insert(id, Inode::default());
                disk.change(path.to_owned(), Change::Link(id));
                id
            }
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
            (Some(id), Access::Create) => {
                let inode = disk.inodes.get_mut(&id).unwrap();
                inode.resize(0);
                (inode.allocated, inode.written) = (0, None);
                id
            }
            (Some(id), _) => id,
        };
        Ok(Box::new(MemFile { storage: self.clone(), path: path.to_owned(), id, direct: OnceLock::new() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.admit(Op::Rename, from)?;
        let mut disk = self.disk();
        if !disk.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change(from.to_owned(), Change::RenameTo(to.to_owned()));
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.admit(Op::Unlink, path)?;
        let mut disk = self.disk();
        if !disk.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change(path.to_owned(), Change::Unlink);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.admit(Op::SyncDir, dir)?;
        let mut disk = self.disk();
        // All directories share one journal, so all earlier changes become durable as well.
        for (path, change) in std::mem::take(&mut disk.pending_names) {
            apply(&mut disk.durable_names, path, change);
        }
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let disk = self.disk();
        let capacity = disk.capacity.unwrap_or(u64::MAX);
        Ok(capacity.saturating_sub(disk.used()))
    }
}

struct MemLock(MemStorage, PathBuf);

impl Drop for MemLock {
    fn drop(&mut self) {
        self.0.disk().locks.remove(&self.1);
    }
}
