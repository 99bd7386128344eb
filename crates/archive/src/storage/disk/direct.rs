//! Which files of this host can be written past the page cache, and in what units.

use std::fs::File;
use std::io;

use rustix::fs::{AtFlags, StatxFlags, statx};

use crate::aligned::PAGE_BYTES;

/// Largest alignment of direct writes, in bytes. A file that needs more is written through the page cache.
const ALIGNMENT_MAX: usize = 1 << 20;

/// Network file systems and FUSE, by the magic number that `statfs` reports. A server decides what a direct write does
/// there, so they are written through the page cache.
const CACHED_FILE_SYSTEMS: [(u64, &str); 14] = [
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xfe53_4d42, "smb2"),
    (0xff53_4d42, "cifs"),
    (0x00c3_6400, "ceph"),
    (0x0102_1997, "9p"),
    (0x5346_414f, "afs"),
    (0x6b41_4653, "afs"),
    (0x0bd0_0bd0, "lustre"),
    (0x4750_4653, "gpfs"),
    (0x1983_0326, "beegfs"),
    (0x7375_7245, "coda"),
    (0x564c, "ncp"),
    (0x6573_5546, "fuse"),
];

/// The name of the file system with this magic number, if its files must be written through the page cache.
pub(super) fn cached_file_system(magic: u64) -> Option<&'static str> {
    // Some architectures report the magic number as a signed number of 32 bits.
    let magic = magic & 0xffff_ffff;
    CACHED_FILE_SYSTEMS.iter().find_map(|(known, name)| (*known == magic).then_some(*name))
}

/// The unit of direct writes to `file`: the larger of a page and what the file system reports.
pub(super) fn alignment(file: &File) -> io::Result<usize> {
    let Ok(found) = statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN) else {
        // The kernel is too old for this query. The first direct access shows whether it works.
        return Ok(PAGE_BYTES);
    };
    if found.stx_mask & StatxFlags::DIOALIGN.bits() == 0 {
        return Ok(PAGE_BYTES);
    }
    let (memory, offset) = (found.stx_dio_mem_align as usize, found.stx_dio_offset_align as usize);
    if memory == 0 || offset == 0 {
        let text = "the file system has no direct writes for this file";
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    let alignment = PAGE_BYTES.max(memory).max(offset);
    if !alignment.is_power_of_two() || alignment > ALIGNMENT_MAX {
        let text = format!("the file system aligns direct writes to {alignment} bytes");
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    Ok(alignment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_and_fuse_are_cached_and_disks_are_not() {
        let names = [0x6969, 0xff53_4d42, 0xffff_ffff_ff53_4d42, 0x6573_5546].map(cached_file_system);
        assert_eq!(names, [Some("nfs"), Some("cifs"), Some("cifs"), Some("fuse")]);
        // ext4, XFS, btrfs, tmpfs, overlayfs.
        let disks = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630];
        assert_eq!(disks.map(cached_file_system), [None; 5]);
    }

    #[test]
    fn the_alignment_is_a_page_at_least() {
        let alignment = alignment(&tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap()).unwrap();
        assert!(alignment >= PAGE_BYTES && alignment.is_power_of_two(), "{alignment}");
    }
}
