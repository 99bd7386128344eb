//! Help, and arguments that no command accepts.

use crate::support::command::{aggregator, expect_exit, output};

#[test]
fn every_command_has_help() {
    for (args, parts) in [
        (&["--help"][..], &["run", "check", "demo", "archive", "--config"][..]),
        (&["run", "--help"], &["--config", "--ready-file", "--simulate"]),
        (&["check", "--help"], &["--config"]),
        (&["demo", "--help"], &["RFC"]),
        (&["archive", "--help"], &["ls", "verify", "cat", "export", "repair"]),
        (&["archive", "export", "--help"], &["--out", "--format", "--source", "parquet"]),
        (&["archive", "repair", "--help"], &["--out", "data_dir"]),
        (&["replay", "--help"], &["--archive", "--connect", "--speed", "--epoch", "--skip-to", "SIGUSR1"]),
        (&["tail", "--help"], &["--connect", "--from", "--policy", "--token-file"]),
        (&["top", "--help"], &["--url", "--interval", "--once", "--json", "--source", "Ctrl-C"]),
        (&["health", "--help"], &["--url", "--config", "--ready", "--timeout"]),
        (&["archive", "ls", "--help"], &["segments"]),
        (&["archive", "verify", "--help"], &["damage"]),
        (&["archive", "cat", "--help"], &["--source", "--priority", "--kind", "--format", "--limit"]),
    ] {
        let (out, _) = expect_exit(&mut aggregator(args), 0);
        assert!(out.contains("Usage:"), "{args:?}: {out}");
        for part in parts {
            assert!(out.contains(part), "{args:?}: {part:?} is missing in: {out}");
        }
    }
    let (out, _) = expect_exit(&mut aggregator(["--version"]), 0);
    assert!(out.contains(env!("CARGO_PKG_VERSION")), "{out}");
    assert_eq!(output(&mut aggregator(["frobnicate"])).status.code(), Some(2));
}

#[test]
fn a_choice_that_no_frame_can_meet_is_bad_usage() {
    let commands: [&[&str]; 3] = [
        &["archive", "cat", "/nonexistent"],
        &["archive", "export", "/nonexistent", "--out", "/nonexistent"],
        &["replay", "--archive", "/nonexistent"],
    ];
    for command in commands {
        for (choice, named) in [
            (&["--from", "6", "--to", "5"][..], "--from 1970-01-01T00:00:06.000000000Z is not before --to"),
            (&["--from-offset", "9", "--to-offset", "9"], "--from-offset 9 is not below --to-offset 9"),
            (&["--limit", "0"], "'--limit <COUNT>'"),
        ] {
            let (_, said) = expect_exit(aggregator(command).args(choice), 2);
            assert!(said.contains(named), "{command:?} {choice:?}: {said}");
        }
    }
    let (_, said) = expect_exit(&mut aggregator(["replay", "--archive", "d", "--speed", "-1"]), 2);
    assert!(said.contains("'-1' for '--speed <N|max>': expected a number above 0, or max"), "{said}");
}

#[test]
fn a_name_as_source_is_refused_because_a_number_is_expected() {
    for command in [
        &["archive", "cat", "d"][..],
        &["archive", "export", "d", "--out", "e"],
        &["replay", "--archive", "d"],
        &["tail"],
        &["top", "--once"],
    ] {
        let (_, said) = expect_exit(aggregator(command).args(["--source", "MERIDIAN-07"]), 2);
        assert!(said.contains("expected a number from 0 to 4294967295"), "{command:?}: {said}");
    }
}
