//! The command line as a user sees it: exit codes, and the texts on stdout and stderr.

mod support;

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::command::{aggregator, expect_exit, output};
use support::daemon::DEFAULTS as CONFIG;
use support::{Client, Daemon, EMERGENCY, Hello, LIMIT, ROUTINE};
use tempfile::TempDir;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/aggregator.toml")
}

/// Makes a directory with `aggregator.toml`. The `data_dir` is `data` in the same directory.
fn home(config: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("no temporary directory");
    let path = dir.path().join("aggregator.toml");
    let data_dir = dir.path().join("data");
    let text = format!("data_dir = {:?}\n{config}", data_dir.display().to_string());
    std::fs::write(&path, text).expect("the configuration cannot be written");
    (dir, path)
}

fn run(config: &Path) -> Command {
    let mut command = aggregator(["run", "--config"]);
    command.arg(config);
    command
}

/// A process. If the test fails before the process ends, the drop kills the process.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("it cannot be started"))
    }

    /// Sends SIGTERM and returns the exit code.
    fn stop(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.0), Signal::TERM).expect("no signal");
        self.0.wait().expect("waiting fails").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn wait_for_file(path: &Path) -> String {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        if let Ok(text) = std::fs::read_to_string(path) {
            return text;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{} does not appear", path.display())
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
fn a_port_in_use_is_named_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("no port");
    let address = taken.local_addr().expect("an address").to_string();
    let (_dir, path) = home(&CONFIG.replacen("127.0.0.1:0", &address, 1));
    let (_, said) = expect_exit(&mut run(&path), 1);
    for part in [&address, "ingest.listen", "in use"] {
        assert!(said.contains(part), "{part:?} is missing in: {said}");
    }
}

#[test]
fn a_second_daemon_on_the_same_directory_is_refused_and_the_first_continues() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1));
    client.deliver(ROUTINE, 0, b"before");
    let (_, said) = expect_exit(&mut run(&daemon.config_path()), 1);
    let dir = daemon.archive_dir();
    assert!(said.contains(&dir.display().to_string()), "{} is missing in: {said}", dir.display());
    client.deliver(ROUTINE, 1, b"after");
    client.bye([0, 2]);
    assert_eq!(daemon.stop().archived, 2);
}

#[test]
fn a_data_directory_that_is_a_file_or_cannot_be_written_is_named() {
    let (dir, path) = home(CONFIG);
    let data = dir.path().join("data");
    std::fs::write(&data, "a file").expect("writing fails");
    let (_, said) = expect_exit(&mut run(&path), 1);
    assert!(said.contains(&data.display().to_string()), "{said}");
    assert_eq!(std::fs::read(&data).expect("still there"), b"a file");

    // Root can write everywhere except in /proc.
    let text = std::fs::read_to_string(&path).expect("the configuration");
    let read_only = "/proc/telemetry-aggregator";
    std::fs::write(&path, text.replace(&data.display().to_string(), read_only)).expect("writing fails");
    let (_, said) = expect_exit(&mut run(&path), 1);
    assert!(said.contains(read_only), "{said}");
}

#[test]
fn the_ready_file_holds_the_bound_addresses() {
    let (dir, path) = home(CONFIG);
    let ready = dir.path().join("ready.json");
    let daemon = Running::start(run(&path).arg("--ready-file").arg(&ready).stderr(Stdio::null()));
    let text = wait_for_file(&ready);
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON, whole from the first moment on");
    let object = json.as_object().expect("an object");
    assert_eq!(object.keys().collect::<Vec<_>>(), ["feed", "http", "ingest"], "{text}");
    let address: SocketAddr = object["ingest"].as_str().expect("a string").parse().expect("an address");
    let (client, _) = Client::open(address, &Hello::new(1));
    client.bye([0, 0]);
    assert_eq!(daemon.stop(), Some(0));
}

/// The text of a log line must not depend on whether the line is written.
#[test]
fn a_quiet_log_and_a_hangup_do_not_stop_the_daemon() {
    let (dir, path) = home(&format!("{CONFIG}[log]\nlevel = \"error\"\n"));
    let ready = dir.path().join("ready.json");
    let daemon = Running::start(run(&path).arg("--ready-file").arg(&ready));
    let json: serde_json::Value = serde_json::from_str(&wait_for_file(&ready)).expect("JSON");
    let address: SocketAddr = json["ingest"].as_str().expect("a string").parse().expect("an address");
    let (mut client, _) = Client::open(address, &Hello::new(1));
    kill_process(Pid::from_child(&daemon.0), Signal::HUP).expect("no signal");
    client.deliver(ROUTINE, 0, b"still there");
    client.bye([0, 1]);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_ready_file_that_cannot_be_written_is_named() {
    let (dir, path) = home(CONFIG);
    let ready = dir.path().join("missing/ready.json");
    let (_, said) = expect_exit(run(&path).arg("--ready-file").arg(&ready), 1);
    assert!(said.contains(&ready.display().to_string()), "{said}");
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
fn the_demo_shows_emergencies_overtaking() {
    let started = Instant::now();
    // A daemon on this host may already have the usual ports. In both cases the ports are taken.
    let _taken: Vec<_> = [7480, 7481, 7482].map(|port| TcpListener::bind(("127.0.0.1", port))).into();
    let (out, said) = expect_exit(&mut aggregator(["demo"]), 0);
    assert!(started.elapsed() < Duration::from_secs(3), "it took {:?}", started.elapsed());
    assert!(said.is_empty(), "{said}");
    let processed: Vec<_> = out.lines().filter(|line| line.contains("processed source=")).collect();
    assert_eq!(processed.len(), 45, "{out}");
    for source in 0..4 {
        let of_source: Vec<_> =
            processed.iter().filter(|line| line.contains(&format!("source={source} "))).collect();
        assert_eq!(of_source.len(), 10, "source {source}: {out}");
        for (index, line) in of_source.iter().enumerate() {
            let is_emergency = line.contains("priority=EMERGENCY");
            assert_eq!(is_emergency, index < 2, "frame {index} of source {source}: {out}");
            assert!(line.contains("kind=live"), "{line}");
        }
        let sequences: Vec<u64> = of_source.iter().map(|line| number(line, "seq=")).collect();
        assert_eq!(sequences, [4, 7, 0, 1, 2, 3, 5, 6, 8, 9], "source {source}");
    }
    assert_eq!(processed.iter().filter(|line| line.contains("kind=replay")).count(), 5, "{out}");
    let stats: Vec<_> = out.lines().filter(|line| line.contains("stats routed=")).collect();
    let last = stats.last().unwrap_or_else(|| panic!("no stats: {out}"));
    assert_eq!(["routed=", "processed=", "emergency="].map(|name| number(last, name)), [45, 45, 8]);
    for line in &stats {
        let [routed, processed, emergency] =
            ["routed=", "processed=", "emergency="].map(|name| number(line, name));
        assert!(routed >= processed && processed >= emergency, "{line}");
    }
    for part in ["archive done total=45", "registering one more source", "removing a source"] {
        assert!(out.contains(part), "{part:?} is missing in: {out}");
    }
}

/// The number after `name` in a line.
fn number(line: &str, name: &str) -> u64 {
    let word = line.split_whitespace().find_map(|word| word.strip_prefix(name));
    word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no {name} in {line:?}"))
}

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
fn simulate_prints_a_line_a_second_until_it_is_stopped() {
    let (_dir, path) = home(CONFIG);
    let mut command = run(&path);
    command.arg("--simulate").stdout(Stdio::piped()).stderr(Stdio::null());
    let mut daemon = Running::start(&mut command);
    let stdout = BufReader::new(daemon.0.stdout.take().expect("stdout is piped"));
    let mut lines = stdout.lines().map(|line| line.expect("reading its lines fails"));
    let first = lines.next().expect("a first line");
    let since_first = Instant::now();
    let mut seen: Vec<_> = std::iter::once(first).chain(lines.by_ref().take(2)).collect();
    let elapsed = since_first.elapsed();
    assert!(elapsed >= Duration::from_millis(1_500), "two lines in {elapsed:?}");
    // The machine determines how soon all sources are connected.
    while !seen.last().is_some_and(|line| line.contains("50 sources")) && since_first.elapsed() < LIMIT {
        seen.extend(lines.next());
    }
    for (second, line) in (1..).zip(&seen) {
        assert!(line.trim_start().starts_with(&format!("{second} s")), "{line}");
        assert!(line.contains("frames/s") && line.contains("archive ok"), "{line}");
    }
    assert!(seen.last().is_some_and(|line| line.contains("50 sources")), "{seen:?}");
    let stopped = Instant::now();
    assert_eq!(daemon.stop(), Some(0));
    assert!(stopped.elapsed() < Duration::from_secs(5), "the drain took {:?}", stopped.elapsed());
}

#[test]
fn a_cause_is_printed_once() {
    let (_, said) = expect_exit(&mut aggregator(["replay", "--archive", "/nonexistent"]), 1);
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
    let (dir, path) = home(CONFIG);
    std::fs::write(dir.path().join("data"), "a file").expect("writing fails");
    let (_, said) = expect_exit(&mut run(&path), 1);
    assert_eq!(said.matches("is not a directory").count(), 1, "{said}");
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
