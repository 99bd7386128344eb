//! CCSDS space packets as payloads: a file of packets back to back, cut into one slice each.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use framing::packet::{self, HEADER_BYTES};

/// Why a file is not a sequence of space packets.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The options of TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::ArgsError),
    /// There is nothing to send.
    #[error("{} holds no packet", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// No space packet starts here.
    #[error("{} at offset {offset}: packet version {found}, expected 0", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Where the packet should start.
        offset: usize,
        /// The version read there.
        found: u8,
    },
    /// The file ends within a packet.
    #[error("{} at offset {offset}: packet needs {expected} bytes, the file has {found} left", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Where the packet starts.
        offset: usize,
        /// The length that its header gives; 6 when the header itself is cut.
        expected: usize,
        /// The bytes that are left in the file.
        found: usize,
    },
}

/// Reads a whole file of packets, headers included, in their order.
///
/// # Errors
/// [`InputError`] with the file, and for bad bytes the offset.
pub fn read_packets(path: &Path) -> Result<Vec<Bytes>, InputError> {
    let whole = fs::read(path).map_err(|source| InputError::Read { path: path.to_owned(), source })?;
    split_packets(path, &Bytes::from(whole))
}

/// Cuts `whole` into packets. `path` is for errors only.
fn split_packets(path: &Path, whole: &Bytes) -> Result<Vec<Bytes>, InputError> {
    let mut packets = Vec::new();
    let mut offset = 0;
    while offset < whole.len() {
        let length = packet_length(path, offset, &whole[offset..])?;
        packets.push(whole.slice(offset..offset + length));
        offset += length;
    }
    if packets.is_empty() {
        return Err(InputError::Empty { path: path.to_owned() });
    }
    Ok(packets)
}

/// Length of the packet that begins `rest`, which holds all of the packet.
fn packet_length(path: &Path, offset: usize, rest: &[u8]) -> Result<usize, InputError> {
    let truncated =
        |expected| InputError::Truncated { path: path.to_owned(), offset, expected, found: rest.len() };
    let Some(header) = rest.first_chunk::<HEADER_BYTES>() else {
        return Err(truncated(HEADER_BYTES));
    };
    let version = |found| InputError::Version { path: path.to_owned(), offset, found };
    let length = packet::length(header).map_err(version)?;
    if length > rest.len() {
        return Err(truncated(length));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(bytes: &[u8]) -> Result<Vec<Bytes>, InputError> {
        split_packets(Path::new("dir/pass.ccsds"), &Bytes::copy_from_slice(bytes))
    }

    fn packet(apid: u16, data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(data.len() - 1).unwrap();
        [&(apid & 0x1FFF).to_be_bytes()[..], &[0xC0, 0], &length.to_be_bytes(), data].concat()
    }

    proptest! {
        #[test]
        fn split_packets_equal_the_joined_ones(
            datas in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 1..80)), 1..20),
        ) {
            let packets: Vec<_> = datas.iter().map(|(apid, data)| packet(*apid, data)).collect();
            prop_assert_eq!(split(&packets.concat()).unwrap(), packets);
        }

        #[test]
        fn a_cut_file_names_the_packet_it_was_cut_in(
            datas in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..6), cut in any::<prop::sample::Index>(),
        ) {
            let packets: Vec<_> = datas.iter().map(|data| packet(1, data)).collect();
            let whole = packets.concat();
            let cut = cut.index(whole.len());
            let mut start = 0;
            for packet in &packets {
                if start + packet.len() > cut {
                    break;
                }
                start += packet.len();
            }
            match split(&whole[..cut]) {
                Ok(found) => prop_assert_eq!(found.concat().len(), cut),
                Err(InputError::Empty { .. }) => prop_assert_eq!(cut, 0),
                Err(InputError::Truncated { offset, expected, found, .. }) => {
                    prop_assert_eq!(offset, start);
                    prop_assert_eq!(found, cut - start);
                    prop_assert!(expected > found);
                }
                Err(other) => prop_assert!(false, "{other}"),
            }
        }

        #[test]
        fn any_bytes_are_split_completely_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(packets) = split(&bytes) {
                prop_assert_eq!(packets.concat(), bytes);
            }
        }
    }

    #[test]
    fn errors_name_file_and_offset() {
        let good = packet(5, b"abc");
        let bad_version = [&good[..], &[0x20, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(
            split(&bad_version).unwrap_err().to_string(),
            "dir/pass.ccsds at offset 9: packet version 1, expected 0"
        );
        assert_eq!(
            split(&[&good[..], &[0; 3]].concat()).unwrap_err().to_string(),
            "dir/pass.ccsds at offset 9: packet needs 6 bytes, the file has 3 left"
        );
        assert_eq!(split(&[]).unwrap_err().to_string(), "dir/pass.ccsds holds no packet");
        let missing = read_packets(Path::new("/nonexistent/pass.ccsds")).unwrap_err();
        assert!(missing.to_string().starts_with("cannot read /nonexistent/pass.ccsds: "));
    }

    #[test]
    fn real_recordings_are_read_completely() {
        let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".to_owned());
        for (name, count) in [("europa_clipper.ccsds", 1030), ("ssat_hs_apid130.ccsds", 14_351)] {
            let path = Path::new(&root).join("../../../shared/data").join(name);
            if !path.exists() {
                println!("not tested: {} is missing", path.display());
                continue;
            }
            let packets = read_packets(&path).unwrap();
            assert_eq!(packets.len(), count, "{name}");
            assert_eq!(packets.concat(), fs::read(&path).unwrap());
        }
    }
}
