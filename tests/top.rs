//! `top` and `health` against the real daemon, and the screen of `top` in its own terminal.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, kill_process};
use serde_json::{Value, json};
use support::command::{aggregator, expect_exit, output};
use support::http::get_json;
use support::{Client, Daemon, EMERGENCY, Hello, LIMIT, Port, ROUTINE, Signal, not_tested};
use tempfile::TempDir;

/// Repeats `found` until it returns a value.
fn wait<T>(what: &str, mut found: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        let last = match found() {
            Ok(found) => return found,
            Err(last) => last,
        };
        assert!(started.elapsed() < LIMIT, "waiting for {what}, but: {last}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn url(daemon: &Daemon) -> String {
    format!("http://{}", daemon.http())
}

fn top(daemon: &Daemon, args: &[&str]) -> Command {
    let mut command = aggregator(["top", "--url", &url(daemon)]);
    command.args(args);
    command
}

/// A daemon to which sources 7 and 8 have sent frames and disconnected. The rates are back to zero.
fn settled() -> Daemon {
    let daemon = Daemon::start("");
    for source_id in [7, 8] {
        let (mut client, _) = Client::open(daemon.address(), &Hello::new(source_id).station("KIRUNA"));
        client.deliver(ROUTINE, 0, b"0123456789");
        client.deliver(EMERGENCY, 2, b"SAFE_MODE\x00");
        client.bye([3, 1]);
    }
    wait("sources offline and at rest", || {
        let sources = get_json(daemon.http(), "/api/v1/sources");
        let is_at_rest = |source: &Value| {
            let lanes = &source["lanes"];
            source["state"] == "ended"
                && lanes["routine"]["frames_per_s"] == 0.0
                && lanes["emergency"]["frames_per_s"] == 0.0
        };
        let all = sources["sources"].as_array().unwrap();
        if all.len() == 2 && all.iter().all(is_at_rest) { Ok(()) } else { Err(sources.to_string()) }
    });
    daemon
}

/// Removes the rates, which may still include frames of the second before.
fn without_rates(sources: &Value) -> Value {
    let mut sources = sources.clone();
    for source in sources["sources"].as_array_mut().unwrap() {
        for lane in ["emergency", "routine"] {
            source["lanes"][lane]["frames_per_s"] = Value::Null;
            source["lanes"][lane]["bytes_per_s"] = Value::Null;
        }
    }
    sources
}

#[test]
fn once_prints_what_the_api_reports() {
    let daemon = settled();
    let (text, _) = expect_exit(&mut top(&daemon, &["--once"]), 0);
    for expected in [
        "RUNNING",
        "balanced",
        "SAFE_MODE",
        "source 8 KIRUNA #2",
        "sources 2, by source",
        "ended",
        "NO SOURCES",
    ] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
    assert!(!text.contains('\x1b'), "{text:?}");

    let (out, _) = expect_exit(&mut top(&daemon, &["--once", "--json"]), 0);
    let printed: Value = serde_json::from_str(&out).expect("JSON");
    let (stats, sources) =
        (get_json(daemon.http(), "/api/v1/stats"), get_json(daemon.http(), "/api/v1/sources"));
    assert_eq!(without_rates(&printed["sources"]), without_rates(&sources));
    for settled in [
        "service",
        "version",
        "state",
        "unready",
        "started_ms",
        "frames",
        "missing",
        "connections",
        "refusals",
        "subscribers",
        "emergencies",
    ] {
        assert_eq!(printed["stats"][settled], stats[settled], "{settled}");
    }
    let keys = |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(keys(&printed["stats"]), keys(&stats));
    assert_eq!(keys(&printed), ["sources", "stats"]);
}

#[test]
fn sources_can_be_selected() {
    let daemon = settled();
    let ids = |args: &[&str]| -> (Value, Vec<u64>) {
        let (out, _) = expect_exit(&mut top(&daemon, args), 0);
        let printed: Value = serde_json::from_str(&out).expect("JSON");
        let sources = &printed["sources"];
        let ids = sources["sources"].as_array().unwrap().iter().map(|one| one["source_id"].as_u64().unwrap());
        (sources["total"].clone(), ids.collect())
    };
    assert_eq!(ids(&["--once", "--json", "--source", "8"]), (json!(1), vec![8]));
    assert_eq!(
        ids(&["--once", "--json", "--source", "8", "--source", "9", "--source", "7"]),
        (json!(2), vec![7, 8])
    );
    let (text, _) = expect_exit(&mut top(&daemon, &["--once", "--source", "9"]), 0);
    assert!(text.contains("sources 0,"), "{text}");
}

/// A daemon with a link that cannot listen, a link that listens, and an output. Drop the listener last.
fn linked() -> (Daemon, TcpListener) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let link = |name: &str, at: &str| {
        format!(
            "[[links]]\nname = {name:?}\nlisten = {at:?}\nframing = {{ kind = \"packet\", max = 1024 }}\nsource = \"apid\"\n"
        )
    };
    let links = link("taken", &address.to_string()) + &link("packets", "127.0.0.1:0");
    let output = "[[outputs]]\nname = \"yamcs\"\nlisten = \"127.0.0.1:0\"\n";
    let daemon = Daemon::start(&(links + output));
    wait("a link that has failed and an output that listens", || {
        let (links, outputs) =
            (get_json(daemon.http(), "/api/v1/links"), get_json(daemon.http(), "/api/v1/outputs"));
        let states = links["links"].as_array().unwrap().iter().map(|link| link["state"].as_str().unwrap());
        let is_settled = states.eq(["listening", "failed"]) && outputs["outputs"][0]["state"] == "listening";
        if is_settled { Ok(()) } else { Err(format!("{links:#} {outputs:#}")) }
    });
    (daemon, taken)
}

#[test]
fn links_and_outputs_are_shown_and_their_trouble_is_noticed() {
    let (daemon, _taken) = linked();
    let (text, _) = expect_exit(&mut top(&daemon, &["--once"]), 0);
    let banner = "LINKS: 1 of 2 in trouble: taken failed: cannot listen on 127.0.0.1:";
    for expected in [banner, "links 2, 1 in trouble", "outputs 1, 0 in trouble", "yamcs ", "sources 0,"] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
    let (out, _) = expect_exit(&mut top(&daemon, &["--once", "--json"]), 0);
    let printed: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(printed["outputs"], get_json(daemon.http(), "/api/v1/outputs"));
    assert_eq!(printed["links"]["links"][1]["name"], "taken");

    let Some(terminal) = top_in_terminal(&url(&daemon), 100, 30) else { return };
    let screen = terminal.wait_text("LINKS: 1 of 2 in trouble: taken failed");
    assert!(screen.contains("sources 0,") && screen.contains("l links"), "{screen}");
    terminal.type_key("l");
    let screen = terminal.wait_text("links 2, 1 in trouble");
    let states: Vec<_> = screen.lines().filter(|line| line.contains("listening")).collect();
    assert!(states.len() == 1 && states[0].starts_with("packets "), "{screen}");
    terminal.type_key("l");
    terminal.wait_text("outputs 1, 0 in trouble");
    terminal.type_key("l");
    terminal.wait_text("sources 0,");
    terminal.type_key("q");
    terminal.expect_given_back();
}

#[test]
fn top_without_a_daemon_or_a_terminal_reports_it() {
    let closed = Port::hold();
    let url = format!("http://{}", closed.address());
    let (_, error) = expect_exit(&mut aggregator(["top", "--url", &url, "--once"]), 1);
    assert_eq!(error, format!("telemetry-aggregator: {url}: cannot connect: connection refused\n"));
    let (_, error) = expect_exit(&mut aggregator(["top", "--url", &url]), 2);
    assert!(error.contains("--once") && error.lines().count() == 1, "{error}");
    let (_, error) = expect_exit(&mut aggregator(["top", "--once", "--url", "ftp://127.0.0.1"]), 2);
    assert!(error.contains("http://127.0.0.1:7482"), "{error}");
    expect_exit(&mut aggregator(["top", "--json"]), 2);
    expect_exit(&mut aggregator(["top", "--interval", "1ms"]), 2);
}

#[test]
fn health_is_the_exit_code() {
    let daemon = Daemon::start("");
    let url = url(&daemon);
    let health = |args: &[&str]| {
        let mut command = aggregator(["health", "--url", &url]);
        command.args(args);
        command
    };
    assert_eq!(expect_exit(&mut health(&[]), 0), ("healthy\n".into(), "".into()));
    assert_eq!(expect_exit(&mut health(&["--ready"]), 0), ("ready\n".into(), "".into()));
    // A silent client keeps the drain waiting for some time.
    let (_silent, _) = Client::open(daemon.address(), &Hello::new(1));
    daemon.signal(Signal::TERM);
    let error = wait("a daemon that is not ready", || {
        let ran = output(&mut health(&["--ready"]));
        match ran.status.code() {
            Some(1) => Ok(String::from_utf8(ran.stderr).unwrap()),
            code => Err(format!("exit {code:?}")),
        }
    });
    let begins = format!("telemetry-aggregator: not ready: {url}/readyz: draining: ");
    assert!(error.starts_with(&begins) && error.lines().count() == 1, "{error}");
}

#[test]
fn health_prints_the_reason_of_a_failure() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = Port::hold();
    let cases = [
        (silent.local_addr().unwrap(), "no answer within 100ms"),
        (closed.address(), "cannot connect: connection refused"),
    ];
    for (address, why) in cases {
        let url = format!("http://{address}");
        let (_, said) = expect_exit(&mut aggregator(["health", "--timeout", "100ms", "--url", &url]), 1);
        assert_eq!(said, format!("telemetry-aggregator: not healthy: {url}/healthz: {why}\n"));
    }
}

/// Answers every request with 200 and `body`, until the process ends.
fn another_server(body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
            // Closing with an unread request would reset the connection.
            drop(socket.read(&mut [0; 4096]));
            drop(socket.write_all(answer.as_bytes()));
        }
    });
    url
}

#[test]
fn another_server_is_not_taken_for_a_daemon() {
    for body in ["{}", "<html>it works</html>", r#"{"status":"ok","ready":true,"reasons":[]}"#] {
        let url = another_server(body);
        for args in
            [&["health"][..], &["health", "--ready"], &["top", "--once"], &["top", "--once", "--json"]]
        {
            let (out, said) = expect_exit(aggregator(args).args(["--url", &url]), 1);
            assert!(out.is_empty(), "{args:?}: {out}");
            assert!(said.contains(&url) && said.lines().count() == 1, "{args:?}: {said}");
            assert!(
                said.contains("this is no telemetry-aggregator") || body.starts_with('<'),
                "{args:?}: {said}"
            );
        }
    }
}

#[test]
fn health_finds_the_daemon_by_its_configuration() {
    let daemon = Daemon::start("[http]\nlisten = \"0.0.0.0:0\"\ntoken = \"a token for the test\"");
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("aggregator.toml");
    let port = daemon.http().port();
    // An unrelated error in the file does not make the daemon unhealthy.
    let text =
        format!("[http]\nlisten = \"0.0.0.0:{port}\"\ntoken_file = \"/gone\"\n[log]\nlevel = \"loud\"\n");
    std::fs::write(&config, text).unwrap();
    expect_exit(aggregator(["health", "--config"]).arg(&config), 0);
    // `health` looks for the file where the daemon looks for it.
    expect_exit(aggregator(["health"]).current_dir(dir.path()), 0);
    let variable = "TELEMETRY_AGGREGATOR__HTTP__LISTEN";
    expect_exit(aggregator(["health"]).env(variable, format!("[::]:{port}")), 0);
    let (_, error) = expect_exit(aggregator(["health"]).env(variable, "127.0.0.1:0"), 2);
    assert!(error.contains("--url"), "{error}");
    std::fs::write(&config, "[http]\nlisten = 7482\n").unwrap();
    let (_, error) = expect_exit(aggregator(["health", "--config"]).arg(&config), 2);
    assert!(error.contains("http.listen"), "{error}");
}

/// A tmux terminal that runs a command. The end of the command shows whether the terminal state is restored.
struct Terminal {
    home: TempDir,
}

/// The terminal prints this, followed by the exit code, when the command has ended.
const ENDED: &str = "ended with";

impl Terminal {
    /// Starts `command` in a terminal. Returns `None` where tmux is missing.
    fn open(command: &str, columns: u16, rows: u16) -> Option<Self> {
        let is_there = Command::new("tmux").arg("-V").stdout(Stdio::null()).status().is_ok();
        if !is_there {
            not_tested(format_args!("the screen of top: there is no tmux"));
            return None;
        }
        let terminal = Self { home: tempfile::tempdir().unwrap() };
        let pid = terminal.pid_file();
        // The commands after `{command}` show whether it restored the terminal.
        let script = format!(
            "sh -c 'echo $$ > {}; exec {command}'; echo {ENDED} $?; stty -a | grep -o -w -e '-*icanon' -e \
             '-*echo'; cat",
            pid.display()
        );
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let tmux = ["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &rows, &script];
        let started = terminal.command(&tmux).env("SHELL", "/bin/sh").status().unwrap();
        assert!(started.success(), "tmux cannot be started");
        Some(terminal)
    }

    fn pid_file(&self) -> std::path::PathBuf {
        self.home.path().join("pid")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.home.path().join("tmux")).args(args);
        command.env_remove("TMUX").env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        command
    }

    fn tmux(&self, args: &[&str]) -> String {
        let (out, _) = expect_exit(&mut self.command(args), 0);
        out
    }

    fn type_key(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    fn wait_screen(&self, what: &str, is_met: impl Fn(&str) -> bool) -> String {
        wait(what, || {
            let screen = self.tmux(&["capture-pane", "-p"]);
            if is_met(&screen) { Ok(screen) } else { Err(screen) }
        })
    }

    fn wait_text(&self, text: &str) -> String {
        self.wait_screen(text, |screen| screen.contains(text))
    }

    /// Asserts that the command ended with 0 and restored the terminal.
    fn expect_given_back(&self) {
        let screen = self.wait_screen("the end", |screen| screen.contains("\necho"));
        let lines: Vec<_> = screen.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines, [&format!("{ENDED} 0"), "icanon", "echo"], "{screen}");
        let state = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(state.trim(), "0 1", "alternate screen and cursor");
    }

    fn pid(&self) -> Pid {
        let pid = std::fs::read_to_string(self.pid_file()).unwrap().trim().parse().unwrap();
        Pid::from_raw(pid).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.command(&["kill-server"]).stderr(Stdio::null()).status());
    }
}

fn top_in_terminal(url: &str, columns: u16, rows: u16) -> Option<Terminal> {
    let program = Path::new(env!("CARGO_BIN_EXE_telemetry-aggregator"));
    Terminal::open(&format!("{} top --interval 100ms --url {url}", program.display()), columns, rows)
}

#[test]
fn the_screen_follows_keys_and_sizes_and_is_restored() {
    let daemon = Daemon::start("");
    let Some(terminal) = top_in_terminal(&url(&daemon), 120, 40) else { return };
    terminal.wait_text("sources 0,");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7).station("KIRUNA"));
    client.deliver(EMERGENCY, 0, b"SAFE_MODE\x00");
    terminal.wait_screen("the source and its emergency", |screen| {
        screen.contains("source 7 KIRUNA #0 SAFE_MODE")
            && screen.lines().any(|line| line.contains("KIRUNA") && line.contains(" connected"))
    });
    terminal.type_key("o");
    terminal.wait_text("sources 1, 0 offline");
    terminal.type_key("?");
    terminal.wait_text("PgUp");
    terminal.type_key("Escape");
    terminal.wait_text("sources 1, 0 offline");
    terminal.tmux(&["resize-window", "-x", "60", "-y", "20"]);
    terminal.wait_screen("the small screen", |screen| screen.lines().any(|line| line.starts_with("newest ")));
    terminal.type_key("q");
    terminal.expect_given_back();
}

#[test]
fn control_c_and_signals_restore_the_screen() {
    let daemon = Daemon::start("");
    for signal in [None, Some(Signal::TERM), Some(Signal::INT)] {
        let Some(terminal) = top_in_terminal(&url(&daemon), 80, 24) else { return };
        terminal.wait_text("RUNNING");
        match signal {
            Some(signal) => terminal.signal(signal),
            None => terminal.type_key("C-c"),
        }
        terminal.expect_given_back();
    }
}

#[test]
fn top_ends_with_its_terminal() {
    let daemon = Daemon::start("");
    let Some(terminal) = top_in_terminal(&url(&daemon), 80, 24) else { return };
    terminal.wait_text("RUNNING");
    let pid = terminal.pid();
    drop(terminal);
    let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
    wait("the end of top", || match std::fs::read_to_string(&stat) {
        // A process that nobody has waited for yet has ended, too.
        Ok(stat) if !stat.contains(") Z ") => Err(stat),
        _ => Ok(()),
    });
}

#[test]
fn top_shows_a_missing_daemon_and_finds_it_when_it_returns() {
    let port = Port::hold();
    let http = port.address();
    let mut daemon = Daemon::start(&format!("[http]\nlisten = \"{http}\""));
    let Some(terminal) = top_in_terminal(&format!("http://{http}"), 80, 24) else { return };
    terminal.wait_text("RUNNING");
    daemon.signal(Signal::KILL);
    daemon.wait_exit(LIMIT);
    let screen = terminal.wait_text("NO ANSWER");
    assert!(screen.contains("RUNNING") && screen.contains("connection refused"), "{screen}");
    let _daemon = daemon.restart();
    terminal.wait_screen("the daemon again", |screen| {
        screen.contains("RUNNING") && !screen.contains("NO ANSWER")
    });
    terminal.type_key("q");
    terminal.expect_given_back();
}
