//! Messages about wrong keys and values, and their locations.

use super::*;

#[test]
fn an_unknown_key_is_named_with_its_location_and_the_nearest_key() {
    let text = errors("[ingest]\n  hello_timout = \"5s\"\n");
    assert!(
        text.starts_with(
            "c.toml:2:3: ingest.hello_timout: unknown key, did you mean hello_timeout? (allowed here: \
             listen, max_connections, "
        ),
        "{text}"
    );
    let text = errors("heartbeat = \"5s\"\n");
    assert!(text.starts_with("c.toml:1:1: heartbeat: unknown key, did you mean ingest.heartbeat?"), "{text}");
    let text = errors("[archve]\n");
    assert!(text.starts_with("c.toml:1:2: archve: unknown key, did you mean archive?"), "{text}");
    let text = errors("[log]\ncolour = 1\n");
    assert_eq!(text, "c.toml:2:1: log.colour: unknown key (allowed here: level, format)");
}

#[test]
fn a_wrong_value_is_named_with_the_allowed_values() {
    for (text, expected) in [
        (
            "[ingest]\nheartbeat = \"1500ms\"",
            "c.toml:2:13: ingest.heartbeat: found \"1500ms\", expected a duration of whole \
             seconds such as \"5s\", from 1s to 300s",
        ),
        (
            "[ingest]\nheartbeat = 15",
            "c.toml:2:13: ingest.heartbeat: found the integer 15, expected a duration of whole seconds \
             such as \"5s\", from 1s to 300s; write \"15s\" if seconds are meant",
        ),
        (
            "[ingest]\nheartbeat = \"301s\"",
            "c.toml:2:13: ingest.heartbeat: found \"301s\", expected a duration of whole \
             seconds such as \"5s\", from 1s to 300s",
        ),
        (
            "[ingest]\nmemory_limit = 67_108_864",
            "c.toml:2:16: ingest.memory_limit: found the integer 67108864, expected a size \
             such as \"64 MiB\", from 1 MiB to 1 TiB; write \"64 MiB\"",
        ),
        (
            "[ingest]\nmax_message = \"4095\"",
            "c.toml:2:15: ingest.max_message: found \"4095\", expected a size such as \
             \"64 MiB\", from 4 KiB to 16128 KiB",
        ),
        (
            "[archive]\nsegment_size = \"7 MiB\"",
            "c.toml:2:16: archive.segment_size: found \"7 MiB\", expected a size such as \
             \"64 MiB\", from 8 MiB to 64 GiB",
        ),
        (
            "[archive]\ncommit_delay = \"1001ms\"",
            "c.toml:2:16: archive.commit_delay: found \"1001ms\", expected a duration such as \
             \"5s\", from 0s to 1s",
        ),
        (
            "[archive]\nstore_replays = \"yes\"",
            "c.toml:2:17: archive.store_replays: found \"yes\", expected true or false",
        ),
        (
            "[pipeline]\nprocessor_capacity = 65",
            "c.toml:2:22: pipeline.processor_capacity: found the integer 65, expected an integer from 1 to 64",
        ),
        (
            "[pipeline]\nprocessor_capacity = 0",
            "c.toml:2:22: pipeline.processor_capacity: found the integer 0, expected an integer from 1 to 64",
        ),
        (
            "[ingest]\nmax_streams = -1",
            "c.toml:2:15: ingest.max_streams: found the integer -1, expected an integer from 1 to 1048576",
        ),
        (
            "[ingest]\nlisten = \"localhost:7480\"",
            "c.toml:2:10: ingest.listen: found \"localhost:7480\", expected an IP address and a port \
             such as \"127.0.0.1:7480\" or \"[::1]:7480\"",
        ),
        (
            "log.level = \"loud\"",
            "c.toml:1:13: log.level: found \"loud\", expected one of \"error\", \"warn\", \"info\", \
             \"debug\", \"trace\"",
        ),
        (
            "log.level = \"wran\"",
            "c.toml:1:13: log.level: found \"wran\", expected one of \"error\", \"warn\", \"info\", \
             \"debug\", \"trace\"",
        ),
        (
            "archive.export_format = \"parket\"",
            "c.toml:1:25: archive.export_format: found \"parket\", expected one of \"parquet\", \"csv\", \
             \"jsonl\"; write \"parquet\"",
        ),
        (
            "log.format = \"JSON\"",
            "c.toml:1:14: log.format: found \"JSON\", expected one of \"text\", \"json\"; write \"json\"",
        ),
        (
            "ingest.max_streams = 99999999999999999999",
            "c.toml:1:22: ingest.max_streams: found a number that is too large, expected an integer from 1 \
             to 1048576",
        ),
        ("data_dir = 1979-05-27", "c.toml:1:12: data_dir: found a datetime, expected a path"),
        ("data_dir.x = 1", "c.toml:1:1: data_dir: found a table, expected a path"),
        ("data_dir = \"\"", "c.toml:1:12: data_dir: found \"\", expected a path"),
        ("data_dir = [1.5]", "c.toml:1:12: data_dir: found an array, expected a path"),
        ("ingest = 5", "c.toml:1:10: ingest: expected a section, written [ingest]"),
        ("ingest = []", "c.toml:1:10: ingest: expected a section, written [ingest]"),
    ] {
        assert_eq!(errors(text), expected);
    }
}

#[test]
fn columns_count_characters() {
    let text = errors("log = { \"ünknöwn\" = 1, level = \"x\" }");
    assert!(text.contains("c.toml:1:9: log.ünknöwn: unknown key"), "{text}");
    assert!(text.contains("c.toml:1:32: log.level: found \"x\""), "{text}");
}

#[test]
fn all_problems_are_reported_in_the_order_of_the_file() {
    let text = errors(
        "[shutdown]\ndeadline = 5\n[ingest]\nlisten = 1\nlisten_on = 2\nheartbeat = \"0s\"\n[feed]\n\
         listen = \"0.0.0.0:1\"\n",
    );
    let keys: Vec<_> = text
        .lines()
        .map(|line| line.splitn(6, [':']).skip(1).take(3).collect::<Vec<_>>().join(":"))
        .collect();
    assert_eq!(
        keys,
        [
            "2:12: shutdown.deadline",
            "4:10: ingest.listen",
            "5:1: ingest.listen_on",
            "6:13: ingest.heartbeat",
            "8:10: feed.listen",
        ],
        "{text}"
    );
}

#[test]
fn text_that_is_not_toml_is_reported_with_its_location() {
    let text = errors("[log]\nlevel = \n[ingest]\nlisten = \"x\"\nlisten = \"x\"\n");
    assert!(text.contains("c.toml:2:"), "{text}");
    assert!(text.contains("c.toml:5:1: not valid TOML: duplicate key"), "{text}");
    assert!(!text.contains("ingest.listen: found"), "values mislead: {text}");
}

#[test]
fn a_file_full_of_errors_is_not_read_to_its_end() {
    let text: String = (0..50_000).map(|n| format!("k{n} = 1\n")).collect();
    assert_eq!(load(&text).unwrap_err().problems().len(), draft::PROBLEMS_MAX);
    assert_eq!(load(&"]\n".repeat(50_000)).unwrap_err().problems().len(), draft::PROBLEMS_MAX);
}
