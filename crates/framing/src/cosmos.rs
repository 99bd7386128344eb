//! The PREIDENTIFIED protocol of OpenC3 COSMOS, mode 4: each packet with its time and its names.
//!
//! All fields are big-endian: sync pattern (u32), flags (u8), with the flag 0x40 a length (u32) and JSON, unix seconds
//! (u32), microseconds (u32), length and name of the target (u8), length and name of the packet (u8), length of the
//! data (u32), data.

const FLAG_STORED: u8 = 0x80;
const FLAG_EXTRA: u8 = 0x40;

/// What COSMOS learns about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preidentified<'a> {
    /// Stands before every packet.
    pub sync: u32,
    /// The packet is not live and leaves the current values alone.
    pub is_stored: bool,
    /// More about the packet, an object in JSON.
    pub extra: Option<&'a str>,
    /// When the packet was received, unix nanoseconds.
    pub time_ns: i64,
    /// Name of the target, 255 bytes at most.
    pub target: &'a str,
    /// Name of the packet, 255 bytes at most.
    pub packet: &'a str,
}

impl Preidentified<'_> {
    /// Appends the header and `data`. A time before 1970 or after 2106 is sent as the nearest second.
    ///
    /// # Panics
    /// If a name is longer than 255 bytes, or `data` has 4 GiB or more.
    pub fn encode(&self, data: &[u8], out: &mut Vec<u8>) {
        let seconds = self.time_ns.div_euclid(1_000_000_000).clamp(0, u32::MAX.into()) as u32;
        let microseconds = (self.time_ns.rem_euclid(1_000_000_000) / 1_000) as u32;
        let stored = if self.is_stored { FLAG_STORED } else { 0 };
        out.extend_from_slice(&self.sync.to_be_bytes());
        out.push(stored | if self.extra.is_some() { FLAG_EXTRA } else { 0 });
        if let Some(extra) = self.extra {
            put_long(extra.as_bytes(), out);
        }
        out.extend_from_slice(&seconds.to_be_bytes());
        out.extend_from_slice(&microseconds.to_be_bytes());
        put_name(self.target, out);
        put_name(self.packet, out);
        put_long(data, out);
    }
}

fn put_name(name: &str, out: &mut Vec<u8>) {
    out.push(u8::try_from(name.len()).expect("a name of 255 bytes at most"));
    out.extend_from_slice(name.as_bytes());
}

fn put_long(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(bytes.len()).expect("data below 4 GiB").to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_that_cosmos_reads() {
        let live = Preidentified {
            sync: 0xCAFE_BABE,
            is_stored: false,
            extra: None,
            time_ns: 1_709_210_096_789_012_345,
            target: "SAT",
            packet: "HS",
        };
        let mut out = Vec::new();
        live.encode(b"data", &mut out);
        let tail = b"\x65\xE0\x79\xF0\x00\x0C\x0A\x14\x03SAT\x02HS\x00\x00\x00\x04data";
        assert_eq!(out, [&b"\xCA\xFE\xBA\xBE\x00"[..], tail].concat());
        out.clear();
        Preidentified { is_stored: true, extra: Some("{\"a\":1}"), ..live }.encode(b"data", &mut out);
        assert_eq!(out, [&b"\xCA\xFE\xBA\xBE\xC0\x00\x00\x00\x07{\"a\":1}"[..], tail].concat());
    }
}
