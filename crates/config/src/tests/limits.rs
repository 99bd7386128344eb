//! Checks across keys.

use super::*;

#[test]
fn a_window_must_hold_a_maximal_message() {
    assert_eq!(
        errors("[ingest]\nemergency_window = \"127 KiB\""),
        "c.toml:2:20: ingest.emergency_window: 127 KiB is smaller than one maximal message: \
         expected at least ingest.max_message, which is 128 KiB"
    );
    config("[ingest]\nemergency_window = \"128 KiB\"");
    // The error is at the value that was set, not at the default.
    let text = errors("[ingest]\nmax_message = \"300 KiB\"");
    assert!(text.starts_with("c.toml:2:15: ingest.max_message: 256 KiB is smaller"), "{text}");
}

#[test]
fn limits_beyond_the_memory_are_refused_with_the_sum_and_the_remedies() {
    let text = errors("[ingest]\nmax_connections = 1000");
    assert!(text.starts_with("c.toml:2:19: ingest.max_connections: the limits come to "), "{text}");
    assert!(text.contains("1718.8 MiB = 1000 x 1760 KiB"), "{text}");

    // Each remedy that the message names works.
    let quoted = |after: &str| {
        let rest = text.split_once(after).unwrap().1;
        rest.split(['"', ',']).next().unwrap().to_owned()
    };
    let limit = quoted("raise that to \"");
    config(&format!("[ingest]\nmax_connections = 1000\nmemory_limit = \"{limit}\""));
    let fitting = quoted("lower ingest.max_connections to ");
    config(&format!("[ingest]\nmax_connections = {fitting}"));
    let beyond: usize = fitting.parse::<usize>().unwrap() + 1;
    errors(&format!("[ingest]\nmax_connections = {beyond}"));
}

#[test]
fn ten_thousand_connections_fit_with_small_windows() {
    config(
        "[ingest]\nmax_connections = 10_000\nmax_message = \"4 KiB\"\nroutine_window = \"16 KiB\"\n\
         emergency_window = \"8 KiB\"\nmemory_limit = \"1500 MiB\"",
    );
}

#[test]
fn the_reserve_must_hold_the_frames_past_the_gate() {
    assert_eq!(
        errors("[archive]\nreserve = \"1 MiB\""),
        "c.toml:2:11: archive.reserve: 1 MiB is too small for the frames on their way when the disk becomes full: \
         expected at least 2 MiB for ingest.max_message = 128 KiB and ingest.max_streams = 4096"
    );
    config("[archive]\nreserve = \"2 MiB\"");
    assert_eq!(
        errors("[archive]\nreserve = \"257 MiB\""),
        "c.toml:2:11: archive.reserve: 257 MiB is larger than a segment: expected at most \
         archive.segment_size, which is 256 MiB"
    );
    config("[archive]\nreserve = \"256 MiB\"");
}

#[test]
fn a_segment_must_hold_the_positions_and_retention_two_segments() {
    assert_eq!(
        errors(
            "[ingest]\nmax_streams = 400_000\nmemory_limit = \"4 GiB\"\n[archive]\nsegment_size = \"64 MiB\""
        ),
        "c.toml:5:16: archive.segment_size: 64 MiB is too small for the positions of \
         ingest.max_streams = 400000 streams and a commit of frames: expected at least 100 MiB"
    );
    assert_eq!(
        errors("[archive]\nretention_size = \"575 MiB\""),
        "c.toml:2:18: archive.retention_size: 575 MiB is less than two segments and the reserve: expected at \
         least 576 MiB, twice archive.segment_size plus archive.reserve"
    );
    config("[archive]\nretention_size = \"576 MiB\"");
}

#[test]
fn exports_must_be_outside_the_archive() {
    assert_eq!(
        errors("data_dir = \"d\"\n[archive]\nexport = \"d/archive/parquet\""),
        "c.toml:3:10: archive.export: \"d/archive/parquet\" overlaps the archive in \"d/archive\": expected a \
         directory beside it, such as \"d/export\""
    );
    errors("data_dir = \"d\"\n[archive]\nexport = \"d\"");
    let beside = config("data_dir = \"d\"\n[archive]\nexport = \"d/export\"");
    assert_eq!(beside.export_config().unwrap().out, Path::new("d/export"));
    assert_eq!(config("[archive]\nexport = \"\"").export_config(), None);
    let text = errors("[archive]\nexport_format = \"arrow\"");
    assert!(text.contains("expected one of \"parquet\", \"csv\", \"jsonl\""), "{text}");
}

#[test]
fn listening_beyond_loopback_needs_tokens() {
    for section in ["ingest", "feed"] {
        for address in ["0.0.0.0:7490", "[::]:7490", "192.0.2.1:7490", "[::ffff:192.0.2.1]:7490"] {
            let listen = format!("[{section}]\nlisten = \"{address}\"\n");
            assert_eq!(
                errors(&listen),
                format!(
                    "c.toml:2:10: {section}.listen: {address} can be reached from other hosts and no \
                     token is asked for: add [[{section}.tokens]] with a token_file, or listen on \
                     127.0.0.1:7490"
                )
            );
            config(&format!("{listen}[[{section}.tokens]]\ntoken = \"t\""));
        }
        for address in ["127.8.9.1:7490", "[::1]:7490", "[::ffff:127.0.0.1]:7490"] {
            config(&format!("[{section}]\nlisten = \"{address}\""));
        }
    }
}

#[test]
fn http_beyond_loopback_without_a_token_is_a_warning() {
    let listen = "[http]\nlisten = \"0.0.0.0:7482\"\n";
    let warnings = load(listen).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("http.listen = \"0.0.0.0:7482\" can be reached"));
    let with_token = load(&format!("{listen}token = \"t\"")).unwrap().warnings;
    assert!(with_token.iter().all(|warning| warning.contains("in clear text")), "{with_token:?}");
}

#[test]
fn two_listeners_need_two_addresses() {
    assert_eq!(
        errors("[http]\nlisten = \"127.0.0.1:7480\""),
        "c.toml:2:10: http.listen: http.listen = 127.0.0.1:7480 and ingest.listen = 127.0.0.1:7480 \
         collide: give each a port of its own"
    );
    let pair = |a: &str, b: &str| load(&format!("http.listen = \"{a}\"\ningest.listen = \"{b}\""));
    for (a, b) in [
        ("0.0.0.0:1", "127.0.0.1:1"),
        ("[::]:1", "127.0.0.1:1"),
        ("[::]:1", "[::1]:1"),
        ("[::ffff:127.0.0.1]:1", "127.0.0.1:1"),
    ] {
        assert!(pair(a, b).is_err(), "{a} {b}");
    }
    for (a, b) in [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:1", "127.0.0.2:1"),
        ("0.0.0.0:1", "[::1]:1"),
        ("0.0.0.0:1", "127.0.0.1:2"),
    ] {
        assert!(pair(a, b).is_ok(), "{a} {b}");
    }
}

#[test]
fn an_invalid_value_is_not_checked_against_other_keys() {
    let text = errors("[ingest]\nmax_message = \"1 GiB\"\nroutine_window = \"5 KiB\"");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn a_configuration_changed_after_loading_can_be_checked_again() {
    let mut config = Config::default();
    config.validate().unwrap();
    config.archive.reserve = config.archive.segment_size + 1;
    let error = config.validate().unwrap_err();
    let [problem] = error.problems() else { panic!("{error}") };
    assert_eq!(problem.key, "archive.reserve");
    assert_eq!(problem.location, Location::Default);
}
