//! Segments and indexes of an archive, as a reader meets them. Checksums count as right, so that the decoders behind
//! them see everything.
//!
//! The input is: the length of the first segment (u16), the base of the second one (u8), then the first segment and its
//! index.
#![no_main]

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;

use archive::{Access, Filter, Item, Reader, Storage, StorageFile};
use frame::{FramePriority, Selection};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let [low, high, next, bytes @ ..] = bytes else { return };
    let at = usize::from(u16::from_le_bytes([*low, *high])).min(bytes.len());
    let (segment, index) = bytes.split_at(at);
    let file = |name: String, content: &[u8]| (name, Arc::<[u8]>::from(content));
    let files = Arc::new(Files(vec![
        file(format!("{:020}.seg", 0), segment),
        file(format!("{:020}.idx", 0), index),
        file(format!("{next:020}.seg"), segment),
    ]));
    let emergencies = Selection::default().with_priority(Some(FramePriority::Emergency));
    for selection in [Selection::default(), emergencies] {
        read(&files, Filter { selection, ..Filter::default() });
    }
    read(&files, Filter { from_received_ns: Some(1), limit: Some(3), ..Filter::default() });
});

/// Reads what `filter` takes. Offsets must rise.
fn read(files: &Arc<Files>, filter: Filter) {
    let storage: Arc<dyn Storage> = Arc::clone(files) as _;
    let Ok(reader) = Reader::open_on(storage, Path::new("archive"), filter) else { return };
    let mut from = 0;
    for item in reader {
        match item {
            Ok(Item::Frame(stored)) => {
                assert!(stored.offset >= from, "offset {} behind {from}", stored.offset);
                from = stored.offset + 1;
            }
            Ok(Item::Damage(_) | Item::Expired(_)) => {}
            Err(_) => return,
        }
    }
}

/// Read-only files in memory.
struct Files(Vec<(String, Arc<[u8]>)>);

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::PermissionDenied.into())
}

impl Storage for Files {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }
    fn lock(&self, _: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        Ok(Box::new(()))
    }
    fn identity(&self, _: &Path) -> io::Result<(u64, u64)> {
        Ok((1, 1))
    }
    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(self.0.iter().map(|(name, _)| name.clone()).collect())
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn StorageFile>> {
        if access != Access::Read {
            return refused();
        }
        let found = self.0.iter().find(|(name, _)| path.ends_with(name));
        let (_, content) = found.ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(File(Arc::clone(content))))
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }
    fn unlink(&self, _: &Path) -> io::Result<()> {
        refused()
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }
    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(0)
    }
}

struct File(Arc<[u8]>);

impl StorageFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
    fn is_linked(&self) -> io::Result<bool> {
        Ok(true)
    }
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let rest = usize::try_from(at).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        refused()
    }
    fn sync_data(&self) -> io::Result<()> {
        refused()
    }
    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        refused()
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        refused()
    }
}
