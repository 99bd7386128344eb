//! A file system in memory that can lose what was not synced, fill up, and fail, for tests.

mod file;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Access, Storage, StorageFile};
use file::{Inode, MemFile, resize};

/// What a [`Hook`] is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Open,
    Create,
    Read,
    Write,
    Sync,
    Allocate,
    SetLen,
    Rename,
    Unlink,
    SyncDir,
    Identity,
}

/// Called before each operation, outside of all locks: may block, and may make it fail.
pub(crate) type Hook = dyn Fn(Op, &Path) -> Option<io::Error> + Send + Sync;

/// The file system; clones share it.
#[derive(Clone, Default)]
pub(crate) struct MemStorage {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Default)]
struct Disk {
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names that are not yet durable, in order: a journal persists them in order.
    pending_names: Vec<(PathBuf, Change)>,
    inodes: BTreeMap<u64, Inode>,
    inode_next: u64,
    locks: BTreeSet<PathBuf>,
    capacity: Option<u64>,
    no_allocate: bool,
    short_writes: bool,
    /// Changing operations until the power fails.
    power: Option<u64>,
    hook: Option<Arc<Hook>>,
    /// How often [`MemStorage::replace_dir`] was called.
    dirs_replaced: u64,
}

#[derive(Clone)]
enum Change {
    Link(u64),
    Unlink,
    RenameTo(PathBuf),
}

impl MemStorage {
    /// The power fails: the cache is gone.
    ///
    /// Without a `seed` nothing survives that was not synced; with one, some of it does: any sectors, and the
    /// changes of names up to some point.
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
            inode.allocated = inode.cached.len() as u64;
        }
        disk.names = disk.durable_names.clone();
        disk.locks.clear();
        disk.power = None;
    }

    /// Another disk with the same content, cached and durable; nobody holds a lock on it.
    pub(crate) fn clone_disk(&self) -> Self {
        let disk = self.disk();
        let copy = Disk {
            names: disk.names.clone(),
            durable_names: disk.durable_names.clone(),
            pending_names: disk.pending_names.clone(),
            inodes: disk.inodes.clone(),
            inode_next: disk.inode_next,
            capacity: disk.capacity,
            ..Disk::default()
        };
        Self { disk: Arc::new(Mutex::new(copy)) }
    }

    /// The process is killed: only its locks are gone.
    pub(crate) fn kill(&self) {
        let mut disk = self.disk();
        disk.locks.clear();
        disk.power = None;
    }

    /// Fails everything that changes something after `operations` more such operations.
    pub(crate) fn cut_power_after(&self, operations: u64) {
        self.disk().power = Some(operations);
    }

    pub(crate) fn set_hook(&self, hook: impl Fn(Op, &Path) -> Option<io::Error> + Send + Sync + 'static) {
        self.disk().hook = Some(Arc::new(hook));
    }

    pub(crate) fn clear_hook(&self) {
        self.disk().hook = None;
    }

    /// The size of the disk in bytes; `None` is no limit.
    pub(crate) fn set_capacity(&self, capacity: Option<u64>) {
        self.disk().capacity = capacity;
    }

    /// Other directories lie at all paths from now on, with the same files in them.
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

    /// The content of a file as the process sees it.
    pub(crate) fn content(&self, path: &Path) -> Vec<u8> {
        let disk = self.disk();
        disk.inodes[&disk.names[path]].cached.clone()
    }

    /// Puts a file on the medium.
    pub(crate) fn put(&self, path: &Path, content: Vec<u8>) {
        let mut disk = self.disk();
        let id = disk.new_inode();
        disk.inodes.insert(
            id,
            Inode {
                allocated: content.len() as u64,
                durable: content.clone(),
                cached: content,
                dirty: BTreeSet::new(),
            },
        );
        disk.names.insert(path.to_owned(), id);
        disk.durable_names.insert(path.to_owned(), id);
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the hook, and the power supply about a change.
    fn admit(&self, op: Op, path: &Path) -> io::Result<()> {
        let hook = self.disk().hook.clone();
        if let Some(error) = hook.and_then(|hook| hook(op, path)) {
            return Err(error);
        }
        let changes = !matches!(op, Op::Read | Op::Open | Op::Create | Op::Identity);
        match &mut self.disk().power {
            Some(0) => Err(io::Error::other("no power")),
            Some(left) if changes => {
                *left -= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Disk {
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
                disk.inodes.get_mut(&id).unwrap().resize(0);
                id
            }
            (Some(id), _) => id,
        };
        Ok(Box::new(MemFile { storage: self.clone(), path: path.to_owned(), id }))
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
        // One journal for all directories: what came before is durable as well.
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
