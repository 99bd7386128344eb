//! Files of the fake: what is cached, what is on the medium, and what a sync does about it.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use super::{MemStorage, Op};
use crate::archive::storage::StorageFile;

const SECTOR: usize = 512;

/// A file's content, as the process sees it and as the medium has it.
#[derive(Clone, Default)]
pub(super) struct Inode {
    /// What the process sees: the page cache.
    pub(super) cached: Vec<u8>,
    /// What is on the medium.
    pub(super) durable: Vec<u8>,
    /// Sectors that the kernel knows to be newer in the cache.
    pub(super) dirty: BTreeSet<usize>,
    pub(super) allocated: u64,
}

impl Inode {
    pub(super) fn persist(&mut self, sector: usize) {
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(self.cached.len()).min(self.durable.len());
        if start < end {
            self.durable[start..end].copy_from_slice(&self.cached[start..end]);
        }
    }

    pub(super) fn resize(&mut self, len: usize) {
        let old = self.cached.len();
        resize(&mut self.cached, len);
        if len < old {
            self.allocated = len as u64;
        } else {
            self.dirty.extend(old / SECTOR..len.div_ceil(SECTOR));
        }
    }
}

/// As `Vec::resize` with zeros, which is slow without optimization.
pub(super) fn resize(content: &mut Vec<u8>, len: usize) {
    content.truncate(len);
    content.extend_from_slice(&vec![0; len - content.len()]);
}

/// An open file.
pub(super) struct MemFile {
    pub(super) storage: MemStorage,
    pub(super) path: PathBuf,
    pub(super) id: u64,
}

impl MemFile {
    fn with<T>(&self, act: impl FnOnce(&mut Inode) -> T) -> T {
        act(self.storage.disk().inodes.get_mut(&self.id).unwrap())
    }
}

impl StorageFile for MemFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.with(|inode| inode.cached.len() as u64))
    }

    fn is_linked(&self) -> io::Result<bool> {
        Ok(self.storage.disk().names.values().any(|id| *id == self.id))
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.storage.admit(Op::Read, &self.path)?;
        Ok(self.with(|inode| {
            let rest = inode.cached.get(at as usize..).unwrap_or(&[]);
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            count
        }))
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.storage.admit(Op::Write, &self.path)?;
        let mut disk = self.storage.disk();
        let count = if disk.short_writes { bytes.len().div_ceil(2) } else { bytes.len() };
        let (start, end) = (at as usize, at as usize + count);
        disk.allocate(self.id, end as u64)?;
        let inode = disk.inodes.get_mut(&self.id).unwrap();
        if inode.cached.len() < end {
            inode.resize(end);
        }
        inode.cached[start..end].copy_from_slice(&bytes[..count]);
        inode.dirty.extend(start / SECTOR..end.div_ceil(SECTOR));
        Ok(count)
    }

    fn sync_data(&self) -> io::Result<()> {
        let admitted = self.storage.admit(Op::Sync, &self.path);
        self.with(|inode| {
            let dirty = std::mem::take(&mut inode.dirty);
            // As the kernel does: after a failed sync the pages count as clean, and are not on the medium.
            admitted?;
            resize(&mut inode.durable, inode.cached.len());
            dirty.into_iter().for_each(|sector| inode.persist(sector));
            Ok(())
        })
    }

    fn allocate(&self, _from: u64, to: u64) -> io::Result<()> {
        self.storage.admit(Op::Allocate, &self.path)?;
        let mut disk = self.storage.disk();
        if disk.no_allocate {
            return Err(io::ErrorKind::Unsupported.into());
        }
        disk.allocate(self.id, to)?;
        let inode = disk.inodes.get_mut(&self.id).unwrap();
        if inode.cached.len() < to as usize {
            inode.resize(to as usize);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.storage.admit(Op::SetLen, &self.path)?;
        self.with(|inode| inode.resize(len as usize));
        Ok(())
    }
}
