//! A recording comes out as it went in, over each transport and in each framing.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};

use crate::software::{
    address_of, connect, connecting, deliver, expect_silence, feed_link, listening, packet, packets,
    read_exactly, read_packet, with_limit,
};
use crate::support::recording::Recording;
use crate::support::{Client, Daemon, EMERGENCY, Hello, LIMIT, ROUTINE};

/// A link that takes space packets.
const LINK: &str = "[[links]]\nname = \"modem\"\nlisten = \"127.0.0.1:0\"\nstation = \"KIRUNA\"\n\
                    framing = { kind = \"packet\", max = 8192 }\ndecode = { kind = \"packet\" }\nsource = 5\n";

#[test]
fn packets_of_a_recording_come_out_of_every_transport_as_they_went_in() {
    let recording = Recording::find("europa_clipper.ccsds", 1_030);
    let gateway = TcpListener::bind("127.0.0.1:0").unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    datagrams.set_read_timeout(Some(LIMIT)).unwrap();
    // A busy machine may not run the reader for a while. Without the right to a large buffer the rate must do.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&datagrams, 16 << 20);
    let lines = "start = \"earliest\"\nselect = { idle = true }";
    let config = [
        LINK.to_owned(),
        listening("yamcs", lines),
        connecting("gateway", gateway.local_addr().unwrap(), lines),
        format!(
            "[[outputs]]\nname = \"udp\"\nudp = \"{}\"\nrate = \"256 KiB\"\n{lines}\n",
            datagrams.local_addr().unwrap()
        ),
    ];
    let mut daemon = Daemon::start(&config.concat());
    let expected = packets(&recording.bytes);
    let by_datagram = std::thread::spawn({
        let count = expected.len();
        move || {
            let mut buffer = vec![0; 65_536];
            let mut next = || datagrams.recv(&mut buffer).map(|length| buffer[..length].to_vec()).unwrap();
            (0..count).map(|_| next()).collect::<Vec<_>>()
        }
    });
    feed_link(&daemon, &recording.bytes);
    let mut reader = connect(&daemon, "yamcs");
    let found: Vec<_> = expected.iter().map(|_| read_packet(&mut reader)).collect();
    assert!(found == expected, "packets over TCP, to a reader that connects");
    let mut accepted = with_limit(gateway.accept().unwrap().0);
    let found: Vec<_> = expected.iter().map(|_| read_packet(&mut accepted)).collect();
    assert!(found == expected, "packets over TCP, to a reader that listens");
    assert!(by_datagram.join().unwrap() == expected, "packets over UDP");
    daemon.stop();
    assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0, "a drain closes in order");
    assert_eq!(accepted.read(&mut [0; 1]).unwrap(), 0, "a drain closes in order");
}

#[test]
fn lengths_and_names_stand_before_the_packets() {
    let length = "framing = { kind = \"length\", length_field_length = 3, length_adjustment = -3, big_endian = false }";
    let cosmos = "framing = { kind = \"cosmos\" }\n\
                  cosmos = { sync = 0xCAFEBABE, target = \"SAT\", packets = { 100 = \"HS\" } }";
    let start = "start = \"earliest\"\n";
    let config = LINK.to_owned()
        + &listening("length", &format!("{start}{length}"))
        + &listening("cosmos", &format!("{start}{cosmos}\nselect = {{ sources = [5] }}"));
    let daemon = Daemon::start(&config);
    let expected = [packet(100, 0, b"one"), packet(101, 1, &[7; 300]), packet(100, 2, b"three")];
    feed_link(&daemon, &expected.concat());
    let mut by_length = connect(&daemon, "length");
    for packet in &expected {
        let head = read_exactly(&mut by_length, 3);
        let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
        assert_eq!(read_exactly(&mut by_length, length - 3), *packet);
    }
    let mut by_name = connect(&daemon, "cosmos");
    for (packet, name) in expected.iter().zip(["HS", "UNKNOWN", "HS"]) {
        assert_eq!(read_exactly(&mut by_name, 5), [0xCA, 0xFE, 0xBA, 0xBE, 0]);
        let seconds = u32::from_be_bytes(read_exactly(&mut by_name, 4).try_into().unwrap());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!(now - u64::from(seconds) < 60, "{seconds} is the time at which the packet came");
        assert!(u32::from_be_bytes(read_exactly(&mut by_name, 4).try_into().unwrap()) < 1_000_000);
        for expected in ["SAT", name] {
            let length = usize::from(read_exactly(&mut by_name, 1)[0]);
            assert_eq!(read_exactly(&mut by_name, length), expected.as_bytes());
        }
        let length = u32::from_be_bytes(read_exactly(&mut by_name, 4).try_into().unwrap());
        assert_eq!(read_exactly(&mut by_name, length as usize), *packet);
    }
}

#[test]
fn live_begins_with_the_next_frame_and_goes_on_for_a_reader_that_only_reads() {
    let daemon = Daemon::start(&listening("live", ""));
    deliver(&daemon, &Hello::new(1), [packet(1, 0, b"before")]);
    let mut reader = connect(&daemon, "live");
    // What a reader sends is no order, and a reader that sends nothing more may go on reading.
    reader.write_all(&[0x55; 100_000]).unwrap();
    reader.shutdown(Shutdown::Write).unwrap();
    expect_silence(&mut reader);
    let (mut uplink, _) = Client::open(daemon.address(), &Hello::new(2));
    for count in 0..100 {
        let lane = if count % 10 == 0 { EMERGENCY } else { ROUTINE };
        let sequence = if lane == EMERGENCY { count / 10 } else { count - count / 10 - 1 };
        uplink.deliver(lane, sequence, &packet(1, count as u16, b"behind"));
        assert_eq!(read_packet(&mut reader), packet(1, count as u16, b"behind"));
    }
}

#[test]
fn an_output_connects_until_the_reader_listens() {
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let daemon = Daemon::start(&connecting("gateway", address, "start = \"earliest\""));
    deliver(&daemon, &Hello::new(1), [packet(1, 0, b"one")]);
    let listener = TcpListener::bind(address).unwrap();
    for _ in 0..2 {
        // The output connects again when the reader has closed.
        let mut reader = with_limit(listener.accept().unwrap().0);
        assert_eq!(read_packet(&mut reader), packet(1, 0, b"one"));
    }
}

#[test]
fn a_reader_that_is_not_in_peers_or_finds_no_place_is_refused() {
    let lines = "start = \"earliest\"\nclients = 2\npeers = [\"127.0.0.1\"]";
    let daemon = Daemon::start(&listening("yamcs", lines));
    deliver(&daemon, &Hello::new(1), [packet(1, 0, b"one")]);
    let address = address_of(&daemon, "yamcs");
    let mut stranger = with_limit(crate::support::connect_from([127, 0, 0, 2], address));
    assert!(matches!(stranger.read(&mut [0; 1]), Ok(0) | Err(_)), "a stranger gets nothing");
    let mut readers: Vec<_> = (0..2).map(|_| connect(&daemon, "yamcs")).collect();
    let mut third = with_limit(TcpStream::connect(address).unwrap());
    assert!(matches!(third.read(&mut [0; 1]), Ok(0) | Err(_)), "there is no place");
    readers.iter_mut().for_each(|reader| assert_eq!(read_packet(reader), packet(1, 0, b"one")));
    // A reader that has closed its writing side may be gone. It gives way.
    readers[0].shutdown(Shutdown::Write).unwrap();
    loop {
        let mut next = with_limit(TcpStream::connect(address).unwrap());
        if next.read_exact(&mut [0; 6]).is_ok() {
            break;
        }
    }
    let mut rest = Vec::new();
    drop(readers[0].read_to_end(&mut rest));
    deliver(&daemon, &Hello::new(2), [packet(1, 1, b"two")]);
    assert_eq!(read_packet(&mut readers[1]), packet(1, 1, b"two"), "the other one stays");
}
