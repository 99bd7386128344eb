//! A restart under load with sockets that the service manager keeps: no connection is refused, no frame is lost.

use std::net::TcpListener;
use std::process::Command;

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::process::Signal;
use sim::Plan;

use crate::support::command::{aggregator, expect_exit};
use crate::support::fleet::{Fleet, FleetLog};
use crate::support::prober::Prober;
use crate::support::{Daemon, LIMIT, Launch};

const ROUNDS: u64 = 4;
/// Frames of the fleet that are acknowledged between restarts.
const LIFE_FRAMES: u64 = 5_000;
/// `LISTEN_PID` must be the process id of the daemon. The shell knows it, because the shell becomes the daemon.
pub(super) const THROUGH: [&str; 3] = ["sh", "-c", "export LISTEN_PID=$$; exec \"$0\" \"$@\""];

/// Listening sockets that outlive each daemon, like those of a service manager.
struct Sockets {
    ingest: TcpListener,
    feed: TcpListener,
}

impl Sockets {
    fn bind() -> Self {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        Self { ingest: bind(), feed: bind() }
    }

    fn hand_over(&self, command: &mut Command) {
        command.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", "feed:ingest");
        let copies = [&self.feed, &self.ingest].map(|socket| socket.try_clone().unwrap());
        let mapping = |(index, copy): (usize, TcpListener)| FdMapping {
            parent_fd: copy.into(),
            child_fd: 3 + index as i32,
        };
        command.fd_mappings(copies.into_iter().enumerate().map(mapping).collect()).unwrap();
    }
}

#[test]
fn no_client_is_refused_and_no_frame_is_lost_across_restarts() {
    let sockets = Sockets::bind();
    let addresses = [&sockets.ingest, &sockets.feed].map(|socket| socket.local_addr().unwrap());
    let prepare = |command: &mut Command| sockets.hand_over(command);
    let launch = Launch { through: &THROUGH, prepare: &prepare };
    let plan = Plan {
        connect: addresses[0].to_string(),
        satellites: 8,
        replays: 2,
        rate: 4_000.0,
        payload_bytes: 200,
        emergency_ratio: 0.05,
        linger: LIMIT,
        ..Plan::default()
    };

    // The prober connects before a daemon runs.
    let prober = Prober::start(addresses);
    let fleet = Fleet::start(plan.clone());
    let mut daemon = Daemon::launch_at(tempfile::tempdir().unwrap(), "", &launch);
    assert_eq!([daemon.address(), daemon.feed()], addresses);
    for _ in 0..ROUNDS {
        fleet.wait_acked(LIFE_FRAMES);
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.wait_exit(LIMIT).code, Some(0), "exit code after SIGTERM");
        daemon.final_books().assert_balanced();
        // Connections while no daemon runs.
        prober.wait_connected(4);
        daemon = daemon.relaunch(&launch);
    }
    fleet.wait_acked(LIFE_FRAMES);
    let report = fleet.stop_connected();
    prober.stop();
    assert!(report.is_complete(), "{report}");
    assert!(report.reconnects >= ROUNDS, "the fleet did not live through the restarts: {report}");
    daemon.stop();

    let dir = daemon.archive_dir();
    assert_eq!(
        FleetLog::read(&plan, &dir, |frame| panic!("{frame:?}")),
        report.sent,
        "frames in the archive"
    );
    let (lines, _) = expect_exit(aggregator(["archive", "cat"]).arg(&dir), 0);
    assert_eq!(lines.lines().count() as u64, report.sent, "lines of archive cat");
}
