//! Links and their channels come in pages of a bounded size.

use std::collections::BTreeSet;
use std::io::Write as _;

use serde_json::Value;

use crate::equipment::{connect, listening, packet, wait_for};
use crate::support::Daemon;
use crate::support::http::{get, get_json};

/// A link of one source. Each application process is a channel.
fn of_one_source(name: &str, source: u32) -> String {
    listening(name, &format!("framing = {{ kind = \"packet\", max = 2000 }}\nsource = {source}"))
}

fn items(page: &Value, kind: &str) -> Vec<Value> {
    page[kind].as_array().unwrap_or_else(|| panic!("{kind} in {page:#}")).clone()
}

#[test]
fn a_link_shows_its_first_channels_and_the_rest_comes_in_pages() {
    const LINKS: u16 = 6;
    const CHANNELS: u16 = 200;
    let name = |index: u16| format!("modem-{index}");
    let links: String = (0..LINKS).map(|index| of_one_source(&name(index), u32::from(index))).collect();
    let mut daemon = Daemon::start(&links);
    for index in 0..LINKS {
        let mut modem = connect(&daemon, &name(index));
        // Two packets of each channel. Between them two are missing.
        for count in [0, 3] {
            let packets = (0..CHANNELS).flat_map(|apid| packet(apid, count, b"x"));
            modem.write_all(&packets.collect::<Vec<u8>>()).unwrap();
        }
        let sent = u64::from(2 * CHANNELS);
        let link = wait_for(&daemon, &name(index), "all packets", |link| link["counts"]["units"] == sent);
        assert_eq!((&link["channels_total"], &link["missing"]), (&CHANNELS.into(), &sent.into()));
        assert_eq!(items(&link, "channels").len(), 64);
    }
    let list = get(daemon.http(), "/api/v1/links");
    assert!(list.body.len() < usize::from(LINKS) * (16 << 10), "{} bytes", list.body.len());

    let path = "/api/v1/links/modem-0/channels";
    let mut all = Vec::new();
    while all.len() < usize::from(CHANNELS) {
        let page = get_json(daemon.http(), &format!("{path}?offset={}&limit=70", all.len()));
        assert_eq!(page["total"], CHANNELS);
        let page = items(&page, "channels");
        assert_eq!(page.len(), (usize::from(CHANNELS) - all.len()).min(70));
        all.extend(page);
    }
    assert_eq!(all[..64], items(&list.json()["links"][0], "channels"));
    let apids: BTreeSet<_> = all.iter().map(|channel| channel["channel"].as_u64().unwrap()).collect();
    assert!(apids.into_iter().eq(0..u64::from(CHANNELS)));
    assert!(all.iter().all(|channel| channel["missing"] == 2));
    assert_eq!(items(&get_json(daemon.http(), path), "channels"), all);
    assert_eq!(items(&get_json(daemon.http(), &format!("{path}?offset=200")), "channels").len(), 0);
    let metrics = get(daemon.http(), "/metrics").text();
    assert_eq!(metrics.matches("link_missing_units_total{").count(), 1_000, "not all {LINKS} x {CHANNELS}");
    daemon.stop();
}

#[test]
fn wrong_pages_and_unknown_names_are_refused() {
    let mut daemon = Daemon::start(&of_one_source("modem", 9));
    for (path, status) in [
        ("/api/v1/links/modem/channels", 200),
        ("/api/v1/links/modem/channels?limit=0", 400),
        ("/api/v1/links/modem/channels?limit=1001", 400),
        ("/api/v1/links?limit=65", 400),
        ("/api/v1/links?of=1", 400),
        ("/api/v1/links/nobody/channels", 404),
        ("/api/v1/links/%FF/channels", 404),
        ("/api/v1/outputs?limit=65", 400),
    ] {
        let answer = get(daemon.http(), path);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert_eq!(answer.json()["reason"].is_string(), status != 200, "{path}");
    }
    daemon.stop();
}

#[test]
fn many_links_come_in_pages_in_the_order_of_their_names() {
    let name = |index: usize| format!("link-{index:02}");
    let links: String = (0..70).map(|index| of_one_source(&name(index), index as u32)).collect();
    let mut daemon = Daemon::start(&links);
    let page = |query: &str| {
        let page = get_json(daemon.http(), &format!("/api/v1/links{query}"));
        assert_eq!(page["total"], 70);
        items(&page, "links").iter().map(|link| link["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(page("").into_iter().eq((0..64).map(name)));
    assert!(page("?offset=64").into_iter().eq((64..70).map(name)));
    assert_eq!(page("?offset=3&limit=1"), [name(3)]);
    assert_eq!(page("?offset=18446744073709551615"), [""; 0]);
    daemon.stop();
}
