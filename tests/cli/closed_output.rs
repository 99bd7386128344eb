//! Commands whose stdout or stderr cannot be written: they do what they do otherwise, and exit with the same code.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::command::{aggregator, expect_exit, full_device, unread_pipe, uplink_sim};
use crate::support::http::{get, request};
use crate::support::port::Port;
use crate::support::{Client, Daemon, EMERGENCY, Hello, ROUTINE, wait_until};

const CATALOG: &str = "SAT 25544\n\
    1 25544U 98067A   08264.51782528 -.00002182  00000-0 -11606-4 0  2927\n\
    2 25544  51.6416 247.4627 0006703 130.5360 325.0288 15.72125391563537\n";

/// A command, and the code with which it exits.
struct Case {
    command: Box<dyn Fn() -> Command>,
    code: i32,
    /// Whether the output is the result of the command, so that a full disk makes it fail.
    is_output: bool,
}

/// `telemetry-aggregator` with the words of `line`.
fn case(code: i32, line: impl Into<String>) -> Case {
    let line = line.into();
    Case { command: Box::new(move || aggregator(line.split_whitespace())), code, is_output: false }
}

/// A command whose output is its result.
fn output(line: impl Into<String>) -> Case {
    Case { is_output: true, ..case(0, line) }
}

/// `uplink-sim` with the words of `line`. It logs, too.
fn sim(code: i32, line: impl Into<String>) -> Case {
    let line = line.into();
    let command = move || {
        let mut command = uplink_sim(line.split_whitespace());
        command.env("RUST_LOG", "trace");
        command
    };
    Case { command: Box::new(command), code, is_output: false }
}

/// Makes what an output goes to.
type Sink = fn() -> Stdio;

impl Case {
    /// Runs the command with every combination of outputs that cannot be written.
    fn check(&self) {
        expect_exit(&mut (self.command)(), self.code);
        let ends: [(&str, Sink); 3] =
            [("null", Stdio::null), ("a pipe without a reader", unread_pipe), ("a full device", full_device)];
        for (out, stdout) in ends {
            for (err, stderr) in ends {
                let mut command = (self.command)();
                command.stdout(stdout()).stderr(stderr());
                let status = command.status().unwrap();
                let code = if self.is_output && out == "a full device" { 1 } else { self.code };
                assert_eq!(status.code(), Some(code), "{command:?} with stdout {out}, stderr {err}");
            }
        }
    }
}

/// An archive with three frames, and the same with a damaged one.
fn archives(home: &Path) -> (String, String) {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7).epoch(3));
    client.deliver(ROUTINE, 4, b"routine");
    client.deliver(EMERGENCY, 5, b"emergency");
    client.bye([6, 5]);
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(8).kind(1));
    client.deliver(ROUTINE, 0, b"replayed");
    client.bye([0, 1]);
    daemon.stop();
    let [sound, damaged] = ["sound", "damaged"].map(|name| home.join(name));
    for dir in [&sound, &damaged] {
        std::fs::create_dir(dir).unwrap();
        for entry in std::fs::read_dir(daemon.archive_dir()).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
            }
        }
    }
    let segment = damaged.join("00000000000000000000.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(9).position(|window| window == b"emergency").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    (sound.display().to_string(), damaged.display().to_string())
}

#[test]
fn usage_and_configurations() {
    let home = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let dir = home.path().display();
    std::fs::write(home.path().join("bad"), "nonsense").unwrap();
    std::fs::write(home.path().join("good"), format!("data_dir = \"{dir}/data\"")).unwrap();
    let busy = format!("data_dir = \"{dir}/data\"\n[ingest]\nlisten = \"{address}\"");
    std::fs::write(home.path().join("busy"), busy).unwrap();
    std::fs::write(
        home.path().join("open"),
        format!("data_dir = \"{dir}/data\"\n[feed]\nlisten = \"[::]:7481\""),
    )
    .unwrap();
    let cases = [
        case(0, "--version"),
        case(0, "archive --help"),
        case(2, "--nonsense"),
        case(2, "archive"),
        case(2, format!("check --config {dir}/bad")),
        case(2, format!("check --config {dir}/missing")),
        case(2, format!("check --config {dir}/open")),
        case(0, format!("check --config {dir}/good")),
        case(2, format!("run --config {dir}/bad")),
        case(1, format!("run --config {dir}/busy")),
        case(0, "demo"),
        sim(0, "--help"),
        sim(2, "--nonsense"),
        sim(2, "--input /missing"),
        sim(2, "--link cadu"),
    ];
    cases.iter().for_each(Case::check);
}

#[test]
fn commands_on_an_archive() {
    let home = tempfile::tempdir().unwrap();
    let (sound, damaged) = archives(home.path());
    let dir = home.path().display();
    let mut cases = vec![
        output(format!("archive ls {sound}")),
        output(format!("archive cat {sound}")),
        output(format!("archive cat {sound} --format payload")),
        case(0, format!("archive cat {sound} --source 9")),
        case(2, format!("archive cat {sound} --from-offset 2 --to-offset 1")),
        case(0, format!("archive verify {sound}")),
        case(1, format!("archive verify {damaged}")),
        case(0, format!("archive export {sound} --format csv --out {dir}/csv")),
        case(1, format!("archive export {damaged} --format csv --out {dir}/damaged-csv")),
        case(1, format!("archive repair {damaged} --out {sound}")),
    ];
    for command in ["ls", "verify", "cat", "export --out /missing", "repair --out /missing"] {
        cases.push(case(1, format!("archive {command} {dir}/missing")));
    }
    cases.iter().for_each(Case::check);

    // The copy must be there, and complete.
    let copy = format!("{dir}/copy");
    let mut repair = aggregator(["archive", "repair", &damaged, "--out", &copy]);
    let status = repair.stdout(unread_pipe()).stderr(unread_pipe()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    expect_exit(&mut aggregator(["archive", "verify", &copy]), 0);
}

#[test]
fn commands_that_ask_a_daemon() {
    let home = tempfile::tempdir().unwrap();
    let (sound, _) = archives(home.path());
    let dir = home.path().display();
    std::fs::write(home.path().join("packets"), [0x08, 0, 0xc0, 0, 0, 0, 7].repeat(3)).unwrap();
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    client.deliver(ROUTINE, 0, b"routine");
    let (ingest, feed, http) = (daemon.address(), daemon.feed(), daemon.http());
    let simulate = format!("--connect {ingest} --satellites 1 --replays 0 --frames 3");
    let cases = [
        case(0, format!("health --url http://{http}")),
        case(0, format!("streams forget --url http://{http} --source 99")),
        case(1, format!("streams forget --url http://{http} --source 7")),
        case(2, format!("streams forget --url http://{http}")),
        output(format!("streams ls --url http://{http}")),
        output(format!("top --once --url http://{http}")),
        output(format!("top --once --json --url http://{http}")),
        case(2, format!("top --url http://{http}")),
        output(format!("tail --connect {feed} --from earliest --limit 1")),
        case(2, "tail --from nonsense"),
        case(1, format!("tail --connect {feed} --from 0 --log-id 1")),
        case(0, format!("replay --archive {sound} --connect {ingest} --speed max")),
        case(0, format!("import {dir}/packets --framing packet --source 5 --connect {ingest}")),
        case(
            1,
            format!("import {sound}/00000000000000000000.seg --framing packet --source 5 --connect {ingest}"),
        ),
        case(2, format!("import {dir}/packets --framing nonsense")),
        sim(0, simulate.clone()),
        sim(0, format!("{simulate} --report json")),
    ];
    cases.iter().for_each(Case::check);
    assert_eq!(get(http, "/readyz").status, 200);

    wait_until(
        "the end of all connections but one",
        || match &get(http, "/api/v1/stats").json()["connections"] {
            connections if connections["sources"] == 1 => Ok(()),
            connections => Err(connections.to_string()),
        },
    );
    // Every stream that is not connected is forgotten, although no line can be written.
    let mut forget =
        aggregator(["streams", "forget", "--offline-for", "0s", "--url", &format!("http://{http}")]);
    let status = forget.stdout(unread_pipe()).stderr(unread_pipe()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(get(http, "/api/v1/sources").json()["total"], 1);

    // The catalog is saved after the report.
    let catalog = home.path().join("catalog");
    request(http, "PUT", "/api/v1/catalog", &[], CATALOG.as_bytes());
    let mut save = uplink_sim(format!("{simulate} --rate 2 --save-catalog").split(' '));
    let status = save.arg(&catalog).stdout(unread_pipe()).stderr(unread_pipe()).status().unwrap();
    assert_eq!((status.code(), std::fs::read_to_string(&catalog).unwrap().as_str()), (Some(0), CATALOG));
}

#[test]
fn commands_that_no_daemon_answers() {
    let home = tempfile::tempdir().unwrap();
    let (sound, _) = archives(home.path());
    let port = Port::hold();
    let nobody = port.address();
    let cases = [
        case(1, format!("health --url http://{nobody}")),
        case(1, format!("top --once --url http://{nobody}")),
        case(1, format!("streams ls --url http://{nobody}")),
        case(1, format!("streams forget --url http://{nobody} --source 1")),
        case(1, format!("tail --connect {nobody} --retry-for 10ms")),
        case(1, format!("replay --archive {sound}/missing --connect {nobody}")),
        case(1, format!("import {sound}/missing --framing packet --source 5 --connect {nobody}")),
        sim(
            1,
            format!("--connect {nobody} --satellites 1 --replays 0 --frames 3 --duration 10ms --linger 10ms"),
        ),
    ];
    cases.iter().for_each(Case::check);
}
