//! The files of `deploy/examples/yamcs`, run as they stand but for the ports.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::SystemTime;

use tempfile::TempDir;

use crate::server::{Jars, Yamcs, assert_same, copy, example};
use crate::software::{packet, packets};
use crate::support::daemon::Launch;
use crate::support::recording::{Recording, snpp_cadus};
use crate::support::{Daemon, LIMIT, Port, Signal, Subscribe, Subscriber, wait_until};

/// Where the daemon and Yamcs listen.
const TCP_PORTS: [&str; 5] = ["7490", "7491", "8090", "10011", "10012"];
const UDP_PORT: &str = "10017";
/// The sources of the two links.
const CLIPPER: u32 = 159;

/// A copy of the example with ports that are free.
struct Scene {
    jars: Jars,
    directory: TempDir,
    ports: BTreeMap<&'static str, String>,
    _held: Vec<Port>,
}

impl Scene {
    fn new(jars: Jars) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let held: Vec<_> = TCP_PORTS.iter().map(|_| Port::hold()).collect();
        let numbers = held.iter().map(|port| port.address().port().to_string());
        let mut ports: BTreeMap<_, _> = TCP_PORTS.into_iter().zip(numbers).collect();
        // A socket that holds the port would get the datagrams.
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        ports.insert(UDP_PORT, datagrams.port().to_string());
        copy(&example(), directory.path(), &ports);
        Self { jars, directory, ports, _held: held }
    }

    fn address(&self, port: &str) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[port].parse().unwrap()))
    }

    /// Starts the daemon with the file of the example, through `start`.
    fn daemon(&self, start: impl FnOnce(&Launch<'_>) -> Daemon) -> Daemon {
        let file = self.directory.path().join("aggregator.toml");
        start(&Launch {
            through: &[],
            prepare: &|command: &mut Command| {
                let home = command.get_current_dir().expect("the home of the daemon");
                std::fs::copy(&file, home.join("aggregator.toml")).unwrap();
                for listener in ["INGEST", "FEED", "HTTP"] {
                    command.env(format!("TELEMETRY_AGGREGATOR__{listener}__LISTEN"), "127.0.0.1:0");
                }
            },
        })
    }

    fn yamcs(&self) -> Yamcs {
        Yamcs::start(&self.jars, self.directory.path(), self.address("8090"))
    }

    /// Sends `bytes` into the link that listens on `port`.
    fn send(&self, port: &str, bytes: &[u8]) {
        let address = self.address(port);
        TcpStream::connect_timeout(&address, LIMIT).expect("the link listens").write_all(bytes).unwrap();
    }
}

/// Waits until `count` packets of the clipper are durable.
fn wait_durable(daemon: &Daemon, count: usize) {
    let subscribe = Subscribe::earliest().sources(&[CLIPPER]);
    Subscriber::open(daemon.feed(), &subscribe).0.expect_frames(count);
}

/// Packets with these numbers, longer than what the sockets hold. Each has its time as the example describes it: ten in a
/// second.
fn numbered(numbers: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    let numbered = |number: u32| {
        let mut content = (1_000_000 + number / 10).to_be_bytes().to_vec();
        content.extend_from_slice(&((number % 10 * 6_554) as u16).to_be_bytes());
        content.extend_from_slice(&number.to_be_bytes());
        content.resize(1_200, 0x5A);
        packet(101, number as u16, &content)
    };
    numbers.map(numbered).collect()
}

fn from_hex(line: &str) -> Vec<u8> {
    let digits: Vec<_> = line.chars().map(|digit| digit.to_digit(16).expect("a digit") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[test]
fn the_example_runs_as_it_stands_and_nothing_is_missing_after_a_restart_of_either_side() {
    let Some(jars) = Jars::find() else { return };
    let scene = Scene::new(jars);
    // The links of Yamcs connect at once if the daemon listens.
    let mut daemon = scene.daemon(|launch| Daemon::launch_at(tempfile::tempdir().unwrap(), "", launch));
    let yamcs = scene.yamcs();

    // The README's first packets. Yamcs reads the time in them.
    let ran = Command::new("python3").arg(scene.directory.path().join("send.py")).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let first = yamcs.wait_archived("clipper", 100);
    for packet in &first {
        let time = humantime::parse_rfc3339(&packet.time).unwrap();
        let age = SystemTime::now().duration_since(time).expect("no packet is from the future");
        assert!(age < LIMIT, "a packet of now has the time {}", packet.time);
    }
    let mut expected: Vec<_> = first.into_iter().map(|packet| packet.bytes).collect();

    let recording = Recording::find("europa_clipper.ccsds", 1_030);
    scene.send("7490", &recording.bytes);
    expected.extend(packets(&recording.bytes));
    assert_same(yamcs.wait_archived("clipper", expected.len()), expected.clone());

    if let Some((path, cadus)) = snpp_cadus() {
        let packets = scene.jars.python.script("snpp_packets.py", &path);
        scene.send("7491", &cadus);
        let packets: Vec<_> = packets.lines().map(from_hex).collect();
        assert_same(yamcs.wait_archived("snpp", packets.len()), packets);
    }

    // The daemon is killed while Yamcs reads.
    let established = format!("Link established to {}", scene.address("10011"));
    let more = numbered(0..4_000);
    scene.send("7490", &more.concat());
    expected.extend(more);
    wait_durable(&daemon, expected.len());
    daemon.signal(Signal::KILL);
    daemon.wait_exit(LIMIT);
    daemon = scene.daemon(|launch| daemon.relaunch(launch));
    yamcs.wait_lines(&established, 2);
    assert_same(yamcs.wait_archived("clipper", expected.len()), expected.clone());
    let repeated = yamcs.received("clipper", "live") - expected.len() as u64;
    println!("{repeated} packets repeated after a kill of the daemon");

    // Yamcs is killed while it reads. What its socket held is in the archive of the daemon alone.
    let more = numbered(4_000..10_000);
    let before = yamcs.received("clipper", "live");
    scene.send("7490", &more.concat());
    expected.extend(more);
    wait_until("Yamcs reads", || match yamcs.received("clipper", "live") - before {
        500.. => Ok(()),
        few => Err(format!("{few} packets")),
    });
    let counted = yamcs.archived_count("clipper");
    yamcs.kill();
    wait_durable(&daemon, expected.len());
    let yamcs = scene.yamcs();
    let archived = yamcs.archived_count("clipper");
    assert!(archived >= counted, "Yamcs had {counted} packets and has {archived} after a kill");
    yamcs.enable("clipper", "backfill");
    assert_same(yamcs.wait_archived("clipper", expected.len()), expected.clone());
    println!("{archived} of {} packets before the backfill", expected.len());
    drop(yamcs);
    daemon.stop();
}

/// The lines of code blocks of the section on Yamcs in docs/links.md.
#[test]
fn the_docs_show_the_lines_of_the_example() {
    let docs = std::fs::read_to_string(example().join("../../../docs/links.md")).unwrap();
    let section = docs.split("\n### Yamcs\n").nth(1).expect("the section").split("\n### ").next().unwrap();
    let files = ["aggregator.toml", "etc/yamcs.clipper.yaml", "etc/yamcs.snpp.yaml"];
    let files = files.map(|name| std::fs::read_to_string(example().join(name)).unwrap());
    let mut blocks = 0;
    for block in section.split("```").skip(1).step_by(2) {
        let (_, lines) = block.split_once('\n').expect("lines");
        assert!(files.iter().any(|file| file.contains(lines)), "not in the example:\n{lines}");
        blocks += 1;
    }
    assert_eq!(blocks, 2);
}

#[test]
fn each_port_of_the_example_is_in_its_readme() {
    let readme = std::fs::read_to_string(example().join("README.md")).unwrap();
    for port in TCP_PORTS.iter().chain([&UDP_PORT]) {
        assert!(readme.contains(&format!("| {port} |")), "{port}");
    }
}
