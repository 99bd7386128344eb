//! A container that is stopped, killed and replaced.

use std::time::{Duration, SystemTime};

use sim::Plan;

use crate::alone;
use crate::container::{Container, DATA_DIR, Secrets, Volume};
use crate::image::image;
use crate::support::fleet::{Fleet, FleetLog};
use crate::support::{Books, LIMIT, Port};

/// Frames of the fleet that are acknowledged before the test goes on.
const LIFE_FRAMES: u64 = 20_000;
/// `shutdown.deadline` of the configuration in the image, and time for the engine to see the end.
const DRAIN_MAX: Duration = Duration::from_secs(6);

/// A fleet with enough frames that each moment finds some under way.
fn plan(port: &Port, secrets: &Secrets) -> Plan {
    Plan {
        connect: port.address().to_string(),
        satellites: 8,
        replays: 2,
        rate: 1_000.0,
        emergency_ratio: 0.05,
        linger: LIMIT,
        token: secrets.ingest(),
        ..Plan::default()
    }
}

/// Sends SIGTERM and waits for the end, which must be in order and in time. Returns the books.
fn drain(container: &Container) -> Books {
    let asked = SystemTime::now();
    container.kill("TERM");
    assert_eq!(container.wait_exit(), "0", "exit code after SIGTERM");
    let finished = container.inspect("{{.State.FinishedAt}}");
    let finished = humantime::parse_rfc3339(&finished).expect("a time");
    let took = finished.duration_since(asked).unwrap_or_default();
    assert!(took < DRAIN_MAX, "the drain took {took:?}");
    eprintln!("drained in {took:?}");
    let line = container.last_line("drained");
    let number = |name: &str| line[name].as_u64().unwrap_or_else(|| panic!("{name} in {line}"));
    let books = Books {
        received: number("received"),
        archived: number("archived"),
        duplicates: number("duplicates"),
        rejected: number("rejected"),
        undelivered: number("undelivered"),
        not_stored: line["not_stored"].as_u64().unwrap_or(0),
    };
    books.assert_balanced();
    books
}

#[test]
fn the_daemon_runs_without_rights_and_writes_to_its_volume_alone() {
    let Some(image) = image("rights of the container") else { return };
    let (volume, secrets, port) = (Volume::new(), Secrets::new(), Port::hold());
    let container = Container::start(&image, &volume, &secrets, port.address());
    container.wait_healthy();
    assert_eq!(container.inspect("{{.HostConfig.ReadonlyRootfs}}"), "true");
    let status = container.exec(&["cat", "/proc/1/status"]);
    for expected in
        ["Uid:\t10001\t10001\t", "Gid:\t10001\t10001\t", "CapEff:\t0000000000000000\n", "NoNewPrivs:\t1\n"]
    {
        assert!(status.contains(expected), "no {expected:?} in {status}");
    }
    let written = container.exec(&["find", DATA_DIR, "-maxdepth", "1", "-user", "10001", "-name", "archive"]);
    assert_eq!(written, format!("{DATA_DIR}/archive"));
    drain(&container);
}

#[test]
fn sigterm_drains_and_a_new_container_continues_on_the_volume() {
    let Some(image) = image("drain of the container") else { return };
    let _alone = alone();
    let (volume, secrets, port) = (Volume::new(), Secrets::new(), Port::hold());
    let plan = plan(&port, &secrets);
    let mut container = Container::start(&image, &volume, &secrets, port.address());
    container.wait_healthy();
    let fleet = Fleet::start(plan.clone());
    for _ in 0..3 {
        fleet.wait_acked(LIFE_FRAMES);
        let books = drain(&container);
        assert!(books.archived >= LIFE_FRAMES && books.undelivered == 0, "{books:?}");
        drop(container);
        container = Container::start(&image, &volume, &secrets, port.address());
    }
    fleet.wait_acked(LIFE_FRAMES);
    expect_all(fleet, &plan, &container);
}

#[test]
fn a_killed_container_loses_nothing_that_was_acknowledged() {
    let Some(image) = image("SIGKILL of the container") else { return };
    let _alone = alone();
    let (volume, secrets, port) = (Volume::new(), Secrets::new(), Port::hold());
    let plan = plan(&port, &secrets);
    let mut container = Container::start(&image, &volume, &secrets, port.address());
    let fleet = Fleet::start(plan.clone());
    for _ in 0..3 {
        fleet.wait_acked(LIFE_FRAMES);
        container.kill("KILL");
        assert_eq!(container.wait_exit(), "137");
        drop(container);
        container = Container::start(&image, &volume, &secrets, port.address());
    }
    fleet.wait_acked(LIFE_FRAMES);
    expect_all(fleet, &plan, &container);
}

/// Ends the fleet and the daemon. The archive must have each frame of the fleet once.
fn expect_all(fleet: Fleet, plan: &Plan, container: &Container) {
    let report = fleet.stop_connected();
    assert!(report.is_complete(), "{report}");
    assert!(report.reconnects >= 3, "the fleet did not live through the restarts: {report}");
    drain(container);
    let dir = tempfile::tempdir().unwrap();
    let archive = container.archive(dir.path());
    let archived = FleetLog::read(plan, &archive, |frame| panic!("{frame:?}"));
    assert_eq!(archived, report.sent, "frames in the archive");
}
