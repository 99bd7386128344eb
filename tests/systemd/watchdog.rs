//! The daemon names a stage that hangs. The service manager receives no ping until the stage continues.

use std::sync::Mutex;
use std::time::Duration;

use telemetry_aggregator::systemd::{Manager, Notifier};

use crate::support::lines::Lines;
use crate::support::manager::FakeManager;
use crate::support::{Client, HeldDaemon, Hello, ROUTINE};

const INTERVAL: Duration = Duration::from_secs(3);
const STAGES: [&str; 9] = [
    "archive-commit",
    "archive-upkeep",
    "feed listener",
    "feed tail",
    "ingest listener",
    "links",
    "processor",
    "router",
    "subscriber registry",
];

/// Collects the log of this process from this call on. A process has one log, so only one test may call this.
fn log_of_this_process() -> Lines {
    let (reader, writer) = std::io::pipe().unwrap();
    let set = tracing_subscriber::fmt().with_ansi(false).with_writer(Mutex::new(writer)).try_init();
    set.expect("the log of this process is somebody else's");
    Lines::read(reader)
}

/// Waits for a line with all `parts`.
fn wait_line(log: &Lines, parts: [&str; 2]) -> String {
    let is_it = |line: &&String| parts.iter().all(|part| line.contains(part));
    log.wait(&format!("a line with {parts:?}"), |lines| lines.iter().find(is_it).cloned())
}

#[test]
fn a_sync_that_hangs_ends_the_pings_and_is_named() {
    let log = log_of_this_process();
    let manager = FakeManager::start();
    let notifier = Notifier::to(&manager.path()).unwrap();
    let mut daemon = HeldDaemon::start_under(
        Manager { notifier, watchdog: Some(INTERVAL), ..Manager::default() },
        "[shutdown]\ndeadline = \"10s\"",
    );
    let watched = wait_line(&log, ["watchdog started", "interval=3s"]);
    for stage in STAGES {
        assert!(watched.contains(stage), "no {stage}: {watched}");
    }
    manager.expect_pings(3, INTERVAL);

    daemon.hold();
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1));
    client.frame(ROUTINE, 0, b"frame");
    daemon.wait_sync();
    let line = wait_line(&log, ["hangs", "stage=\"archive-commit\""]);
    assert!(line.contains("ERROR") && line.contains("3s"), "{line}");
    manager.expect_no_ping(INTERVAL);
    let hanging: Vec<_> = log.all().into_iter().filter(|line| line.contains("this stage hangs")).collect();
    assert_eq!(hanging.len(), 1, "no other stage hangs: {hanging:#?}");

    daemon.release();
    client.wait_durable(ROUTINE, 1);
    wait_line(&log, ["this stage continues", "stage=\"archive-commit\""]);
    manager.expect_pings(3, INTERVAL);

    // In a drain the deadline limits the time. A slow archive must not trip the watchdog.
    daemon.hold();
    client.frame(ROUTINE, 1, b"frame");
    daemon.wait_sync();
    daemon.begin_stop();
    manager.wait(0, "STOPPING", |text| text.starts_with("STOPPING=1"));
    manager.expect_pings(6, INTERVAL);
    daemon.release();
    assert_eq!(daemon.wait_end().exit_code(), 0);
}
