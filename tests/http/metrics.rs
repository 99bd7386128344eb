//! The metrics agree with the API, balance, and are what Prometheus reads.

use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::http::{get, get_json, request};
use crate::support::{Client, Daemon, EMERGENCY, Hello, ROUTINE, not_tested};

/// The values of the samples, by name and labels.
pub fn samples(text: &str) -> HashMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

#[test]
fn metrics_agree_with_the_api_and_balance() {
    let daemon = Daemon::start("");
    let (mut client, _) =
        Client::open(daemon.address(), &Hello { station: b"KIRUNA".to_vec(), ..Hello::new(7) });
    for sequence in 0..10 {
        client.deliver(ROUTINE, sequence, b"payload");
    }
    client.deliver(EMERGENCY, 0, b"SAFE_MODE");
    let accept = [("Accept", "application/openmetrics-text; version=1.0.0,text/plain;q=0.5")];
    let answer = request(daemon.http(), "GET", "/metrics", &accept, b"");
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(answer.text().ends_with("# EOF\n"));
    let found = samples(&answer.text());
    let value = |name: &str| found[&format!("telemetry_aggregator_{name}")];
    assert_eq!(value("frames_received_total"), 11.0);
    let settled =
        ["frames_archived_total", "frames_not_stored_total", "frames_duplicate_total", "frames_in_flight"];
    assert_eq!(settled.iter().map(|name| value(name)).sum::<f64>(), 11.0);
    assert_eq!(value("frames_accepted_total{lane=\"emergency\"}"), 1.0);
    assert_eq!(value("ack_latency_seconds_count{lane=\"routine\"}"), 10.0);
    assert_eq!(value("ack_latency_seconds_bucket{le=\"+Inf\",lane=\"routine\"}"), 10.0);
    let labels = "source=\"7\",kind=\"live\",station=\"KIRUNA\"";
    assert_eq!(value(&format!("source_frames_total{{{labels},lane=\"routine\"}}")), 10.0);
    assert_eq!(value(&format!("source_connected{{{labels}}}")), 1.0);
    let archive = &get_json(daemon.http(), "/api/v1/stats")["archive"];
    assert_eq!(Some(value("archive_next_offset")), archive["next_offset"].as_f64());
    assert_eq!(Some(value("archive_commits_total")), archive["commits"].as_f64());
    let classic = get(daemon.http(), "/metrics");
    assert!(classic.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let names = |text: &str| samples(text).into_keys().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(names(&classic.text()), names(&answer.text()));
    check_with_promtool(&classic.text());
}

/// Checks the metrics with Prometheus' own `promtool`.
fn check_with_promtool(text: &str) {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        return not_tested(format_args!("the metrics with promtool: Debian's prometheus is not installed"));
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
