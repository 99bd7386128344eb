//! Every command of ours over TLS, as a user types it.

use crate::scene::{Scene, at};
use crate::support::Daemon;
use crate::support::command::{aggregator, expect_exit, uplink_sim};

#[test]
fn every_command_speaks_tls() {
    let scene = Scene::new();
    let clients = "[[ingest.clients]]\nname = \"sim.example\"\n[[feed.clients]]\nname = \"sim.example\"\n";
    let mut daemon = Daemon::start(&scene.config(clients));
    let own = scene.authority.identity("sim", &["sim.example"]).options();
    let trust: Vec<String> = scene.ca().into_iter().chain(own).collect();
    let [ingest, feed] = [daemon.address(), daemon.feed()].map(at);
    let url = format!("https://{}", at(daemon.http()));

    let mut sim = uplink_sim(["--connect", &ingest, "--frames", "10", "--satellites", "5", "--replays", "0"]);
    let (report, _) = expect_exit(sim.args(&trust), 0);
    assert!(report.contains("50"), "{report}");
    let mut tail = aggregator(["tail", "--connect", &feed, "--from", "earliest", "--limit", "50"]);
    let (lines, _) = expect_exit(tail.args(&trust), 0);
    assert_eq!(lines.lines().count(), 50, "{lines}");

    let mut health = aggregator(["health", "--ready", "--url", &url]);
    assert_eq!(expect_exit(health.args(scene.ca()), 0).0, "ready\n");
    let mut top = aggregator(["top", "--once", "--url", &url]);
    let (screen, _) = expect_exit(top.args(scene.ca()), 0);
    assert!(screen.contains("50"), "{screen}");
    let mut streams = aggregator(["streams", "ls", "--url", &url]);
    assert_eq!(expect_exit(streams.args(scene.ca()), 0).0.lines().count(), 5);

    // The archive of the daemon goes once more, into another daemon.
    let second = Daemon::start(&scene.config(""));
    daemon.stop();
    let archive = daemon.home().join("data/archive").display().to_string();
    let mut replay =
        aggregator(["replay", "--archive", &archive, "--connect", &at(second.address()), "--speed", "max"]);
    let (report, _) = expect_exit(replay.args(scene.ca()), 0);
    assert!(report.contains("acked 50"), "{report}");
}

#[test]
fn wrong_options_are_named() {
    let scene = Scene::new();
    let ca = scene.authority.ca().display().to_string();
    for (args, said) in [
        (vec!["health", "--url", "https://localhost:1"], "https://localhost:1 needs --ca FILE"),
        (vec!["health", "--url", "http://localhost:1", "--ca", &ca], "is not encrypted: write https://"),
        (vec!["tail", "--ca", "/nowhere/ca.pem"], "cannot read /nowhere/ca.pem"),
        (vec!["tail", "--certificate", &ca], "--ca"),
        (vec!["tail", "--ca", &ca, "--certificate", &ca], "--key"),
    ] {
        let (_, err) = expect_exit(&mut aggregator(&args), 2);
        assert!(err.contains(said), "{args:?}: {err}");
    }
}

/// A health check beside the daemon needs no options: it finds the listener in the configuration.
#[test]
fn a_health_check_on_the_host_of_the_daemon_needs_no_authority() {
    let scene = Scene::new();
    let mut daemon = Daemon::start(&scene.config(""));
    let config = daemon.home().join("health.toml");
    let text =
        format!("[http]\nlisten = \"{}\"\n{}", daemon.http(), crate::support::pki::section(&scene.server));
    std::fs::write(&config, text).unwrap();
    let mut health = aggregator(["health", "--config", &config.display().to_string()]);
    assert_eq!(expect_exit(&mut health, 0).0, "healthy\n");
    // The file has changed, and the daemon has not read it: its health does not depend on that.
    std::fs::write(&config, format!("[http]\nlisten = \"{}\"\n", daemon.http())).unwrap();
    let mut health = aggregator(["health", "--config", &config.display().to_string()]);
    assert_eq!(expect_exit(&mut health, 0).0, "healthy\n");
    daemon.stop();
    let mut plain = Daemon::start("");
    let text =
        format!("[http]\nlisten = \"{}\"\n{}", plain.http(), crate::support::pki::section(&scene.server));
    std::fs::write(&config, text).unwrap();
    let mut health = aggregator(["health", "--config", &config.display().to_string()]);
    assert_eq!(expect_exit(&mut health, 0).0, "healthy\n");
    plain.stop();
}
