//! `archive verify`, `archive cat` and `archive ls` on a small archive.

use std::path::Path;

use crate::support::command::{aggregator, expect_exit};
use crate::support::{Client, Daemon, EMERGENCY, Hello, ROUTINE};

/// A stopped daemon. Its archive holds a routine frame and an emergency of source 7, and a replayed frame of source
/// 8.
fn three_frames() -> Daemon {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7).station("Svalbard").epoch(3));
    client.deliver(ROUTINE, 4, b"routine");
    client.deliver(EMERGENCY, 5, b"emergency");
    client.bye([6, 5]);
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(8).kind(1));
    client.deliver(ROUTINE, 0, b"replayed");
    client.bye([0, 1]);
    daemon.stop();
    daemon
}

#[test]
fn verify_names_the_segment_and_range_of_a_flipped_byte() {
    let daemon = three_frames();
    let dir = daemon.archive_dir();
    let verify = || aggregator([Path::new("archive"), Path::new("verify"), &dir]);
    let (out, _) = expect_exit(&mut verify(), 0);
    assert!(out.contains("ok: 3 frames"), "{out}");

    let segment = dir.join("00000000000000000000.seg");
    let mut bytes = std::fs::read(&segment).expect("the segment");
    let at =
        bytes.windows(9).position(|window| window == b"emergency").expect("the payload lies there as it is");
    bytes[at + 3] ^= 0x10;
    std::fs::write(&segment, &bytes).expect("writing fails");
    let (out, _) = expect_exit(&mut verify(), 1);
    assert!(out.contains("00000000000000000000.seg"), "{out}");
    assert!(out.contains("offsets 1..2"), "{out}");
    let range = out.split("bytes ").nth(1).and_then(|rest| rest.split(':').next()).expect("a range of bytes");
    let (from, to) = range.split_once("..").expect("a range");
    let (from, to): (usize, usize) = (from.parse().expect("a number"), to.parse().expect("a number"));
    assert!((from..to).contains(&(at + 3)), "{} lies outside of {range}", at + 3);

    // The command still reads every intact frame, and reports the missing ones.
    let (out, said) = expect_exit(&mut aggregator([Path::new("archive"), Path::new("cat"), &dir]), 1);
    assert_eq!(out.lines().count(), 2, "{out}");
    assert!(said.contains("damaged"), "{said}");
}

#[test]
fn cat_filters_and_writes_its_keys_in_order() {
    let daemon = three_frames();
    let data_dir = daemon.archive_dir().parent().expect("the data directory").display().to_string();
    let cat = |filter: &str| {
        let mut args = vec!["archive", "cat", &data_dir];
        args.extend(filter.split_whitespace());
        expect_exit(&mut aggregator(args), 0).0
    };
    let all = cat("");
    let keys = [
        "offset",
        "source_id",
        "source_kind",
        "station",
        "epoch",
        "priority",
        "sequence",
        "flags",
        "ert_ns",
        "received_ns",
        "payload",
    ];
    for line in all.lines() {
        let places: Vec<_> = keys.iter().map(|key| line.find(&format!("\"{key}\":")).expect(key)).collect();
        assert!(places.is_sorted(), "{line}");
        let object: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(object.as_object().expect("an object").len(), keys.len(), "{line}");
    }
    let line = all.lines().nth(1).expect("three lines");
    let start = "{\"offset\":1,\"source_id\":7,\"source_kind\":\"live\",\"station\":\"Svalbard\",\"epoch\":3,\
                 \"priority\":\"emergency\",\"sequence\":5,\"flags\":0,\"ert_ns\":0,\"received_ns\":";
    assert!(line.starts_with(start) && line.ends_with(",\"payload\":\"ZW1lcmdlbmN5\"}"), "{line}");

    for (filter, expected) in [
        ("", "routineemergencyreplayed"),
        ("--source 7", "routineemergency"),
        ("--source 9", ""),
        ("--priority emergency", "emergency"),
        ("--priority routine", "routinereplayed"),
        ("--kind replay", "replayed"),
        ("--kind live", "routineemergency"),
        ("--from-offset 1", "emergencyreplayed"),
        ("--limit 1", "routine"),
        ("--from-offset 1 --limit 1 --priority routine", "replayed"),
    ] {
        assert_eq!(cat(&format!("--format payload {filter}")), expected, "{filter}");
    }
    let (out, _) = expect_exit(&mut aggregator(["archive", "ls", &data_dir]), 0);
    assert!(out.contains("00000000000000000000.seg"), "{out}");
    let (_, said) = expect_exit(&mut aggregator(["archive", "cat", &data_dir, "--priority", "urgent"]), 2);
    assert!(said.contains("urgent"), "{said}");
    for command in ["ls", "verify", "cat"] {
        let (_, said) = expect_exit(&mut aggregator(["archive", command, "/nonexistent"]), 1);
        assert!(said.contains("/nonexistent"), "{said}");
    }
}

#[test]
fn times_may_have_offsets_and_a_query_without_a_match_says_so() {
    let daemon = three_frames();
    let dir = daemon.archive_dir();
    let cat = |args: &[&str]| expect_exit(aggregator(["archive", "cat"]).arg(&dir).args(args), 0);
    for from in ["-1h", "2026-01-01", "2026-01-01T00:00:00+02:00", "=-2d"] {
        let (out, said) = match from.strip_prefix('=') {
            Some(from) => cat(&[&format!("--from={from}")]),
            None => cat(&["--from", from]),
        };
        assert_eq!((out.lines().count(), said.as_str()), (3, ""), "{from}");
    }
    for args in [&["--to", "-1h"][..], &["--source", "99"], &["--from", "2200-01-01"]] {
        let (out, said) = cat(args);
        assert_eq!(out, "");
        assert!(said.contains("no frame in ") && said.contains(" matches"), "{args:?}: {said}");
    }
    let out = tempfile::tempdir().expect("no temporary directory");
    let mut export = aggregator(["archive", "export"]);
    let (_, said) =
        expect_exit(export.arg(&dir).arg("--out").arg(out.path().join("e")).args(["--source", "99"]), 0);
    assert!(said.contains("no frame in "), "{said}");
}
