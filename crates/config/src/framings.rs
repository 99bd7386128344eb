//! The tables `framing` and `decode` of links and outputs.

use serde::Deserialize;
use toml::de::DeTable;

use super::link_values::{bytes, hex, integer, to_hex};
use super::reader::{Entry, Reader};
use super::values::{Choice, choice, flag, quote};
use archive::PAYLOAD_BYTES_MAX;
use framing::{
    Cadu, Decode, Fecf, Format, Framing, Kiss, Length, Nctrs, ScidBits, datagram::DATAGRAM_BYTES_MAX, nctrs,
    packet::PACKET_BYTES_MAX,
};

/// The highest application process of a space packet.
pub(super) const APID_MAX: u16 = 0x7FF;

/// Limit of each length in these tables, in bytes: the longest frame that any configuration allows.
const UNIT_BYTES_MAX: u64 = PAYLOAD_BYTES_MAX as u64;

/// A table whose other keys depend on its key `kind`.
pub(super) trait Kind: Choice {
    /// The keys of this kind, `kind` included.
    fn keys(self) -> &'static [&'static str];
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum FramingKind {
    Packet,
    Cadu,
    Fixed,
    Length,
    Kiss,
    Datagram,
    Nctrs,
}

impl Choice for FramingKind {
    const NAMED: &'static [(&'static str, Self)] = &[
        ("packet", Self::Packet),
        ("cadu", Self::Cadu),
        ("fixed", Self::Fixed),
        ("length", Self::Length),
        ("kiss", Self::Kiss),
        ("datagram", Self::Datagram),
        ("nctrs", Self::Nctrs),
    ];
}

impl Kind for FramingKind {
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Packet | Self::Datagram | Self::Nctrs => &["kind", "max"],
            Self::Cadu => &["kind", "length", "asm", "derandomize", "strip", "sync_errors"],
            Self::Fixed => &["kind", "length"],
            Self::Length => &[
                "kind",
                "length_field_offset",
                "length_field_length",
                "length_adjustment",
                "num_skip",
                "big_endian",
                "max_frame_length",
                "strip",
            ],
            Self::Kiss => &["kind", "port", "max"],
        }
    }
}

/// All keys of a framing, as they were written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FramingTable {
    #[serde(deserialize_with = "bytes::<1, UNIT_BYTES_MAX, _>")]
    max: Option<usize>,
    #[serde(deserialize_with = "bytes::<1, UNIT_BYTES_MAX, _>")]
    length: Option<usize>,
    #[serde(deserialize_with = "hex::<32, _>")]
    asm: Option<Vec<u8>>,
    #[serde(deserialize_with = "flag")]
    derandomize: Option<bool>,
    #[serde(deserialize_with = "bytes::<0, UNIT_BYTES_MAX, _>")]
    strip: Option<usize>,
    #[serde(deserialize_with = "integer::<0, 127, _, _>")]
    sync_errors: Option<u32>,
    #[serde(deserialize_with = "bytes::<0, UNIT_BYTES_MAX, _>")]
    length_field_offset: Option<usize>,
    #[serde(deserialize_with = "integer::<1, 8, _, _>")]
    pub(super) length_field_length: Option<usize>,
    #[serde(deserialize_with = "integer::<{ -(UNIT_BYTES_MAX as i64) }, { UNIT_BYTES_MAX as i64 }, _, _>")]
    pub(super) length_adjustment: Option<isize>,
    #[serde(deserialize_with = "bytes::<0, UNIT_BYTES_MAX, _>")]
    num_skip: Option<usize>,
    #[serde(deserialize_with = "flag")]
    pub(super) big_endian: Option<bool>,
    #[serde(deserialize_with = "bytes::<1, UNIT_BYTES_MAX, _>")]
    max_frame_length: Option<usize>,
    #[serde(deserialize_with = "integer::<0, 15, _, _>")]
    port: Option<u8>,
}

impl FramingTable {
    /// The framing of this kind with the defaults.
    ///
    /// # Errors
    /// The key that is missing.
    fn framing(self, kind: FramingKind) -> Result<Framing, &'static str> {
        Ok(match kind {
            FramingKind::Packet => Framing::Packet { max: self.max.unwrap_or(PACKET_BYTES_MAX) },
            FramingKind::Cadu => {
                let default = Cadu::default();
                Framing::Cadu(Cadu {
                    length: self.length.ok_or("length")?,
                    asm: self.asm.unwrap_or(default.asm),
                    derandomize: self.derandomize.unwrap_or(default.derandomize),
                    strip: self.strip.unwrap_or(default.strip),
                    sync_errors: self.sync_errors.unwrap_or(default.sync_errors),
                })
            }
            FramingKind::Fixed => Framing::Fixed { length: self.length.ok_or("length")? },
            FramingKind::Length => {
                let default = Length::default();
                Framing::Length(Length {
                    length_field_offset: self.length_field_offset.unwrap_or(default.length_field_offset),
                    length_field_length: self.length_field_length.unwrap_or(default.length_field_length),
                    length_adjustment: self.length_adjustment.unwrap_or(default.length_adjustment),
                    num_skip: self.num_skip,
                    big_endian: self.big_endian.unwrap_or(default.big_endian),
                    max_frame_length: self.max_frame_length.unwrap_or(PACKET_BYTES_MAX),
                    strip: self.strip.unwrap_or(default.strip),
                })
            }
            FramingKind::Kiss => {
                Framing::Kiss(Kiss { port: self.port, max: self.max.unwrap_or(Kiss::default().max) })
            }
            FramingKind::Datagram => Framing::Datagram { max: self.max.unwrap_or(DATAGRAM_BYTES_MAX) },
            FramingKind::Nctrs => Framing::Nctrs(Nctrs { max: self.max.unwrap_or(Nctrs::default().max) }),
        })
    }
}

/// Takes the framing out of the `table` of a link. Reports its errors.
pub(super) fn take_framing(reader: &mut Reader<'_>, at: &Entry, table: &mut DeTable<'_>) -> Option<Framing> {
    let form = "{ kind = \"fixed\", length = 892 }";
    if !table.contains_key("framing") {
        reader.missing(at, "framing", &format!("a table such as {form}"));
    }
    let (entry, mut table) = reader.take_table(at, table, "framing", form)?;
    let (kind, values): (FramingKind, FramingTable) = reader.read_kind(&entry, &mut table)?;
    match values.framing(kind) {
        Ok(framing) => match framing.check() {
            Ok(()) => Some(framing),
            Err(why) => {
                reader.problem(&entry.span, &entry.key, why);
                None
            }
        },
        Err(name) => {
            reader.missing(&entry, name, "the bytes of a unit, marker and check symbols included");
            None
        }
    }
}

/// The framing as in the file.
pub(super) fn print_framing(framing: &Framing) -> String {
    let max = |max: &usize| ("max", max.to_string());
    let (kind, values) = match framing {
        Framing::Packet { max: bytes } => (FramingKind::Packet, vec![max(bytes)]),
        Framing::Cadu(cadu) => {
            let values = vec![
                ("length", cadu.length.to_string()),
                ("asm", quote(&to_hex(&cadu.asm))),
                ("derandomize", cadu.derandomize.to_string()),
                ("strip", cadu.strip.to_string()),
                ("sync_errors", cadu.sync_errors.to_string()),
            ];
            (FramingKind::Cadu, values)
        }
        Framing::Fixed { length } => (FramingKind::Fixed, vec![("length", length.to_string())]),
        Framing::Length(length) => {
            let skip = length.num_skip.map(|skip| ("num_skip", skip.to_string()));
            let mut values = vec![
                ("length_field_offset", length.length_field_offset.to_string()),
                ("length_field_length", length.length_field_length.to_string()),
                ("length_adjustment", length.length_adjustment.to_string()),
                ("big_endian", length.big_endian.to_string()),
                ("max_frame_length", length.max_frame_length.to_string()),
                ("strip", length.strip.to_string()),
            ];
            values.extend(skip);
            (FramingKind::Length, values)
        }
        Framing::Kiss(kiss) => {
            let port = kiss.port.map(|port| ("port", port.to_string()));
            (FramingKind::Kiss, port.into_iter().chain([max(&kiss.max)]).collect())
        }
        Framing::Datagram { max: bytes } => (FramingKind::Datagram, vec![max(bytes)]),
        Framing::Nctrs(nctrs) => (FramingKind::Nctrs, vec![max(&nctrs.max)]),
    };
    print_kind(kind, values)
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

#[derive(Clone, Copy, PartialEq)]
pub(super) enum DecodeKind {
    Tm,
    Aos,
    Uslp,
    Packet,
    None,
}

impl Choice for DecodeKind {
    const NAMED: &'static [(&'static str, Self)] = &[
        ("tm", Self::Tm),
        ("aos", Self::Aos),
        ("uslp", Self::Uslp),
        ("packet", Self::Packet),
        ("none", Self::None),
    ];
}

impl Kind for DecodeKind {
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Tm => &["kind", "fecf", "trailer"],
            Self::Aos => &["kind", "fecf", "scid_bits", "insert_zone", "trailer"],
            Self::Uslp => &["kind", "fecf", "insert_zone", "trailer"],
            Self::Packet | Self::None => &["kind"],
        }
    }
}

impl Choice for Fecf {
    const NAMED: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("crc16", Self::Crc16), ("crc32", Self::Crc32)];
}

/// All keys of a decoder, with their defaults.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DecodeTable {
    #[serde(deserialize_with = "choice::deserialize")]
    fecf: Fecf,
    #[serde(deserialize_with = "integer::<8, 10, _, _>")]
    scid_bits: Option<u8>,
    #[serde(deserialize_with = "bytes::<0, UNIT_BYTES_MAX, _>")]
    insert_zone: Option<usize>,
    #[serde(deserialize_with = "bytes::<0, UNIT_BYTES_MAX, _>")]
    trailer: Option<usize>,
}

/// Takes the decoder out of the `table` of a link or an output, if there is one. Reports its errors.
pub(super) fn take_decode(reader: &mut Reader<'_>, at: &Entry, table: &mut DeTable<'_>) -> Option<Decode> {
    let (entry, mut table) = reader.take_table(at, table, "decode", "{ kind = \"tm\", fecf = \"crc16\" }")?;
    let (kind, values): (DecodeKind, DecodeTable) = reader.read_kind(&entry, &mut table)?;
    let format = match (kind, values.scid_bits) {
        (DecodeKind::Tm, _) => Format::Tm,
        (DecodeKind::Aos, None | Some(8)) => Format::Aos(ScidBits::Eight),
        (DecodeKind::Aos, Some(10)) => Format::Aos(ScidBits::Ten),
        (DecodeKind::Aos, Some(bits)) => {
            let what = format!("found the integer {bits}, expected 8 or 10");
            reader.conflict(&entry, "scid_bits", what);
            return None;
        }
        (DecodeKind::Uslp, _) => Format::Uslp,
        (DecodeKind::Packet, _) => Format::Packet,
        (DecodeKind::None, _) => Format::None,
    };
    if values.fecf == Fecf::Crc32 && format != Format::Uslp {
        let what = "crc32 is the checksum of USLP frames alone; write \"crc16\", or \"none\" where Reed-Solomon is the check";
        reader.conflict(&entry, "fecf", what);
        return None;
    }
    Some(Decode {
        format,
        fecf: values.fecf,
        insert_zone: values.insert_zone.unwrap_or_default(),
        trailer: values.trailer.unwrap_or_default(),
    })
}

/// The decoder as in the file.
pub(super) fn print_decode(decode: &Decode) -> String {
    let (kind, bits) = match decode.format {
        Format::Tm => (DecodeKind::Tm, 0),
        Format::Aos(ScidBits::Eight) => (DecodeKind::Aos, 8),
        Format::Aos(ScidBits::Ten) => (DecodeKind::Aos, 10),
        Format::Uslp => (DecodeKind::Uslp, 0),
        Format::Packet => (DecodeKind::Packet, 0),
        Format::None => (DecodeKind::None, 0),
    };
    let values = [
        ("fecf", quote(choice::name(&decode.fecf))),
        ("scid_bits", bits.to_string()),
        ("insert_zone", decode.insert_zone.to_string()),
        ("trailer", decode.trailer.to_string()),
    ];
    print_kind(kind, values.into_iter().filter(|(key, _)| kind.keys().contains(key)).collect())
}

/// An inline table of `kind` with these values, each as TOML.
pub(super) fn print_kind<K: Kind>(kind: K, mut values: Vec<(&str, String)>) -> String {
    values.insert(0, ("kind", quote(choice::name(&kind))));
    inline_table(&values)
}

/// An inline table with these values, each as TOML.
pub(super) fn inline_table(values: &[(&str, String)]) -> String {
    let values: Vec<_> = values.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    format!("{{ {} }}", values.join(", "))
}
