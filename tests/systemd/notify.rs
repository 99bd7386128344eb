//! The messages of the daemon to the service manager, from start to end.

use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::support::manager::FakeManager;
use crate::support::mount::Tmpfs;
use crate::support::{Client, Daemon, Hello, LIMIT, Launch, ROUTINE, Signal, fleet::Fleet, not_tested};
use sim::Plan;

/// Long enough for a busy machine: pings are due four times as often.
const INTERVAL: Duration = Duration::from_secs(4);

/// The environment of a service with a watchdog, under `manager`.
fn under(manager: &FakeManager) -> impl Fn(&mut Command) + use<> {
    let path = manager.path();
    move |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", INTERVAL.as_micros().to_string());
    }
}

#[test]
fn the_manager_is_notified_from_the_start_to_the_end() {
    let manager = FakeManager::start();
    let dir = tempfile::tempdir().unwrap();
    let prepare = under(&manager);
    let mut daemon = Daemon::launch_at(dir, "", &Launch { through: &[], prepare: &prepare });
    let (_, ready) = manager.wait(0, "READY", |text| text == "READY=1");
    let before = &manager.messages()[..ready - 1];
    assert_eq!(before, ["STATUS=recovering the archive"], "before READY");
    manager.wait(ready, "STATUS", |text| text == "STATUS=0 sources, archive ok, 0 frames/s");
    // The listeners accept connections.
    TcpStream::connect(daemon.feed()).expect("the feed does not listen");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1));
    client.deliver(ROUTINE, 0, b"frame");

    manager.wait(ready, "STATUS with a source", |text| text.starts_with("STATUS=1 source, archive ok, "));
    // An idle daemon keeps pinging.
    manager.expect_pings(6, INTERVAL);

    let before_reload = manager.messages().len();
    daemon.signal(Signal::HUP);
    let (reloading, at) = manager.wait(before_reload, "RELOADING", |text| text.starts_with("RELOADING=1"));
    assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
    manager.wait(at, "READY after the reload", |text| text == "READY=1");

    let before_stop = manager.messages().len();
    drop(client);
    daemon.stop();
    let (stopping, _) = manager.wait(before_stop, "STOPPING", |text| text.starts_with("STOPPING=1"));
    assert!(stopping.contains("\nEXTEND_TIMEOUT_USEC=10000000"), "{stopping}");
}

#[test]
fn a_failed_start_sends_its_reason_and_never_ready() {
    let manager = FakeManager::start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("aggregator.toml");
    let (data, address) = (dir.path().join("data"), taken.local_addr().unwrap());
    let text = format!("data_dir = {data:?}\n[ingest]\nlisten = \"{address}\"\n");
    std::fs::write(&path, text).unwrap();
    let mut run = crate::support::command::aggregator(["run", "--config"]);
    run.arg(&path);
    under(&manager)(&mut run);
    crate::support::command::expect_exit(&mut run, 1);
    let (status, _) = manager.wait(0, "STATUS", |text| text.starts_with("STATUS=not started: "));
    assert!(status.contains(&address.to_string()), "{status}");
    assert!(!manager.messages().iter().any(|text| text.contains("READY=1")));
}

#[test]
fn a_full_disk_is_in_the_status_and_is_no_hang() {
    let Some(tmpfs) = Tmpfs::mount(24 << 20) else {
        return not_tested(format_args!("the watchdog on a full disk: mounting a tmpfs is not allowed"));
    };
    let config = "[ingest]\nmax_message = \"4 KiB\"\nmax_streams = 16\n[archive]\nreserve = \"3 MiB\"";
    let manager = FakeManager::start();
    let prepare = under(&manager);
    let mut daemon = Daemon::launch_at(tmpfs.home(), config, &Launch { through: &[], prepare: &prepare });
    tmpfs.fill();
    let address = daemon.address().to_string();
    let plan = Plan {
        connect: address,
        satellites: 2,
        replays: 0,
        payload_bytes: 2_000,
        linger: LIMIT,
        rate: 20_000.0,
        ..Plan::default()
    };
    let fleet = Fleet::start(plan);
    let (_, degraded) = manager.wait(0, "STATUS of a full disk", |text| text.contains("archive degraded"));
    manager.expect_pings(6, INTERVAL);
    tmpfs.free();
    manager.wait(degraded, "STATUS of the time after", |text| text.contains("archive ok"));
    let report = fleet.stop();
    assert!(report.is_complete(), "{report}");
    daemon.stop();
}
