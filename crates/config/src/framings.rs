//! The tables `framing` and `decode` of links and outputs, for the types of the crate `framing`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::draft::Draft;
use super::tree::path;
use super::values::{Hex, bytes, integer, read};
use archive::PAYLOAD_BYTES_MAX;
use framing::{
    Cadu, Decode, Fecf, Format, Framing, Kiss, Length, Nctrs, ScidBits, datagram::DATAGRAM_BYTES_MAX, nctrs,
    packet::PACKET_BYTES_MAX,
};

/// Limit of each length in these tables, in bytes: the longest frame that any configuration allows.
const MAX: i64 = PAYLOAD_BYTES_MAX as i64;

const fn packet_bytes_max() -> usize {
    PACKET_BYTES_MAX
}

const fn datagram_bytes_max() -> usize {
    DATAGRAM_BYTES_MAX
}

/// The keys of [`Framing`].
#[derive(Deserialize, Serialize)]
#[serde(remote = "Framing", rename_all = "lowercase")]
pub(super) enum FramingTable {
    Packet {
        #[serde(default = "packet_bytes_max", deserialize_with = "bytes::<1, MAX, _, _>")]
        max: usize,
    },
    Cadu(#[serde(with = "CaduTable")] Cadu),
    Fixed {
        #[serde(deserialize_with = "bytes::<1, MAX, _, _>")]
        length: usize,
    },
    Length(#[serde(with = "LengthTable")] Length),
    Kiss(#[serde(with = "KissTable")] Kiss),
    Datagram {
        #[serde(default = "datagram_bytes_max", deserialize_with = "bytes::<1, MAX, _, _>")]
        max: usize,
    },
    Nctrs(#[serde(with = "NctrsTable")] Nctrs),
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "Cadu", default = "Cadu::default")]
struct CaduTable {
    #[serde(deserialize_with = "bytes::<1, MAX, _, _>")]
    length: usize,
    #[serde(with = "Hex::<32>")]
    asm: Vec<u8>,
    derandomize: bool,
    #[serde(deserialize_with = "bytes::<0, MAX, _, _>")]
    strip: usize,
    #[serde(deserialize_with = "integer::<0, 127, _, _>")]
    sync_errors: u32,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "Length", default = "Length::default")]
struct LengthTable {
    #[serde(deserialize_with = "bytes::<0, MAX, _, _>")]
    length_field_offset: usize,
    #[serde(deserialize_with = "integer::<1, 8, _, _>")]
    length_field_length: usize,
    #[serde(deserialize_with = "integer::<{ -MAX }, MAX, _, _>")]
    length_adjustment: isize,
    big_endian: bool,
    #[serde(default = "packet_bytes_max", deserialize_with = "bytes::<1, MAX, _, _>")]
    max_frame_length: usize,
    #[serde(deserialize_with = "bytes::<0, MAX, _, _>")]
    strip: usize,
    #[serde(deserialize_with = "bytes::<0, MAX, _, _>")]
    num_skip: Option<usize>,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "Kiss", default = "Kiss::default")]
struct KissTable {
    #[serde(deserialize_with = "integer::<0, 15, _, _>")]
    port: Option<u8>,
    #[serde(deserialize_with = "bytes::<1, MAX, _, _>")]
    max: usize,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "Nctrs", default = "Nctrs::default")]
struct NctrsTable {
    #[serde(deserialize_with = "bytes::<1, MAX, _, _>")]
    max: usize,
}

/// The keys of [`Decode`].
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum DecodeTable {
    Tm {
        #[serde(default, with = "FecfName")]
        fecf: Fecf,
        #[serde(default, deserialize_with = "bytes::<0, MAX, _, _>")]
        trailer: usize,
    },
    Aos {
        #[serde(default, with = "FecfName")]
        fecf: Fecf,
        #[serde(default, with = "scid_bits")]
        scid_bits: ScidBits,
        #[serde(default, deserialize_with = "bytes::<0, MAX, _, _>")]
        insert_zone: usize,
        #[serde(default, deserialize_with = "bytes::<0, MAX, _, _>")]
        trailer: usize,
    },
    Uslp {
        #[serde(default, with = "FecfName")]
        fecf: Fecf,
        #[serde(default, deserialize_with = "bytes::<0, MAX, _, _>")]
        insert_zone: usize,
        #[serde(default, deserialize_with = "bytes::<0, MAX, _, _>")]
        trailer: usize,
    },
    Packet,
    None,
}

/// The names of [`Fecf`].
#[derive(Deserialize, Serialize)]
#[serde(remote = "Fecf", rename_all = "lowercase")]
enum FecfName {
    None,
    Crc16,
    Crc32,
}

mod scid_bits {
    use super::*;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ScidBits, D::Error> {
        read(deserializer, "8 or 10", |found| match found.as_integer()? {
            8 => Some(ScidBits::Eight),
            10 => Some(ScidBits::Ten),
            _ => None,
        })
    }

    pub(super) fn serialize<S: Serializer>(bits: &ScidBits, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(if *bits == ScidBits::Ten { 10 } else { 8 })
    }
}

/// A decoder, or none.
pub(super) mod decode {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: From<Decode>>(d: D) -> Result<T, D::Error> {
        let (format, fecf, insert_zone, trailer) = match DecodeTable::deserialize(d)? {
            DecodeTable::Tm { fecf, trailer } => (Format::Tm, fecf, 0, trailer),
            DecodeTable::Aos { fecf, scid_bits, insert_zone, trailer } => {
                (Format::Aos(scid_bits), fecf, insert_zone, trailer)
            }
            DecodeTable::Uslp { fecf, insert_zone, trailer } => (Format::Uslp, fecf, insert_zone, trailer),
            DecodeTable::Packet => (Format::Packet, Fecf::None, 0, 0),
            DecodeTable::None => (Format::None, Fecf::None, 0, 0),
        };
        Ok(Decode { format, fecf, insert_zone, trailer }.into())
    }

    pub(crate) fn serialize<S: Serializer, T>(decode: &T, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Copy + Into<Option<Decode>>,
    {
        let table = (*decode).into().map(|Decode { format, fecf, insert_zone, trailer }| match format {
            Format::Tm => DecodeTable::Tm { fecf, trailer },
            Format::Aos(scid_bits) => DecodeTable::Aos { fecf, scid_bits, insert_zone, trailer },
            Format::Uslp => DecodeTable::Uslp { fecf, insert_zone, trailer },
            Format::Packet => DecodeTable::Packet,
            Format::None => DecodeTable::None,
        });
        table.serialize(serializer)
    }
}

/// Reports a framing that is impossible in the table `key`.
pub(super) fn check_framing(draft: &mut Draft<'_>, key: &str, framing: &Framing) {
    let key = path(key, "framing");
    if matches!(framing, Framing::Cadu(_)) && !draft.is_written(&key, "length") {
        let what = "is missing: expected the bytes of a unit, marker and check symbols included";
        draft.problem(&path(&key, "length"), what);
    } else if let Err(why) = framing.check() {
        draft.problem(&key, why);
    }
}

/// Reports a checksum that the format does not have, in the table `key`.
pub(super) fn check_decode(draft: &mut Draft<'_>, key: &str, decode: &Decode) {
    if decode.fecf == Fecf::Crc32 && decode.format != Format::Uslp {
        let what = "crc32 is the checksum of USLP frames alone; write \"crc16\", or \"none\" where Reed-Solomon is the check";
        draft.conflict_in_table(path(key, "decode.fecf"), what);
    }
}

/// The longest unit with its framing, in bytes.
pub(super) fn unit_bytes_max(framing: &Framing) -> usize {
    match framing {
        Framing::Cadu(cadu) => cadu.length,
        Framing::Length(length) => {
            length.length_field_offset + length.length_field_length + adjusted_bytes_max(length)
        }
        framing => payload_bytes_max(framing),
    }
}

/// The longest unit without its framing, in bytes.
pub(super) fn payload_bytes_max(framing: &Framing) -> usize {
    match framing {
        Framing::Cadu(cadu) => cadu.frame_length(),
        Framing::Packet { max } | Framing::Datagram { max } | Framing::Fixed { length: max } => *max,
        Framing::Length(length) => adjusted_bytes_max(length).saturating_sub(length.strip),
        Framing::Kiss(kiss) => kiss.max,
        Framing::Nctrs(nctrs) => nctrs.max - nctrs::HEADER_BYTES,
    }
}

fn adjusted_bytes_max(length: &Length) -> usize {
    length.max_frame_length.saturating_add_signed(length.length_adjustment)
}
