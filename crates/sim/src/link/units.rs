//! The units that simulated equipment sends: frames and packets in the formats of links.

use bytes::BytesMut;

use super::{LinkFormat, LinkPlan};
use crate::content::{happens, payload, priority};
use frame::{FramePriority, unix_now_ns};
use framing::{
    Cadu, Decode, Fecf, Format, FrameFields, Length, NctrsHeader, PacketHeader, Pointer, ScidBits, kiss,
    packet::HEADER_BYTES as PACKET_HEADER_BYTES,
};

/// Check symbols of a CADU: those of one code block of Reed-Solomon (255, 223).
const CHECK_BYTES: usize = 32;
/// The virtual channel of routine frames.
const ROUTINE_CHANNEL: u8 = 0;
/// The virtual channel of emergency frames.
const EMERGENCY_CHANNEL: u8 = 3;
/// In a packet, the first byte behind the header has this bit if the packet is an emergency.
const EMERGENCY_BIT: u8 = 0x80;
/// The application process of the packet in a frame.
const APID: u16 = 100;
/// Noise stands behind every unit with this number.
const NOISE_EVERY: u64 = 16;
/// Keeps the choice of lost frames independent of their content.
const LOSS_SALT: u64 = 0x1057_F4A3_E5C0_0029;
/// Keeps noise apart from content.
const NOISE_SALT: u64 = 0x0157_B17E_5000_0031;

impl LinkPlan {
    /// The transfer frames; `None` if the units are packets.
    pub(super) fn decode(&self) -> Option<Decode> {
        if self.format.is_packet() {
            return None;
        }
        let format = if self.aos { Format::Aos(ScidBits::Eight) } else { Format::Tm };
        Some(Decode { format, fecf: Fecf::Crc16, ..Decode::default() })
    }

    /// The least number of bytes of a unit.
    pub(super) fn unit_bytes_min(&self) -> usize {
        self.decode().map_or(0, |decode| decode.overhead()) + PACKET_HEADER_BYTES + 1
    }

    fn cadu(&self) -> Cadu {
        let default = Cadu::default();
        let length = default.asm.len() + self.unit_bytes + CHECK_BYTES;
        Cadu { length, strip: CHECK_BYTES, ..default }
    }

    /// The keys of a link of the daemon that reads these units.
    #[must_use]
    pub fn configuration(&self) -> String {
        let framing = match self.format {
            LinkFormat::Cadu => {
                let Cadu { length, strip, .. } = self.cadu();
                format!("kind = \"cadu\", length = {length}, strip = {strip}")
            }
            LinkFormat::Packet => "kind = \"packet\"".to_owned(),
            LinkFormat::Kiss => "kind = \"kiss\"".to_owned(),
            LinkFormat::Length => "kind = \"length\"".to_owned(),
            LinkFormat::Nctrs => "kind = \"nctrs\"".to_owned(),
            LinkFormat::UdpPacket | LinkFormat::UdpFrame => "kind = \"datagram\"".to_owned(),
        };
        let (decode, source, rule) = match (self.decode(), self.aos) {
            (None, _) => {
                let rule = format!(
                    "offset = {PACKET_HEADER_BYTES}, mask = {EMERGENCY_BIT}, value = {EMERGENCY_BIT}"
                );
                ("kind = \"packet\"", "apid", rule)
            }
            (Some(_), false) => {
                ("kind = \"tm\", fecf = \"crc16\"", "scid", format!("vcid = [{EMERGENCY_CHANNEL}]"))
            }
            (Some(_), true) => {
                ("kind = \"aos\", fecf = \"crc16\"", "scid", format!("vcid = [{EMERGENCY_CHANNEL}]"))
            }
        };
        format!(
            "framing = {{ {framing} }}\ndecode = {{ {decode} }}\nsource = \"{source}\"\nemergency = [{{ {rule} }}]"
        )
    }
}

/// Makes the units, one of each satellite at a time.
pub(super) struct Units<'a> {
    plan: &'a LinkPlan,
    decode: Option<Decode>,
    /// The next count of each satellite, per channel: routine, then emergency.
    counts: Vec<[u64; 2]>,
    /// Units that were not left out.
    made: u64,
    frame: Vec<u8>,
}

/// Units that are to be written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// Where each unit ends, in bytes.
    pub(super) ends: Vec<usize>,
    /// Bytes of noise.
    pub(super) noise: u64,
    /// Units that were left out.
    pub(super) left_out: u64,
}

impl<'a> Units<'a> {
    pub(super) fn new(plan: &'a LinkPlan) -> Self {
        let counts = vec![[0; 2]; plan.satellites as usize];
        Self { plan, decode: plan.decode(), counts, made: 0, frame: Vec::new() }
    }

    /// Appends the unit `sequence` of each satellite, unless it is left out.
    pub(super) fn put_round(&mut self, sequence: u64, batch: &mut Batch) {
        for satellite in 0..self.plan.satellites {
            self.put_unit(satellite, sequence, batch);
        }
    }

    fn put_unit(&mut self, satellite: u32, sequence: u64, batch: &mut Batch) {
        let &LinkPlan { seed, emergency_ratio, loss_ratio, noise_bytes, .. } = self.plan;
        let priority = priority(seed, satellite, sequence, emergency_ratio);
        let count = &mut self.counts[satellite as usize][usize::from(priority == FramePriority::Emergency)];
        let this = *count;
        *count += 1;
        if happens(seed ^ LOSS_SALT, satellite, sequence, loss_ratio) {
            batch.left_out += 1;
            return;
        }
        self.make_frame(satellite, sequence, priority, this);
        self.put_frame(satellite, priority, &mut batch.bytes);
        batch.ends.push(batch.bytes.len());
        self.made += 1;
        if noise_bytes > 0 && self.made.is_multiple_of(NOISE_EVERY) {
            let noise = payload(seed ^ NOISE_SALT, satellite, sequence, FramePriority::Routine, noise_bytes);
            batch.bytes.extend_from_slice(&noise);
            batch.noise += noise_bytes as u64;
        }
    }

    /// Makes the packet or the transfer frame. A frame holds one packet.
    fn make_frame(&mut self, satellite: u32, sequence: u64, priority: FramePriority, count: u64) {
        self.frame.clear();
        let overhead = self.decode.map_or(0, |decode| decode.overhead());
        let content_bytes = self.plan.unit_bytes - overhead - PACKET_HEADER_BYTES;
        let content = payload(self.plan.seed, satellite, sequence, priority, content_bytes);
        let mut content = BytesMut::from(content);
        content[0] &= !EMERGENCY_BIT;
        if priority == FramePriority::Emergency {
            content[0] |= EMERGENCY_BIT;
        }
        let Some(decode) = self.decode else {
            // All packets of a satellite have one count.
            let header =
                PacketHeader { apid: satellite as u16, count: sequence as u16, ..PacketHeader::default() };
            return header.encode(&content, &mut self.frame);
        };
        let mut packet = Vec::with_capacity(PACKET_HEADER_BYTES + content_bytes);
        let header = PacketHeader { apid: APID, count: count as u16, ..PacketHeader::default() };
        header.encode(&content, &mut packet);
        let fields = FrameFields {
            spacecraft: satellite,
            channel: channel_of(priority).into(),
            count,
            pointer: Pointer::At(0),
        };
        decode.encode(&fields, &packet, &mut self.frame);
    }

    /// Appends the frame in its framing.
    fn put_frame(&self, satellite: u32, priority: FramePriority, out: &mut Vec<u8>) {
        match self.plan.format {
            LinkFormat::Cadu => self.plan.cadu().encode(&self.frame, out),
            LinkFormat::Packet | LinkFormat::UdpPacket | LinkFormat::UdpFrame => {
                out.extend_from_slice(&self.frame);
            }
            LinkFormat::Kiss => {
                kiss::encode_time(u64::try_from(unix_now_ns() / 1_000_000).unwrap_or(0), out);
                kiss::encode(0, &self.frame, out);
            }
            LinkFormat::Length => {
                let mut unit = BytesMut::new();
                Length::default().encode(self.frame.clone().into(), &mut unit);
                out.extend_from_slice(&unit);
            }
            LinkFormat::Nctrs => {
                let header = NctrsHeader {
                    spacecraft: satellite as u16,
                    channel: channel_of(priority),
                    ert_ns: unix_now_ns(),
                    bad_quality: false,
                };
                header.encode(&self.frame, out);
            }
        }
    }
}

const fn channel_of(priority: FramePriority) -> u8 {
    match priority {
        FramePriority::Emergency => EMERGENCY_CHANNEL,
        FramePriority::Routine => ROUTINE_CHANNEL,
    }
}
