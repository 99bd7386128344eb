//! Every key takes effect at once or waits, and the configuration in force always fits together.

use std::collections::BTreeSet;

use super::*;
use crate::tests::config;
use crate::{NamedClient, Secret};

const LINK: &str = "[[links]]\nname = \"a\"\nconnect = \"modem:7000\"\nsource = 7\n\
                    framing = { kind = \"fixed\", length = 892 }\n";
const OUTPUT: &str = "[[outputs]]\nname = \"a\"\nlisten = \"127.0.0.1:10011\"\n";
const UPLOADED: &str = "archive.export = \"export\"\nexport.store = \"s3://bucket\"";
const RETENTION: &str =
    "archive.export = \"export\"\n[export]\nstore = \"s3://bucket\"\nlocal_retention = \"3days\"";

/// For each key: its name, a value other than the default, and whether it takes effect at once.
const OTHERS: [(&str, &str, bool); 49] = [
    ("data_dir", "data_dir = \"elsewhere\"", false),
    ("require_tls", "require_tls = true", true),
    ("log.level", "log.level = \"debug\"", true),
    ("log.format", "log.format = \"json\"", false),
    ("ingest.listen", "ingest.listen = \"127.0.0.1:1\"", false),
    ("ingest.max_connections", "ingest.max_connections = 3", true),
    ("ingest.max_connections_per_address", "ingest.max_connections_per_address = 3", true),
    ("ingest.hello_timeout", "ingest.hello_timeout = \"3s\"", true),
    ("ingest.heartbeat", "ingest.heartbeat = \"3s\"", true),
    ("ingest.max_message", "ingest.max_message = \"8 KiB\"", true),
    ("ingest.routine_window", "ingest.routine_window = \"512 KiB\"", true),
    ("ingest.emergency_window", "ingest.emergency_window = \"128 KiB\"", true),
    ("ingest.memory_limit", "ingest.memory_limit = \"2 GiB\"", true),
    ("ingest.max_streams", "ingest.max_streams = 3", true),
    ("ingest.max_streams_per_source", "ingest.max_streams_per_source = 3", true),
    ("ingest.max_takeovers_per_minute", "ingest.max_takeovers_per_minute = 3", true),
    ("ingest.tls", "ingest.tls = false", true),
    ("ingest.tokens", "[[ingest.tokens]]\ntoken = \"hunter2\"", true),
    ("ingest.clients", "", true),
    ("pipeline.processor_capacity", "pipeline.processor_capacity = 3", false),
    ("pipeline.broadcast_capacity", "pipeline.broadcast_capacity = 3", false),
    ("pipeline.routine_max_delay", "pipeline.routine_max_delay = \"3s\"", false),
    ("archive.commit_delay", "archive.commit_delay = \"3ms\"", true),
    ("archive.segment_size", "archive.segment_size = \"128 MiB\"", false),
    ("archive.reserve", "archive.reserve = \"128 MiB\"", false),
    ("archive.retention_age", "archive.retention_age = \"3days\"", true),
    ("archive.retention_size", "archive.retention_size = \"3 GiB\"", true),
    ("archive.direct_io", "archive.direct_io = \"off\"", false),
    ("archive.store_replays", "archive.store_replays = false", false),
    ("archive.export", "archive.export = \"export\"", false),
    ("archive.export_format", "archive.export_format = \"csv\"", false),
    ("export.store", "archive.export = \"export\"\nexport.store = \"s3://other\"", false),
    ("export.local_retention", RETENTION, false),
    ("feed.listen", "feed.listen = \"127.0.0.1:1\"", false),
    ("feed.max_subscribers", "feed.max_subscribers = 3", true),
    ("feed.tls", "feed.tls = false", true),
    ("feed.tokens", "[[feed.tokens]]\ntoken = \"hunter2\"", true),
    ("feed.clients", "", true),
    ("http.listen", "http.listen = \"127.0.0.1:1\"", false),
    ("http.tls", "http.tls = false", true),
    ("http.token", "http.token = \"hunter2\"", true),
    ("http.token_file", "", true),
    ("tls.certificate", "", true),
    ("tls.key", "", true),
    ("tls.ca", "", true),
    ("catalog.file", "catalog.file = \"other.tle\"", true),
    ("shutdown.deadline", "shutdown.deadline = \"3s\"", true),
    ("links", LINK, true),
    ("outputs", OUTPUT, true),
];

fn change(in_force: &Config, found: &Config) -> Change {
    Change::new(in_force, in_force, found).unwrap_or_else(|mismatch| panic!("{mismatch:?}"))
}

/// Sets a `key` whose value needs files.
fn set_file(config: &mut Config, key: &str) {
    let client = || {
        vec![NamedClient {
            name: "kiruna.example".to_owned(),
            sources: BTreeSet::new(),
            stations: BTreeSet::new(),
        }]
    };
    match key {
        "http.token_file" => config.http.token_file = Some("token".into()),
        "tls.certificate" => config.tls.certificate = Some("server.pem".into()),
        "tls.key" => config.tls.key = Some("server.key".into()),
        "tls.ca" => config.tls.ca = Some("ca.pem".into()),
        "ingest.clients" => config.ingest.clients = client(),
        "feed.clients" => config.feed.clients = client(),
        _ => {}
    }
}

/// The keys that change at once, and those that wait.
fn names(change: &Change) -> (Vec<&str>, Vec<&str>) {
    let changed = change.changed.iter().map(|changed| changed.key.as_str()).collect();
    (changed, change.waiting.iter().map(|waiting| waiting.key.as_str()).collect())
}

#[test]
fn each_key_changes_live_or_waits_as_its_entry_says() {
    let tried: Vec<&str> = OTHERS.iter().map(|(key, _, _)| *key).collect();
    assert_eq!(
        tried,
        settings(&Config::default()).iter().map(Setting::path).collect::<Vec<_>>(),
        "each key is tried"
    );
    for (key, text, is_live) in OTHERS {
        let (mut before, mut found) = (Config::default(), config(text));
        set_file(&mut found, key);
        if key.ends_with(".clients") {
            for config in [&mut before, &mut found] {
                config.tls.certificate = Some("server.pem".into());
                config.tls.ca = Some("ca.pem".into());
            }
        }
        if key.starts_with("export.") {
            before = config(UPLOADED);
        }
        let change = change(&before, &found);
        let (changed, waiting) = names(&change);
        if is_live {
            assert_eq!((changed, waiting), (vec![key], vec![]));
            assert_eq!(change.config, found, "{key} is in force");
        } else {
            assert_eq!((changed, waiting), (vec![], vec![key]));
            assert_eq!(change.config, before, "{key} is not in force");
        }
    }
}

#[test]
fn an_equal_configuration_changes_nothing() {
    let text = "http.token = \"hunter2\"\n[[ingest.tokens]]\ntoken = \"a\"\nsources = [1]";
    let change = change(&config(text), &config(text));
    assert_eq!(names(&change), (vec![], vec![]));
}

#[test]
fn live_keys_change_while_other_keys_wait_for_a_restart() {
    let text = "archive.segment_size = \"128 MiB\"\nlog.level = \"debug\"\ningest.hello_timeout = \"3s\"";
    let change = change(&Config::default(), &config(text));
    let changed: Vec<_> = change.changed.iter().map(ToString::to_string).collect();
    assert_eq!(changed, ["log.level (info -> debug)", "ingest.hello_timeout (5s -> 3s)"]);
    let waiting: Vec<_> = change.waiting.iter().map(ToString::to_string).collect();
    let said = "needs a restart: archive.segment_size (256 MiB in force, 128 MiB in the file): the open segment \
                and the reserve are created with it";
    assert_eq!(waiting, [said]);
    assert_eq!(change.config, config("log.level = \"debug\"\ningest.hello_timeout = \"3s\""));
}

#[test]
fn absent_and_empty_values_have_a_name() {
    let before = config("archive.export = \"export\"\narchive.retention_age = \"3days\"");
    let change = change(&before, &Config::default());
    assert_eq!(change.changed[0].to_string(), "archive.retention_age (3days -> not set)");
    assert!(change.waiting[0].to_string().contains("(export in force, \"\" in the file)"), "{change:?}");
}

#[test]
fn credentials_are_counted_and_never_shown() {
    let tokens = |list: &[(&str, &str)]| {
        let entry = |(token, sources): &(&str, &str)| {
            format!("[[ingest.tokens]]\ntoken = \"hunter-{token}\"\nsources = [{sources}]\n")
        };
        config(&list.iter().map(entry).collect::<String>())
    };
    let before = tokens(&[("a", "1"), ("b", "2"), ("c", "")]);
    for (after, said) in [
        (vec![("a", "1"), ("b", "2"), ("c", ""), ("d", "")], "1 added"),
        (vec![("a", "1"), ("c", "")], "1 removed"),
        (vec![("a", "1"), ("b", "2, 3"), ("c", "")], "1 with other sources"),
        (vec![("d", "1"), ("e", "1"), ("b", ""), ("c", "")], "2 added, 1 removed, 1 with other sources"),
        (vec![("b", "2"), ("a", "1"), ("c", "")], "equal, but written differently"),
        (vec![], "3 removed"),
    ] {
        let change = change(&before, &tokens(&after));
        assert_eq!(change.changed[0].to_string(), format!("ingest.tokens ({said})"));
        assert!(!format!("{change:?}").contains("hunter"), "{change:?}");
    }
    let at = |station: &str| {
        config(&format!("[[ingest.tokens]]\ntoken = \"hunter-a\"\nstations = [\"{station}\"]"))
    };
    let moved = change(&at("svalbard"), &at("kiruna"));
    assert_eq!(moved.changed[0].to_string(), "ingest.tokens (1 with other stations)");
    let change = change(&config("http.token = \"hunter2\""), &config("http.token = \"hunter3\""));
    assert_eq!(change.changed[0].to_string(), "http.token (another)");
    assert_eq!(change.config.http.token, Secret::new("hunter3").ok());
}

#[test]
fn links_and_outputs_are_named() {
    for (table, list) in [(LINK, "links"), (OUTPUT, "outputs")] {
        let named = |name: &str, port: u16| {
            let table = table.replace("\"a\"", &format!("{name:?}"));
            table.replace(":7000", &format!(":{port}")).replace(":10011", &format!(":{port}"))
        };
        let tables = |tables: &[(&str, u16)]| {
            config(&tables.iter().map(|(name, port)| named(name, *port)).collect::<String>())
        };
        let before = tables(&[("a", 1), ("b", 2), ("c", 3)]);
        for (after, said) in [
            (vec![("a", 1), ("b", 2), ("c", 3), ("d", 4)], "d added"),
            (vec![("a", 1)], "b and c removed"),
            (vec![("a", 5), ("b", 2), ("e", 4)], "e added, c removed, a changed"),
            (vec![("b", 2), ("a", 1), ("c", 3)], "the same in another order"),
            (vec![], "a and b and c removed"),
        ] {
            let change = change(&before, &tables(&after));
            assert_eq!(change.changed[0].to_string(), format!("{list} ({said})"));
        }
        assert_eq!(names(&change(&before, &before)), (vec![], vec![]));
    }
}

/// Blocks, reserve and positions are sized once, at the start.
#[test]
fn limits_measured_at_the_start_can_fall_and_return_but_not_exceed_it() {
    let text = |message: &str, streams: u32| {
        config(&format!("ingest.max_message = \"{message}\"\ningest.max_streams = {streams}"))
    };
    let start = text("64 KiB", 100);
    let lower = Change::new(&start, &start, &text("8 KiB", 10)).unwrap().config;
    assert_eq!((lower.ingest.max_message, lower.ingest.max_streams.get()), (8 << 10, 10));
    let back = Change::new(&start, &lower, &start).unwrap();
    assert_eq!(back.config, start);
    let beyond = Change::new(&start, &lower, &text("65 KiB", 101)).unwrap();
    assert_eq!(names(&beyond), (vec![], vec!["ingest.max_message", "ingest.max_streams"]));
    assert_eq!(beyond.config, lower, "what was in force stays");
}

/// Each of these files is valid. If only a part of it were applied, it would admit clients or exceed a bound.
#[test]
fn a_change_that_fits_only_after_a_restart_is_refused_as_a_whole() {
    let open = "ingest.listen = \"0.0.0.0:7480\"\n[[ingest.tokens]]\ntoken = \"hunter2\"";
    // Room for the current values and 2 MiB more. The ring of the broadcast or the connections could take them.
    let limit_mib = (Config::default().memory_bound().total() >> 20) + 2;
    let limit = format!("ingest.memory_limit = \"{limit_mib} MiB\"");
    let more = format!(
        "{limit}\npipeline.broadcast_capacity = 8\ningest.max_connections = 280\nlog.level = \"debug\""
    );
    let retention = "archive.segment_size = \"64 MiB\"\narchive.retention_size = \"256 MiB\"";
    for (before, after, culprit, waits) in [
        (open, "ingest.listen = \"127.0.0.1:7480\"", "ingest.listen", "ingest.listen"),
        (&limit, &more, "ingest.memory_limit", "pipeline.broadcast_capacity"),
        ("", retention, "archive.retention_size", "archive.segment_size"),
    ] {
        let (before, after) = (config(before), config(after));
        let mismatch = Change::new(&before, &before, &after).unwrap_err();
        assert_eq!(mismatch.problems[0].key, culprit, "{mismatch:?}");
        assert!(mismatch.waiting.iter().any(|waiting| waiting.key == waits), "{mismatch:?}");
    }
}

#[test]
fn the_configuration_in_force_is_checked_for_warnings_too() {
    let before = config("http.listen = \"0.0.0.0:7482\"\nhttp.token = \"hunter2\"");
    let change = change(&before, &Config::default());
    let listened: BTreeSet<_> = change.warnings.iter().filter(|said| said.contains("0.0.0.0:7482")).collect();
    assert_eq!(listened.len(), 1, "the address in force is open now: {:?}", change.warnings);
}
