//! How far a forwarder is behind is seen, and what it has not forwarded is kept if it is told so.

use serde_json::{Value, json};

use crate::server::{Server, count};
use crate::support::http::{get, get_json, request, wait_json};
use crate::support::{Client, Daemon, Hello, ROUTINE, archived};
use crate::{config, output, python, send, wait_forwarded};

/// Less than [`fill`] sends.
const RETENTION: &str = "[archive]\nretention_size = \"20 MiB\"\n";
/// The frames of [`fill`].
const FRAMES: u64 = 2_000;

fn forwarding(daemon: &Daemon, is_met: impl Fn(&Value) -> bool) -> Value {
    let is_met = |outputs: &Value| is_met(&output(outputs)["forwarding"]);
    output(&wait_json(daemon.http(), "/api/v1/outputs", is_met))["forwarding"].clone()
}

fn metric(daemon: &Daemon, name: &str) -> f64 {
    let text = get(daemon.http(), "/metrics").text();
    let begin = format!("telemetry_aggregator_{name}{{output=\"bus\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&begin));
    value.unwrap_or_else(|| panic!("no {begin}")).parse().unwrap()
}

#[test]
fn a_lag_is_seen_from_the_first_frame_that_waits_also_after_a_restart() {
    let Some(python) = python() else { return };
    let mut server = Server::away(&python, &["-js"]);
    let mut daemon = Daemon::start(&config(&server.url(), "lag_max = \"1s\""));
    assert_eq!(forwarding(&daemon, |of| of["lag_frames"] == 0)["lag_ms"], 0);
    send(&daemon, 100);
    let first_ns = archived(&daemon.archive_dir())[0].received_ns;
    // The lanes are looked at one after the other.
    let is_late = |of: &Value| of["late"] == true && of["oldest_ms"] == first_ns / 1_000_000;
    for _ in 0..2 {
        let found = forwarding(&daemon, is_late);
        assert!(found["lag_ms"].as_u64().unwrap() > 1_000, "{found:#}");
        assert_eq!((&found["lag_frames"], &found["lag_max_ms"]), (&json!(101), &json!(1_000)));
        let ready = get_json(daemon.http(), "/readyz");
        assert_eq!(ready["ready"], true, "the intake goes on");
        let degraded = ready["degraded"][0].as_str().unwrap();
        assert!(
            degraded.starts_with("output bus is ") && degraded.contains(" s behind, and lag_max is 1 s: ")
        );
        assert_eq!((metric(&daemon, "output_late"), metric(&daemon, "output_lag_frames")), (1.0, 101.0));
        assert!(metric(&daemon, "output_lag_seconds") > 1.0);
        daemon = daemon.kill_and_restart();
    }
    server.go_on();
    wait_forwarded(&daemon, 101);
    let found = forwarding(&daemon, |of| of["lag_frames"] == 0 && of["late"] == false);
    assert_eq!((&found["lag_ms"], &found["oldest_ms"]), (&json!(0), &Value::Null));
    assert_eq!(get_json(daemon.http(), "/readyz")["degraded"], json!([]));
    daemon.stop();
}

/// Sends 32 MB, which is four segments.
fn fill(daemon: &Daemon) {
    let (mut client, welcome) = Client::open(daemon.address(), &Hello::new(8));
    let first = welcome.resume_next[ROUTINE];
    for sequence in first..first + FRAMES {
        client.frame_within_credit(ROUTINE, sequence, &[sequence as u8; 16_000]);
    }
    client.wait_durable(ROUTINE, first + FRAMES);
    client.bye([0, first + FRAMES]);
}

fn first_offset(daemon: &Daemon) -> u64 {
    get_json(daemon.http(), "/api/v1/stats")["archive"]["first_offset"].as_u64().unwrap()
}

/// Waits until retention has removed frames up to `offset` and beyond. Returns the oldest offset.
fn wait_expired(daemon: &Daemon, offset: u64) -> u64 {
    let archive = |stats: &Value| stats["archive"]["first_offset"].as_u64().unwrap();
    archive(&wait_json(daemon.http(), "/api/v1/stats", |stats| archive(stats) > offset))
}

fn switch(daemon: &Daemon, to: &str) {
    let answer = request(daemon.http(), "POST", &format!("/api/v1/outputs/bus/{to}"), &[], b"");
    assert_eq!(answer.status, 204);
}

#[test]
fn what_is_not_forwarded_is_kept_until_it_is_or_the_output_is_removed() {
    let Some(python) = python() else { return };
    let mut server = Server::away(&python, &["-js"]);
    let held = format!("{RETENTION}{}", config(&server.url(), "retention_hold = true"));
    let mut daemon = Daemon::start(&held);
    send(&daemon, 1);
    fill(&daemon);
    daemon.stop();
    let daemon = daemon.restart();
    switch(&daemon, "disable");
    // Each segment that is sealed is an occasion for retention.
    fill(&daemon);
    assert_eq!(first_offset(&daemon), 0, "a disabled output holds, also after a restart");
    assert_eq!(forwarding(&daemon, |_| true)["retention_hold"], true);
    server.go_on();
    switch(&daemon, "enable");
    wait_forwarded(&daemon, 2 * FRAMES + 2);
    assert_eq!(count(&server.url()), 2 * FRAMES + 2);
    let first = wait_expired(&daemon, 2);

    // The only emergency has expired. What its lane has passed since is not missing.
    server.kill();
    server.go_on();
    send(&daemon, 1);
    wait_forwarded(&daemon, 2 * FRAMES + 4);
    let counts = output(&get_json(daemon.http(), "/api/v1/outputs"))["counts"].clone();
    assert!(counts["connects"].as_u64() > Some(2) && counts["missing"] == 0, "{counts:#}");

    server.kill();
    fill(&daemon);
    fill(&daemon);
    assert!((first..=2 * FRAMES + 4).contains(&first_offset(&daemon)), "what is not forwarded is kept");
    daemon.reload(RETENTION);
    wait_expired(&daemon, 2 * FRAMES + 4);
}

#[test]
fn frames_that_expire_before_they_are_forwarded_are_counted_once_and_named() {
    let Some(python) = python() else { return };
    let mut server = Server::away(&python, &["-js"]);
    let daemon = Daemon::start(&format!("{RETENTION}{}", config(&server.url(), "")));
    fill(&daemon);
    // By then 20 MiB are left, and nothing more expires.
    wait_expired(&daemon, 700);
    server.go_on();
    wait_forwarded(&daemon, FRAMES);
    let counts = output(&get_json(daemon.http(), "/api/v1/outputs"))["counts"].clone();
    assert_eq!(counts["gaps"], 1, "{counts:#}");
    let first = counts["missing"].as_u64().unwrap();
    let line = daemon.wait_line("frames are missing in the archive");
    assert!(line.contains(&format!("from_offset=0 to_offset={first}")), "{line}");
    assert_eq!(count(&server.url()), FRAMES - first);
}
