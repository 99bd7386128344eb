//! `check`: what it prints, and which configurations it refuses, as `run` does.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::home::{home, run, wait_for_file};
use crate::support::command::{Running, aggregator, expect_exit};
use crate::support::daemon::DEFAULTS as CONFIG;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/aggregator.toml")
}

#[test]
fn check_prints_the_shipped_configuration_as_the_defaults() {
    let (printed, said) = expect_exit(aggregator(["check", "--config"]).arg(shipped()), 0);
    assert!(said.is_empty(), "{said}");
    let table: toml::Table = printed.parse().expect("what check prints is TOML");
    for section in ["log", "ingest", "pipeline", "archive", "feed", "http", "shutdown"] {
        assert!(table.contains_key(section), "no [{section}] in {printed}");
    }
    assert_eq!(table["ingest"]["routine_window"].as_str(), Some("1 MiB"));
    assert_eq!(table["shutdown"]["deadline"].as_str(), Some("5s"));
    // The printed text is itself a configuration, and it prints as the same text.
    let (dir, _) = home("");
    let again = dir.path().join("printed.toml");
    std::fs::write(&again, &printed).expect("writing fails");
    assert_eq!(expect_exit(aggregator(["check", "--config"]).arg(&again), 0).0, printed);
    // The shipped file contains every default.
    let empty = dir.path().join("empty.toml");
    std::fs::write(&empty, "").expect("writing fails");
    assert_eq!(expect_exit(aggregator(["check", "--config"]).arg(&empty), 0).0, printed);
}

#[test]
fn check_explains_links_and_outputs_and_prints_them() {
    let (dir, path) = home(
        "[[links]]\nname = \"kiruna-x\"\nconnect = \"10.0.8.5:7000\"\nspacecraft = [123]\n\
         framing = { kind = \"cadu\", length = 1279, strip = 160 }\ndecode = { kind = \"tm\" }\n\
         emergency = [{ vcid = [3] }]\n\
         [[outputs]]\nname = \"yamcs-live\"\nlisten = \"127.0.0.1:10011\"\nextract = \"packets\"\n\
         select = { sources = [123] }\n",
    );
    let (printed, said) = expect_exit(aggregator(["check", "--config"]).arg(&path), 0);
    assert!(said.is_empty(), "{said}");
    for line in [
        "# link kiruna-x: CADUs of 1,279 bytes from 10.0.8.5:7000, TM frames of 1,115 bytes, source = spacecraft id, \
         emergency: virtual channel 3",
        "# output yamcs-live: space packets out of live frames of source 123 to up to 4 clients of 127.0.0.1:10011, from \
         the next frame on",
        "decode = { kind = \"tm\", fecf = \"none\", trailer = 0 }",
        "# memory:        0.5 MiB = 1 x 466426 B: enabled links, each with buffers to read into and of three units that wait, \
         which grow by doubling",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line}\n{printed}");
    }
    let again = dir.path().join("printed.toml");
    std::fs::write(&again, &printed).expect("writing fails");
    assert_eq!(expect_exit(aggregator(["check", "--config"]).arg(&again), 0).0, printed);
}

#[test]
fn a_misspelled_key_is_named_with_its_line() {
    let (_dir, path) = home("[ingest]\nlisten = \"127.0.0.1:0\"\nroutine_windw = \"1 MiB\"\n");
    for command in ["check", "run"] {
        let (out, said) = expect_exit(aggregator([command, "--config"]).arg(&path), 2);
        assert!(out.is_empty(), "{out}");
        for part in [&format!("{}:4:1", path.display()), "routine_windw", "routine_window"] {
            assert!(said.contains(part), "{part:?} is missing in: {said}");
        }
    }
}

#[test]
fn bad_values_and_missing_files_are_bad_usage() {
    for (config, parts) in [
        (
            "[ingest]\nmax_message = \"1 KiB\"\n",
            &["max_message", "aggregator.toml:3:15", "1 KiB", "4 KiB"][..],
        ),
        ("[shutdown]\ndeadline = \"soon\"\n", &["deadline", "aggregator.toml:3:12", "soon"]),
        ("[ingest]\nmemory_limit = \"1 MiB\"\n", &["memory_limit", "1 MiB"]),
        ("[ingest\n", &["aggregator.toml:2:"]),
    ] {
        let (_dir, path) = home(config);
        for command in ["check", "run"] {
            let (_, said) = expect_exit(aggregator([command, "--config"]).arg(&path), 2);
            for part in parts {
                assert!(said.contains(part), "{part:?} is missing in: {said}");
            }
        }
    }
    for command in ["check", "run"] {
        let (_, said) = expect_exit(&mut aggregator([command, "--config", "/nonexistent.toml"]), 2);
        assert!(said.contains("/nonexistent.toml"), "{said}");
    }
    let (_, said) = expect_exit(&mut aggregator(["run", "--colour"]), 2);
    assert!(said.contains("--colour"), "{said}");
}

#[test]
fn the_environment_overrides_the_file() {
    let (_dir, path) = home(CONFIG);
    let mut command = aggregator(["check", "--config"]);
    let (printed, _) =
        expect_exit(command.arg(&path).env("TELEMETRY_AGGREGATOR__SHUTDOWN__DEADLINE", "7s"), 0);
    assert!(printed.contains("deadline = \"7s\""), "{printed}");
    let mut command = aggregator(["check", "--config"]);
    let (_, said) = expect_exit(command.arg(&path).env("TELEMETRY_AGGREGATOR__SHUTDOWN__DEADLIN", "7s"), 2);
    assert!(said.to_lowercase().contains("deadlin"), "{said}");
}

#[test]
fn the_daemon_listens_beyond_loopback_only_with_tokens() {
    let open = CONFIG.replacen("127.0.0.1:0", "0.0.0.0:0", 1);
    let (_dir, path) = home(&open);
    for command in ["check", "run"] {
        let (_, said) = expect_exit(aggregator([command, "--config"]).arg(&path), 2);
        for part in ["ingest.listen", "0.0.0.0:0", "token"] {
            assert!(said.contains(part), "{part:?} is missing in: {said}");
        }
    }
    let (_dir, path) = home(&format!("{open}\n[[ingest.tokens]]\ntoken = \"s3cret-and-long-enough\"\n"));
    let (printed, said) = expect_exit(aggregator(["check", "--config"]).arg(&path), 0);
    assert!(!printed.contains("s3cret") && !said.contains("s3cret"), "the token is shown: {printed}{said}");
}

#[test]
fn check_refuses_the_same_configurations_as_run() {
    let (_dir, path) = home(&CONFIG.replace("16 KiB", "16 MiB"));
    for command in ["check", "run"] {
        let (_, said) = expect_exit(aggregator([command, "--config"]).arg(&path), 2);
        assert!(said.contains("ingest.max_message") && said.contains("4 KiB to 16128 KiB"), "{said}");
    }
    // The largest value fits every limit that depends on it.
    let largest =
        CONFIG.replace("16 KiB", "16128 KiB").replace("8 MiB", "128 MiB").replace("4 MiB", "128 MiB")
            + "[pipeline]\nbroadcast_capacity = 16\n";
    let windows = "max_connections = 2\nroutine_window = \"16 MiB\"\nemergency_window = \"16 MiB\"\n\
                   memory_limit = \"64 GiB\"\n[archive]";
    let (_dir, path) = home(&largest.replace("[archive]", windows));
    expect_exit(aggregator(["check", "--config"]).arg(&path), 0);
    let daemon = Running::start(run(&path).arg("--ready-file").arg(path.with_extension("json")));
    wait_for_file(&path.with_extension("json"));
    assert_eq!(daemon.stop(), Some(0));

    let (dir, path) = home(CONFIG);
    std::fs::write(dir.path().join("data"), "a file").expect("writing fails");
    for (command, code) in [("check", 2), ("run", 1)] {
        let (_, said) = expect_exit(aggregator([command, "--config"]).arg(&path), code);
        assert!(said.contains("data_dir") && said.contains("is not a directory"), "{command}: {said}");
    }
    let (_dir, path) = home(
        &format!("{CONFIG}[archive]\nexport = \"/nonexistent/export\"\n")
            .replacen("    [archive]\n", "", 1)
            .replacen("    segment_size = \"8 MiB\"\n    reserve = \"4 MiB\"\n", "", 1),
    );
    let (_, said) = expect_exit(aggregator(["check", "--config"]).arg(&path), 0);
    assert!(said.contains("warning: archive.export = \"/nonexistent/export\" cannot be created"), "{said}");
}

#[test]
fn a_missing_systemd_credential_is_a_note_and_another_missing_file_an_error() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd/aggregator.toml");
    let dir = tempfile::tempdir().expect("no temporary directory");
    let (printed, said) =
        expect_exit(aggregator(["check", "--config"]).arg(&shipped).current_dir(dir.path()), 0);
    assert_eq!(
        said.lines().filter(|line| line.starts_with("note: ") && line.contains("does not exist yet")).count(),
        2,
        "{said}"
    );
    // The stations connect to it from other hosts. A certificate is the operator's.
    let is_other = |line: &str| line.starts_with("warning") && !line.contains("in clear text");
    assert!(printed.contains("ingest.token") && !said.lines().any(is_other), "{printed}{said}");
    // `run` needs the files.
    expect_exit(aggregator(["run", "--config"]).arg(&shipped).current_dir(dir.path()), 2);
    let (_dir, path) = home(&format!("{CONFIG}[[ingest.tokens]]\ntoken_file = \"/run/secrets/missing\"\n"));
    let (_, said) = expect_exit(aggregator(["check", "--config"]).arg(&path), 2);
    assert!(said.contains("/run/secrets/missing"), "{said}");
}

#[test]
fn a_user_without_write_permission_can_check_the_configuration() {
    let (dir, path) = home(CONFIG);
    let owned = dir.path().join("data");
    std::fs::create_dir(&owned).expect("no directory");
    for (path, mode) in [(dir.path(), 0o755), (&*path, 0o644), (&*owned, 0o500)] {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("the mode cannot be set");
    }
    // A copy: other users may not have access to the directory of the original.
    let program = dir.path().join("program");
    // Another process copies: a test that starts a process meanwhile would hand on our open file, and a program that is
    // open for writing cannot be started.
    expect_exit(Command::new("cp").arg(env!("CARGO_BIN_EXE_telemetry-aggregator")).arg(&program), 0);
    let mut check = Command::new(program);
    check.args(["check", "--config"]).arg(&path).current_dir("/");
    if rustix::process::geteuid().is_root() {
        // Root can write everything. The user `nobody` cannot.
        check.uid(65_534);
    }
    let (_, said) = expect_exit(&mut check, 0);
    assert!(said.contains("warning: ") && said.contains("as the user of the daemon"), "{said}");
}
