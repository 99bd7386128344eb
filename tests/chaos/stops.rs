//! SIGSTOP and SIGCONT: a daemon, the process of a source or of a subscriber stands still and goes on.

use std::fs::File;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use rustix::process::{Pid, kill_process};
use sim::Plan;

use crate::audit::frames;
use crate::scene::{Scene, pass};
use crate::support::command::{aggregator, uplink_sim};
use crate::support::fleet::FleetLog;
use crate::support::{Daemon, Signal, wait_until};

/// The name in the table of figures.
pub const NAME: &str = "SIGSTOP of the daemon for 0.3 to 6 s";

/// Longer than 3 heartbeats of 1 s: the daemon ends the connection.
const LONG: Duration = Duration::from_millis(4_500);

/// Stops the daemon of `scene` for a time. Returns when it goes on.
pub fn strike(scene: &mut Scene, rng: &mut StdRng) -> Instant {
    scene.daemon().signal(Signal::STOP);
    await_stopped(scene.daemon().pid());
    scene.assert_nothing_acked(Duration::from_millis(rng.random_range(0..5_700)));
    scene.daemon().signal(Signal::CONT);
    Instant::now()
}

/// Waits until the kernel says that the process has stopped.
fn await_stopped(pid: u32) {
    wait_until("a stopped process", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|error| error.to_string())?;
        // The state follows the name in parentheses.
        if stat.contains(") T ") { Ok(()) } else { Err(stat) }
    });
}

/// A process that ends with its test.
struct Process(Option<Child>);

impl Process {
    fn start(command: &mut Command) -> Self {
        Self(Some(command.spawn().expect("the process starts")))
    }

    fn id(&self) -> u32 {
        self.0.as_ref().expect("it runs").id()
    }

    /// Waits for its end.
    fn output(&mut self) -> Output {
        self.0.take().expect("it runs").wait_with_output().expect("waiting fails")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn signal(process: &Process, signal: Signal) {
    let pid = Pid::from_raw(process.id() as i32).expect("a process id");
    kill_process(pid, signal).expect("the process cannot be signalled");
}

/// Stops a process until the daemon has ended its connection.
fn stop_long(process: &Process) {
    signal(process, Signal::STOP);
    await_stopped(process.id());
    pass(LONG);
    signal(process, Signal::CONT);
}

#[test]
fn sources_and_a_subscriber_that_stood_still_go_on_without_loss() {
    let mut daemon = Daemon::start("[ingest]\nheartbeat = \"1s\"");
    let plan =
        Plan { satellites: 8, replays: 0, rate: 200.0, seed: 7, payload_bytes: 200, ..Plan::default() };
    let mut sim = uplink_sim(["--satellites", "8", "--replays", "0", "--rate", "200", "--seed", "7"]);
    sim.args(["--payload", "200", "--report", "json", "--connect", &daemon.address().to_string()]);
    let mut sim = Process::start(sim.stdout(Stdio::piped()).stderr(Stdio::null()));
    let dir = tempfile::tempdir().expect("no temporary directory");
    let heard = dir.path().join("tail.jsonl");
    let mut tail = aggregator(["tail", "--from", "earliest", "--connect", &daemon.feed().to_string()]);
    let out = File::create(&heard).expect("a file for the frames");
    let mut tail = Process::start(tail.stdout(out).stderr(Stdio::null()));

    let grows = |what: &str| {
        let before = std::fs::metadata(&heard).map_or(0, |file| file.len());
        wait_until(what, || match std::fs::metadata(&heard).map_or(0, |file| file.len()) {
            bytes if bytes > before + 100_000 => Ok(()),
            bytes => Err(format!("{bytes} bytes after {before}")),
        });
    };
    grows("frames at the subscriber");
    stop_long(&sim);
    daemon.wait_line("code=\"idle\"");
    grows("frames after the stop of the sources");
    stop_long(&tail);
    grows("frames after the stop of the subscriber");

    signal(&sim, Signal::INT);
    let sim = sim.output();
    let report = String::from_utf8_lossy(&sim.stdout).into_owned();
    assert!(sim.status.success(), "{report}");
    let sent = serde_json::from_str::<serde_json::Value>(&report).unwrap()["sent"].as_u64().unwrap();
    let stored = daemon.archived().len() as u64;
    wait_until("all frames at the subscriber", || {
        let lines = std::fs::read_to_string(&heard).unwrap().lines().count() as u64;
        if lines >= stored { Ok(()) } else { Err(format!("{lines} of {stored}")) }
    });
    signal(&tail, Signal::INT);
    tail.output();
    daemon.stop();
    assert_eq!(FleetLog::read(&plan, &daemon.archive_dir(), |frame| panic!("{frame:?}")), sent);
    let heard: Vec<_> = frames(File::open(&heard).unwrap()).collect();
    assert!(heard == daemon.archived(), "the subscriber has other frames than the archive");
}
