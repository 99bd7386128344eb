//! The families of metrics that `/metrics` of a running daemon exposes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream, UdpSocket};

use serde_json::Value;

use crate::support::http::{get, wait_json};
use crate::support::{Client, Daemon, EMERGENCY, Hello, ROUTINE, Subscribe, Subscriber, code};

/// The prefix of every name.
pub const PREFIX: &str = "telemetry_aggregator_";

/// A family of metrics. Its name is the name of its samples without [`PREFIX`].
#[derive(Debug, Default)]
pub struct Family {
    pub kind: String,
    /// The labels of its samples except `le`. `None` if it has no sample.
    pub labels: Option<BTreeSet<String>>,
}

/// A link and an output, each of which has every metric once its peer is there. A store, which has them at once.
const LINKED: &str = r#"
    [archive]
    export = "export"
    [export]
    store = "s3://telemetry"
    [[links]]
    name = "inuvik-udp"
    udp = "127.0.0.1:0"
    framing = { kind = "packet", max = 1024 }
    source = "apid"
    [[outputs]]
    name = "yamcs"
    listen = "127.0.0.1:0"
    start = "cursor"
"#;
/// A space packet with a counter.
const PACKET: &[u8] = &[0x00, 0x64, 0xC0, 0x00, 0x00, 0x00, 0xAA];

/// The families that a daemon with a source, a subscriber, a link and an output exposes.
pub fn families() -> BTreeMap<String, Family> {
    let daemon = Daemon::start(LINKED);
    let (mut client, _) =
        Client::open(daemon.address(), &Hello { station: b"KIRUNA".to_vec(), ..Hello::new(7) });
    client.deliver(ROUTINE, 0, b"routine");
    client.deliver(EMERGENCY, 1, b"SAFE_MODE");
    Client::refused(
        daemon.address(),
        &Hello { version_min: 9, version_max: 9, ..Hello::new(8) },
        code::VERSION,
    );
    let _subscriber = Subscriber::open(daemon.feed(), &Subscribe::live());
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    sender.send_to(PACKET, address_of(&daemon, "links")).expect("a datagram");
    let _reader = TcpStream::connect(address_of(&daemon, "outputs")).expect("the output listens");
    wait_for(&daemon, "links", |link| link["channels"].as_array().is_some_and(|all| !all.is_empty()));
    wait_for(&daemon, "outputs", |output| !output["cursor"].is_null());
    parse(&get(daemon.http(), "/metrics").text())
}

/// The address on which the only one of the `kind` listens.
fn address_of(daemon: &Daemon, kind: &str) -> SocketAddr {
    let found = wait_for(daemon, kind, |one| !one["address"].is_null());
    found["address"].as_str().and_then(|address| address.parse().ok()).expect("an address")
}

/// Waits until the API reports what `is_met` wants of the only one of the `kind`: "links" or "outputs".
fn wait_for(daemon: &Daemon, kind: &str, is_met: impl Fn(&Value) -> bool) -> Value {
    wait_json(daemon.http(), &format!("/api/v1/{kind}"), |found| is_met(&found[kind][0]))[kind][0].take()
}

fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let name = name.strip_prefix(PREFIX).expect("a name without the prefix");
            families.insert(name.to_owned(), Family { kind: kind.to_owned(), labels: None });
        } else if !line.starts_with('#') {
            let (name, rest) = line.split_at(line.find(['{', ' ']).expect("a sample"));
            let name = family_of(name.strip_prefix(PREFIX).expect("a name without the prefix"), |name| {
                families.get(name).map(|family| family.kind.as_str())
            });
            let family = name.and_then(|name| families.get_mut(&name)).unwrap_or_else(|| panic!("{line}"));
            family.labels.get_or_insert_default().extend(label_names(rest));
        }
    }
    assert!(families.len() > 40, "{families:?}");
    families
}

/// The family that a sample called `name` belongs to. The samples of a histogram have their own names.
pub fn family_of<'k>(name: &str, kind_of: impl Fn(&str) -> Option<&'k str>) -> Option<String> {
    let suffixed = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
    match (kind_of(name), suffixed) {
        // A histogram has no sample with the plain name of its family.
        (Some(kind), _) => (kind != "histogram").then(|| name.to_owned()),
        (None, Some(family)) => (kind_of(family) == Some("histogram")).then(|| family.to_owned()),
        (None, None) => None,
    }
}

/// The label names of a sample: `{a="..",b=".."} 1` gives a and b. No value in these tests holds a quote or a comma.
fn label_names(rest: &str) -> impl Iterator<Item = String> {
    let labels =
        rest.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(labels, _)| labels);
    let names = labels.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name.to_owned());
    names.filter(|name| name != "le").collect::<Vec<_>>().into_iter()
}

/// The names in `text` that begin with [`PREFIX`], returned without the prefix.
pub fn names_in(text: &str) -> BTreeSet<String> {
    let is_part = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_';
    let names = text.match_indices(PREFIX).map(|(at, _)| &text[at + PREFIX.len()..]);
    names.map(|rest| rest[..rest.find(|char| !is_part(char)).unwrap_or(rest.len())].to_owned()).collect()
}
