//! The other side of a link: equipment that only sends bytes. Formats are written here from the standards, apart from
//! the code that they test.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};

use crate::support::crc16::crc16;
use crate::support::http::get_json;
use crate::support::{Archived, Daemon, LIMIT, Subscribe, Subscriber, wait_until};

/// Numbers that look random and are the same in each run.
pub struct Numbers(u64);

impl Numbers {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }
}

/// A link of the daemon that listens: a table of `[[links]]` with these lines beside the name and the address.
pub fn listening(name: &str, lines: &str) -> String {
    format!("[[links]]\nname = {name:?}\nlisten = \"127.0.0.1:0\"\n{lines}\n")
}

/// A link of the daemon that receives datagrams.
pub fn receiving(name: &str, lines: &str) -> String {
    format!("[[links]]\nname = {name:?}\nudp = \"127.0.0.1:0\"\n{lines}\n")
}

/// The address on which the link `name` listens.
pub fn address_of(daemon: &Daemon, name: &str) -> SocketAddr {
    let line = daemon.wait_line(&format!("link ready link={name:?}"));
    let field = line.split("address=").nth(1).expect("an address in the log");
    field.split_whitespace().next().unwrap().parse().unwrap()
}

/// Connects equipment to the link `name`.
pub fn connect(daemon: &Daemon, name: &str) -> TcpStream {
    let socket = TcpStream::connect_timeout(&address_of(daemon, name), LIMIT).expect("the link listens");
    socket.set_nodelay(true).unwrap();
    socket
}

/// Sends `bytes` in random chunks.
pub fn send_in_chunks(socket: &mut TcpStream, bytes: &[u8], numbers: &mut Numbers) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at((1 + numbers.below(3_000)).min(rest.len()));
        socket.write_all(chunk).expect("the link takes the bytes");
        rest = behind;
    }
}

/// A socket that sends datagrams to the link `name`.
pub fn sender(daemon: &Daemon, name: &str) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address_of(daemon, name)).unwrap();
    socket
}

/// A subscriber that gets every durable frame from the first on.
pub fn subscribe(daemon: &Daemon) -> Subscriber {
    Subscriber::open(daemon.feed(), &Subscribe::earliest()).0
}

/// The next `count` durable frames.
pub fn expect(daemon: &Daemon, count: usize) -> Vec<Archived> {
    subscribe(daemon).expect_frames(count)
}

/// What the API reports of the link `name`.
pub fn report(daemon: &Daemon, name: &str) -> serde_json::Value {
    report_at(daemon.http(), name)
}

/// Like [`report`], of the daemon whose API is at `http`.
pub fn report_at(http: SocketAddr, name: &str) -> serde_json::Value {
    let links = get_json(http, "/api/v1/links");
    let links = links["links"].as_array().expect("a list of links");
    links.iter().find(|link| link["name"] == name).expect("the link").clone()
}

/// Waits until the API reports of the link `name` what `is_met` wants, and no unit of it is on its way.
pub fn wait_for(
    daemon: &Daemon,
    name: &str,
    what: &str,
    is_met: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    let http = daemon.http();
    wait_until(what, || {
        let link = report_at(http, name);
        if is_met(&link) && is_balanced(&link) { Ok(link) } else { Err(format!("{link:#}")) }
    })
}

/// Whether every unit of the link has become a frame, or was dropped for one reason.
fn is_balanced(link: &serde_json::Value) -> bool {
    let count = |name: &str| link["counts"][name].as_u64().unwrap_or_else(|| panic!("{name} in {link:#}"));
    let dropped = ["idle_dropped", "bad_dropped", "full_dropped", "refused"];
    count("units") == count("kept") + dropped.iter().map(|name| count(name)).sum::<u64>()
}

/// The pseudo-random sequence of 131.0-B, bit by bit: x^8 + x^7 + x^5 + x^3 + 1, which begins with all ones.
pub fn randomize(block: &mut [u8]) {
    let mut register = 0xFF_u8;
    for byte in block {
        for bit in (0..8).rev() {
            *byte ^= (register & 1) << bit;
            let next = register ^ register >> 3 ^ register >> 5 ^ register >> 7;
            register = register >> 1 | next << 7;
        }
    }
}

/// A TM transfer frame of 132.0-B with a checksum, `length` bytes in all.
pub fn tm_frame(spacecraft: u16, channel: u8, count: u8, length: usize, content: u8) -> Vec<u8> {
    let id = spacecraft << 4 | u16::from(channel) << 1;
    let mut frame = id.to_be_bytes().to_vec();
    frame.extend_from_slice(&[count, count, 0x18, 0x00]);
    frame.resize(length - 2, content);
    let crc = crc16(&frame);
    frame.extend_from_slice(&crc.to_be_bytes());
    frame
}

/// A CADU around `frame`, with check symbols that nobody checks.
pub fn cadu(frame: &[u8], check_symbols: usize) -> Vec<u8> {
    let mut block = frame.to_vec();
    block.resize(frame.len() + check_symbols, 0x5A);
    randomize(&mut block);
    [&[0x1A, 0xCF, 0xFC, 0x1D][..], &block].concat()
}

/// A data unit of an NCTRS with `frame`, received at 1970-01-02 00:00:01.000500.
pub fn nctrs_unit(quality: u8, frame: &[u8]) -> Vec<u8> {
    let mut unit = (20 + frame.len() as u32).to_be_bytes().to_vec();
    unit.extend_from_slice(&123_u16.to_be_bytes());
    unit.extend_from_slice(&[0, 2, 0, 7]);
    // 4,384 days after 1958, 1,000 ms, 500 us.
    unit.extend_from_slice(&4_384_u16.to_be_bytes());
    unit.extend_from_slice(&1_000_u32.to_be_bytes());
    unit.extend_from_slice(&500_u16.to_be_bytes());
    unit.extend_from_slice(&[0, quality]);
    [&unit, frame].concat()
}

/// A space packet of 133.0-B.
pub fn packet(apid: u16, count: u16, content: &[u8]) -> Vec<u8> {
    let mut packet = (0x0800 | apid).to_be_bytes().to_vec();
    packet.extend_from_slice(&(0xC000 | (count & 0x3FFF)).to_be_bytes());
    packet.extend_from_slice(&(content.len() as u16 - 1).to_be_bytes());
    packet.extend_from_slice(content);
    packet
}

/// The space packets in `bytes`.
pub fn packets(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut packets = Vec::new();
    while !bytes.is_empty() {
        let length = 7 + usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
        let (packet, rest) = bytes.split_at(length);
        packets.push(packet);
        bytes = rest;
    }
    packets
}
