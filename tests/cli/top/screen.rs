//! The screen of `top` in a terminal of tmux.

use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, kill_process};
use tempfile::TempDir;

use super::url;
use crate::support::command::expect_exit;
use crate::support::{Client, Daemon, EMERGENCY, Hello, LIMIT, Port, Signal, not_tested, wait_until};

/// A tmux terminal that runs a command. The end of the command shows whether the terminal state is restored.
pub struct Terminal {
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

    pub fn type_key(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    fn wait_screen(&self, what: &str, is_met: impl Fn(&str) -> bool) -> String {
        wait_until(what, || {
            let screen = self.tmux(&["capture-pane", "-p"]);
            if is_met(&screen) { Ok(screen) } else { Err(screen) }
        })
    }

    pub fn wait_text(&self, text: &str) -> String {
        self.wait_screen(text, |screen| screen.contains(text))
    }

    /// Asserts that the command ended with 0 and restored the terminal.
    pub fn expect_given_back(&self) {
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

pub fn top_in_terminal(url: &str, columns: u16, rows: u16) -> Option<Terminal> {
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
    wait_until("the end of top", || match std::fs::read_to_string(&stat) {
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
