//! The daemon names a stage that hangs. The service manager receives no ping until the stage continues.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use telemetry_aggregator::systemd::{Manager, Notifier};

use crate::support::manager::FakeManager;
use crate::support::{Client, HeldDaemon, Hello, LIMIT, ROUTINE};

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

/// The log of this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Collects the log from this call on. A process has one log, so only one test may call this.
    fn of_this_process() -> Self {
        let log = Self::default();
        let writer = log.clone();
        let set = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).try_init();
        set.expect("the log of this process is somebody else's");
        log
    }

    fn wait_line(&self, parts: [&str; 2]) -> String {
        let started = Instant::now();
        loop {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            if let Some(line) = text.lines().find(|line| parts.iter().all(|part| line.contains(part))) {
                return line.to_owned();
            }
            assert!(started.elapsed() < LIMIT, "no line with {parts:?} in {text}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_sync_that_hangs_ends_the_pings_and_is_named() {
    let log = Log::of_this_process();
    let manager = FakeManager::start();
    let notifier = Notifier::to(&manager.path()).unwrap();
    let mut daemon = HeldDaemon::start_under(
        Manager { notifier, watchdog: Some(INTERVAL), ..Manager::default() },
        "[shutdown]\ndeadline = \"10s\"",
    );
    let watched = log.wait_line(["watchdog started", "interval=3s"]);
    for stage in STAGES {
        assert!(watched.contains(stage), "no {stage}: {watched}");
    }
    manager.expect_pings(3, INTERVAL);

    daemon.hold();
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1));
    client.frame(ROUTINE, 0, b"frame");
    daemon.wait_sync();
    let line = log.wait_line(["hangs", "stage=\"archive-commit\""]);
    assert!(line.contains("ERROR") && line.contains("3s"), "{line}");
    manager.expect_no_ping(INTERVAL);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("this stage hangs").count(), 1, "no other stage hangs: {text}");

    daemon.release();
    client.wait_durable(ROUTINE, 1);
    log.wait_line(["this stage continues", "stage=\"archive-commit\""]);
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
