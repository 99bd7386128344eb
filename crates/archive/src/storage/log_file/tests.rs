use std::path::Path;

use super::*;
use crate::storage::mem::{MemStorage, Op};
use crate::storage::{Access, Storage as _};

const PATH: &str = "/archive/file";

fn open(storage: &MemStorage, access: Access, end: u64) -> LogFile {
    LogFile::direct(storage.open(Path::new(PATH), access).unwrap(), end).unwrap()
}

fn piece(at: u64, len: usize) -> Vec<u8> {
    (at..).take(len).map(|at| (at % 251) as u8 + 1).collect()
}

#[test]
fn pieces_appended_in_order_read_back_as_one() {
    for alignment in [4_096, 16_384] {
        let storage = MemStorage::direct(alignment);
        let mut log = open(&storage, Access::Create, 0);
        let mut end = 0;
        let lens = [1, 8, 4_095, 4_096, 4_097, 100_000, 64, 12_288, 16_384, 600_001, 3];
        for (round, len) in lens.into_iter().enumerate() {
            storage.set_short_writes(round % 2 == 1);
            if round == 5 {
                log.file().sync_data().unwrap();
                log = open(&storage, Access::ReadWrite, end);
            }
            log.append(&piece(end, len), end).unwrap();
            end += len as u64;
            let content = storage.content(Path::new(PATH));
            assert_eq!(content.len() as u64, end.next_multiple_of(alignment as u64));
            assert!(content[..end as usize] == piece(0, end as usize), "after {len} bytes");
            assert!(content[end as usize..].iter().all(|byte| *byte == 0), "after {len} bytes");
        }
    }
}

#[test]
fn a_large_block_at_a_page_is_written_from_where_it_lies() {
    let storage = MemStorage::direct(PAGE_BYTES);
    let mut log = open(&storage, Access::Create, 0);
    let mut block = AlignedBuffer::zeroed(8 * PAGE_BYTES, PAGE_BYTES);
    block.copy_from_slice(&piece(0, 8 * PAGE_BYTES));
    assert_eq!(log.padded_end(0, 8 * PAGE_BYTES as u64 - 100), Some(8 * PAGE_BYTES as u64));
    assert_eq!(log.padded_end(100, STRAIGHT_BYTES_MIN as u64 - 1), None);
    log.append(&block, 0).unwrap();
    assert!(log.direct.as_ref().unwrap().pages.iter().all(|byte| *byte == 0), "it was copied");
    assert!(log.direct.as_ref().unwrap().tail.bytes().is_empty());
    assert!(storage.content(Path::new(PATH)) == piece(0, 8 * PAGE_BYTES));
    // Behind a small block, a large block is copied.
    log.append(&[1; 64], block.len() as u64).unwrap();
    log.append(&block, block.len() as u64 + 64).unwrap();
    assert!(storage.content(Path::new(PATH))[block.len() + 64..][..block.len()] == block[..]);
}

/// The disk refuses space in the middle of a block. The bytes before the block stay, and the block can be written
/// again.
#[test]
fn a_block_that_failed_for_want_of_space_is_written_again_in_its_place() {
    let storage = MemStorage::direct(PAGE_BYTES);
    let mut log = open(&storage, Access::Create, 0);
    log.append(&piece(0, 5_000), 0).unwrap();
    storage.set_short_writes(true);
    storage.set_capacity(Some(300 << 10));
    let error = log.append(&piece(5_000, 600_000), 5_000).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(storage.content(Path::new(PATH)).starts_with(&piece(0, 5_000)));
    storage.set_capacity(None);
    log.append(&piece(5_000, 600_000), 5_000).unwrap();
    assert!(storage.content(Path::new(PATH)).starts_with(&piece(0, 605_000)));
}

#[test]
#[should_panic(expected = "the bytes in front of the end have not changed")]
fn acknowledged_bytes_that_changed_in_memory_are_not_written() {
    let storage = MemStorage::direct(PAGE_BYTES);
    let mut log = open(&storage, Access::Create, 0);
    log.append(&piece(0, 5_000), 0).unwrap();
    log.direct.as_mut().unwrap().tail.bytes[17] ^= 1;
    _ = log.append(&[1; 8], 5_000);
}

#[test]
#[should_panic(expected = "the log is written only at its end")]
fn the_log_is_written_only_at_its_end() {
    let storage = MemStorage::direct(PAGE_BYTES);
    let mut log = open(&storage, Access::Create, 0);
    log.append(&[1; 64], 0).unwrap();
    _ = log.append(&[1; 64], 0);
}

#[test]
fn a_file_system_may_refuse_at_the_first_access_and_not_later() {
    let refused = || io::Error::from(rustix::io::Errno::INVAL);
    let storage = MemStorage::direct(PAGE_BYTES);
    storage.set_hook(move |op, _| (op == Op::Write).then(refused));
    let file = storage.open(Path::new(PATH), Access::Create).unwrap();
    let error = LogFile::direct(file, 0).err().unwrap();
    assert!(crate::storage::is_not_direct(&error), "{error}");
    storage.clear_hook();
    let mut log = open(&storage, Access::Create, 0);
    log.append(&piece(0, 100), 0).unwrap();
    storage.set_hook(move |op, _| (op == Op::Read).then(refused));
    let file = storage.open(Path::new(PATH), Access::ReadWrite).unwrap();
    assert!(LogFile::direct(file, 100).is_err());
}

/// A file whose writes return short counts.
struct Short(Box<dyn StorageFile>, usize);

impl StorageFile for Short {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn is_linked(&self) -> io::Result<bool> {
        self.0.is_linked()
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(buffer, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        Ok(self.0.write_at(bytes, at)?.min(self.1))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        self.0.allocate(from, to)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

#[test]
fn a_write_that_ends_within_a_page_is_an_error() {
    let storage = MemStorage::direct(PAGE_BYTES);
    let file = storage.open(Path::new(PATH), Access::Create).unwrap();
    let error =
        write_whole(&Short(file, 1_000), &AlignedBuffer::zeroed(2 * PAGE_BYTES, PAGE_BYTES), 0, PAGE_BYTES)
            .unwrap_err();
    assert_eq!(error.to_string(), "a direct write ended behind 1000 bytes, which are not whole pages");
}
