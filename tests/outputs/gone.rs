//! Readers whose hosts are gone without a word, and readers that only take their time.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::netns::{Namespace, enter};
use crate::software::{address_of, deliver, packet, read_packet, with_limit};
use crate::support::{Daemon, Hello, not_tested};

/// Until the kernel gives up a peer that does not answer, with the time that a busy machine needs.
const GONE_WITHIN: Duration = Duration::from_secs(80);
/// How long a reader without room is watched beyond the time in which one that is gone loses its place.
const BEYOND: Duration = Duration::from_secs(5);
/// Together the packets are larger than all buffers on the way to a reader.
const PACKETS: u16 = 2_000;
const CONTENT_BYTES: usize = 8_000;

fn output(name: &str, lines: &str) -> String {
    let peers = r#"peers = ["127.0.0.0/8", "198.18.0.0/15"]"#;
    format!("[[outputs]]\nname = \"{name}\"\nlisten = \"0.0.0.0:0\"\n{peers}\n{lines}\n")
}

/// A reader of the output `name` in the namespace, which the output serves.
fn far_reader(daemon: &Daemon, name: &str, namespace: &Namespace) -> TcpStream {
    let address = (Ipv4Addr::from(namespace.host()), address_of(daemon, name).port());
    let path = namespace.path();
    let connect = move || {
        enter(&path);
        TcpStream::connect(address).unwrap()
    };
    served(daemon, name, std::thread::spawn(connect).join().unwrap())
}

/// A reader of the output `name` on this host. The output may refuse it.
fn near_reader(daemon: &Daemon, name: &str) -> TcpStream {
    let address = SocketAddr::from(([127, 0, 0, 1], address_of(daemon, name).port()));
    with_limit(TcpStream::connect(address).unwrap())
}

fn served(daemon: &Daemon, name: &str, socket: TcpStream) -> TcpStream {
    let peer = socket.local_addr().unwrap();
    daemon.wait_line(&format!("output connected output=\"{name}\" peer={peer}"));
    socket
}

fn numbered(number: u16) -> Vec<u8> {
    packet(1, number, &[number as u8; CONTENT_BYTES])
}

#[test]
fn a_reader_that_is_gone_loses_its_place_and_one_that_takes_its_time_keeps_it() {
    let namespace = match Namespace::new() {
        Ok(namespace) => namespace,
        Err(error) => {
            not_tested(format_args!("readers whose hosts are gone: {error}"));
            return;
        }
    };
    let config = [
        output("many", "clients = 2"),
        output("one", "clients = 1"),
        output("idle", "clients = 2\nselect = { sources = [99] }"),
    ];
    let daemon = Daemon::start(&config.concat());

    let mut patient = near_reader(&daemon, "many");
    SockRef::from(&patient).set_recv_buffer_size(64 << 10).unwrap();
    patient = served(&daemon, "many", patient);
    deliver(&daemon, &Hello::new(7), (0..PACKETS).map(numbered));
    let gone = ["many", "one", "idle"].map(|name| (name, far_reader(&daemon, name, &namespace)));
    namespace.set_link(false);
    let since = Instant::now();
    // These bytes are on their way to the readers that are gone.
    deliver(&daemon, &Hello::new(7).epoch(2), [numbered(PACKETS)]);

    // The newest reader wins where there is one place. The limit refuses it where there are more.
    let mut newer = served(&daemon, "one", near_reader(&daemon, "one"));
    deliver(&daemon, &Hello::new(7).epoch(3), [numbered(PACKETS + 1)]);
    assert_eq!(read_packet(&mut newer), numbered(PACKETS + 1));
    assert_eq!(near_reader(&daemon, "many").read(&mut [0; 1]).unwrap(), 0, "all places are taken");

    for (name, reader) in &gone {
        let peer = reader.local_addr().unwrap();
        let left = GONE_WITHIN.saturating_sub(since.elapsed());
        daemon.wait_line_within(&format!("output disconnected output=\"{name}\" peer={peer}"), left);
    }
    drop(served(&daemon, "many", near_reader(&daemon, "many")));
    // Nothing announces that a connection goes on.
    std::thread::sleep(BEYOND);
    for number in 0..PACKETS + 2 {
        assert_eq!(read_packet(&mut patient), numbered(number));
    }
}
