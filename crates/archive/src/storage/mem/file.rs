//! Files of the fake storage: the cached content, the content of the medium, and the effect of a sync.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;

use super::{MemStorage, Op, whole};
use crate::storage::StorageFile;

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
    /// Bytes that the file takes of the capacity.
    pub(super) allocated: u64,
    /// How the file is written; `None` before the first write.
    pub(super) written: Option<Written>,
}

/// How a file is written. It must always be written in the same way, or the page cache and the disk might differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Through the page cache.
    Cached,
    /// Past the page cache.
    Direct,
}

impl Inode {
    pub(super) fn persist(&mut self, sector: usize) {
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(self.cached.len()).min(self.durable.len());
        if start < end {
            self.durable[start..end].copy_from_slice(&self.cached[start..end]);
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8], at: usize) {
        let end = at + bytes.len();
        if self.cached.len() < end {
            self.resize(end);
        }
        self.cached[at..end].copy_from_slice(bytes);
        self.dirty.extend(at / SECTOR..end.div_ceil(SECTOR));
    }

    /// The bytes that a direct read returns. The cache drops sectors that are not dirty, whether or not the medium has
    /// them.
    fn on_medium(&self, at: usize, len: usize) -> Vec<u8> {
        let end = self.cached.len().min(at + len);
        let byte = |at: usize| {
            let is_dirty = self.dirty.contains(&(at / SECTOR));
            if is_dirty { self.cached[at] } else { self.durable.get(at).copied().unwrap_or(0) }
        };
        (at..end).map(byte).collect()
    }

    pub(super) fn resize(&mut self, len: usize) {
        let old = self.cached.len();
        resize(&mut self.cached, len);
        if len > old {
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
    /// The file system.
    pub(super) storage: MemStorage,
    /// The path by which the file was opened, for the hook.
    pub(super) path: PathBuf,
    /// Number of the inode.
    pub(super) id: u64,
    /// The alignment, if the file bypasses the cache.
    pub(super) direct: OnceLock<usize>,
}

impl MemFile {
    /// Refuses an access that is not aligned, as a disk does.
    fn check(&self, memory: &[u8], at: u64) -> io::Result<()> {
        let is_aligned = |alignment: &usize| {
            at.is_multiple_of(*alignment as u64)
                && memory.len().is_multiple_of(*alignment)
                && memory.as_ptr().align_offset(*alignment) == 0
        };
        self.direct.get().is_none_or(is_aligned).then_some(()).ok_or(io::ErrorKind::InvalidInput.into())
    }

    /// The part of `bytes` that one write writes.
    fn part<'a>(&self, bytes: &'a [u8], short_writes: bool) -> &'a [u8] {
        if !short_writes {
            return bytes;
        }
        let half = bytes.len().div_ceil(2);
        &bytes[..self.direct.get().map_or(half, |alignment| half.next_multiple_of(*alignment))]
    }

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
        self.check(buffer, at)?;
        self.storage.admit(Op::Read, &self.path)?;
        Ok(self.with(|inode| {
            let on_medium;
            let rest = if self.direct.get().is_some() {
                on_medium = inode.on_medium(at as usize, buffer.len());
                &on_medium
            } else {
                inode.cached.get(at as usize..).unwrap_or(&[])
            };
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            count
        }))
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.check(bytes, at)?;
        let admitted = self.storage.admit_write(&self.path)?;
        let mut disk = self.storage.disk();
        let bytes = self.part(bytes, disk.short_writes);
        disk.allocate(self.id, at + bytes.len() as u64)?;
        let inode = disk.inodes.get_mut(&self.id).unwrap();
        let way = if self.direct.get().is_some() { Written::Direct } else { Written::Cached };
        assert_eq!(*inode.written.get_or_insert(way), way, "{} is written in two ways", self.path.display());
        inode.write(bytes, at as usize);
        admitted.map(|()| bytes.len())
    }

    fn direct_alignment(&self) -> io::Result<usize> {
        self.storage.disk().direct.ok_or(io::ErrorKind::Unsupported.into())
    }

    fn bypass_cache(&self) -> io::Result<()> {
        let alignment = self.direct_alignment()?;
        self.direct.get_or_init(|| alignment);
        Ok(())
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
        let mut disk = self.storage.disk();
        let direct = disk.direct;
        let inode = disk.inodes.get_mut(&self.id).unwrap();
        let is_cut = (len as usize) < inode.cached.len();
        inode.resize(len as usize);
        if is_cut {
            inode.allocated = whole(len, direct);
        }
        Ok(())
    }
}
