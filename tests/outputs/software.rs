//! The other side of an output: software that only reads bytes. Formats are read here by their standards, apart from the
//! code that is tested.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

use crate::support::crc16::crc16;
use crate::support::http::get_json;
use crate::support::{Client, Daemon, Hello, LIMIT, ROUTINE};

/// An output that listens: a table of `[[outputs]]` with these lines beside the name and the address.
pub fn listening(name: &str, lines: &str) -> String {
    format!("[[outputs]]\nname = {name:?}\nlisten = \"127.0.0.1:0\"\n{lines}\n")
}

/// An output that connects to `address`.
pub fn connecting(name: &str, address: SocketAddr, lines: &str) -> String {
    format!("[[outputs]]\nname = {name:?}\nconnect = \"{address}\"\n{lines}\n")
}

/// The address on which the output `name` listens.
pub fn address_of(daemon: &Daemon, name: &str) -> SocketAddr {
    address_in(&daemon.wait_line(&format!("output ready output={name:?}")))
}

/// Sends `bytes` into the link `modem`, as equipment does.
pub fn feed_link(daemon: &Daemon, bytes: &[u8]) {
    let address = address_in(&daemon.wait_line("link ready link=\"modem\""));
    TcpStream::connect_timeout(&address, LIMIT).expect("the link listens").write_all(bytes).unwrap();
}

/// What the API reports of the output `name`.
pub fn report(daemon: &Daemon, name: &str) -> serde_json::Value {
    let outputs = get_json(daemon.http(), "/api/v1/outputs");
    let outputs = outputs["outputs"].as_array().expect("a list of outputs");
    outputs.iter().find(|output| output["name"] == name).expect("the output").clone()
}

fn address_in(line: &str) -> SocketAddr {
    let field = line.split("address=").nth(1).expect("an address in the log");
    field.split_whitespace().next().unwrap().parse().unwrap()
}

/// Connects a reader to the output `name`, and waits until the output serves it.
pub fn connect(daemon: &Daemon, name: &str) -> TcpStream {
    let socket = TcpStream::connect_timeout(&address_of(daemon, name), LIMIT).expect("the output listens");
    daemon.wait_line(&format!("output connected output={name:?} peer={}", socket.local_addr().unwrap()));
    with_limit(socket)
}

/// `socket`, whose reads fail after [`LIMIT`].
pub fn with_limit(socket: TcpStream) -> TcpStream {
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

/// The next `count` bytes.
pub fn read_exactly(socket: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    socket.read_exact(&mut bytes).unwrap_or_else(|error| panic!("{count} bytes are due: {error}"));
    bytes
}

/// The next space packet, read as the CcsdsPacketInputStream of Yamcs does: 6 bytes of header, whose last two hold the
/// length of what follows, minus one.
pub fn read_packet(socket: &mut TcpStream) -> Vec<u8> {
    let mut packet = read_exactly(socket, 6);
    let length = 1 + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    packet.extend(read_exactly(socket, length));
    packet
}

/// Asserts that nothing comes for a moment.
pub fn expect_silence(socket: &mut TcpStream) {
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let read = socket.read(&mut [0; 1]);
    let is_silent = read.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(is_silent, "something has come: {read:?}");
    socket.set_read_timeout(Some(LIMIT)).unwrap();
}

/// A space packet of 133.0-B.
pub fn packet(apid: u16, count: u16, content: &[u8]) -> Vec<u8> {
    let mut packet = (0x0800 | apid).to_be_bytes().to_vec();
    packet.extend_from_slice(&(0xC000 | (count & 0x3FFF)).to_be_bytes());
    packet.extend_from_slice(&((content.len() - 1) as u16).to_be_bytes());
    packet.extend_from_slice(content);
    packet
}

/// The space packets in `bytes`.
pub fn packets(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    while !bytes.is_empty() {
        let length = 7 + usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
        let (packet, rest) = bytes.split_at(length);
        packets.push(packet.to_vec());
        bytes = rest;
    }
    packets
}

/// Bytes of packets in a frame.
const ZONE: usize = 100;

/// TM frames of one virtual channel that carry `packets` one behind the other, and the frames of each packet. The last
/// frame is filled with an idle packet.
pub fn frames(channel: u8, packets: &[Vec<u8>]) -> (Vec<Vec<u8>>, Vec<Range<usize>>) {
    let mut stream = packets.concat();
    let filled = (stream.len() + 7).next_multiple_of(ZONE);
    stream.extend(packet(0x7FF, 0, &vec![0; filled - stream.len() - 6]));
    let mut begins = vec![0];
    packets.iter().for_each(|packet| begins.push(begins.last().unwrap() + packet.len()));
    let frame = |(number, zone): (usize, &[u8])| {
        let first = begins.iter().find(|begin| **begin >= number * ZONE).map(|begin| begin - number * ZONE);
        let pointer = first.filter(|first| *first < ZONE).unwrap_or(0x7FF) as u16;
        let mut frame = (42_u16 << 4 | u16::from(channel) << 1).to_be_bytes().to_vec();
        frame.extend_from_slice(&[number as u8, number as u8]);
        frame.extend_from_slice(&(0x1800 | pointer).to_be_bytes());
        frame.extend_from_slice(zone);
        let crc = crc16(&frame);
        frame.extend_from_slice(&crc.to_be_bytes());
        frame
    };
    let ranges = begins.windows(2).map(|ends| ends[0] / ZONE..(ends[1] - 1) / ZONE + 1).collect();
    (stream.chunks(ZONE).enumerate().map(frame).collect(), ranges)
}

/// Sends `payloads` as routine frames of source `hello`. Returns when all are durable.
pub fn deliver(daemon: &Daemon, hello: &Hello, payloads: impl IntoIterator<Item = Vec<u8>>) {
    let (mut client, welcome) = Client::open(daemon.address(), hello);
    let _ = welcome;
    let mut sequence = client.ack(ROUTINE).durable_next;
    for payload in payloads {
        client.frame_within_credit(ROUTINE, sequence, &payload);
        sequence += 1;
    }
    client.wait_durable(ROUTINE, sequence);
    client.bye([0, sequence]);
}
