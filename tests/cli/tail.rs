//! `tail` as a process: its output, its messages and its end.

mod ends;
mod frames;

use std::net::SocketAddr;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use rustix::process::{Pid, kill_process};

use crate::support::command::{aggregator, expect_exit};
use crate::support::lines::Lines;
use crate::support::{Client, Daemon, EMERGENCY, Hello, Port, ROUTINE, Signal};

fn tail(feed: SocketAddr, args: &str) -> Command {
    let mut command = aggregator(["tail", "--connect", &feed.to_string()]);
    command.args(args.split_whitespace());
    command
}

/// A running `tail`. If the test fails before it ends, the drop kills it.
struct Tail {
    child: Child,
    out: Lines,
    err: Lines,
}

impl Tail {
    fn start(command: &mut Command) -> Self {
        let (child, out, err) = spawn(command);
        Self { child, out: Lines::read(out), err: Lines::read(err) }
    }

    fn wait_out(&self, count: usize) {
        self.out.wait(&format!("{count} lines"), |lines| (lines.len() >= count).then_some(()));
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("no signal");
    }

    /// Waits until `tail` ends. Returns the exit code, stdout and stderr.
    fn end(mut self) -> (Option<i32>, Vec<String>, Vec<String>) {
        let status = self.child.wait().expect("it can be waited for");
        (status.code(), self.out.read_to_end(), self.err.read_to_end())
    }

    fn interrupt(self) -> (Option<i32>, Vec<String>, Vec<String>) {
        self.signal(Signal::INT);
        self.end()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(command: &mut Command) -> (Child, ChildStdout, ChildStderr) {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it cannot be started");
    let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    (child, out, err)
}

/// Sends one frame of each of two sources for every sequence in `sequences`, on both lanes. Returns when all are
/// durable.
fn send(ingest: SocketAddr, sequences: std::ops::Range<u64>) {
    for source_id in [1, 2] {
        let (mut client, _) = Client::open(ingest, &Hello::new(source_id).station("Kiruna"));
        for sequence in sequences.clone() {
            client.frame_within_credit(
                if sequence % 10 == 3 { EMERGENCY } else { ROUTINE },
                sequence,
                format!("{source_id}/{sequence}").as_bytes(),
            );
        }
        let last = |lane: usize| sequences.clone().rev().find(|s| (s % 10 == 3) == (lane == EMERGENCY));
        for lane in [EMERGENCY, ROUTINE] {
            if let Some(last) = last(lane) {
                client.wait_durable(lane, last + 1);
            }
        }
    }
}

/// The output of `archive cat` for the daemon's archive.
fn cat(daemon: &Daemon, args: &str) -> Vec<String> {
    let mut command = aggregator(["archive", "cat"]);
    command.arg(daemon.archive_dir()).args(args.split_whitespace());
    expect_exit(&mut command, 0).0.lines().map(str::to_owned).collect()
}

/// A configuration that gives the feed a fixed port, and that port. The port stays reserved while no daemon runs.
fn fixed() -> (String, Port) {
    let port = Port::hold();
    (format!("[feed]\nlisten = \"{}\"", port.address()), port)
}
