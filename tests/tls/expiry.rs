//! A certificate that expires soon is a line of the log and a metric.

use crate::scene::Scene;
use crate::support::Daemon;
use crate::support::command::{aggregator, expect_exit};
use crate::support::http::get;
use crate::support::pki::section;

/// The number of the metric for `tls.certificate`.
fn metric(daemon: &Daemon) -> Option<f64> {
    let text = get(daemon.http(), "/metrics").text();
    let name = "telemetry_aggregator_certificate_expiry_seconds{certificate=\"certificate\"} ";
    text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.parse().unwrap())
}

#[test]
fn the_expiry_is_a_metric_and_a_warning() {
    let scene = Scene::new();
    let now = std::time::SystemTime::now();
    let unix = |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let soon = std::time::Duration::from_secs(10 * 86_400);
    let expiring =
        scene.authority.sign("expiring", &["localhost"], |params| params.not_after = (now + soon).into());
    let config = |identity| format!("[http]\ntls = false\n{}", section(identity));

    let mut daemon = Daemon::start(&config(&expiring));
    daemon.wait_line("expires in 9 days");
    assert_eq!(metric(&daemon), Some(unix(now + soon) as f64));
    let said = daemon.reload(&config(&scene.server));
    assert!(!said.iter().any(|line| line.contains("expires in")), "{said:#?}");
    assert_eq!(metric(&daemon), Some(32_503_680_000.0), "the year 3000");
    let expired = scene.authority.identity_until("expired", &["localhost"], 2001);
    let said = daemon.reload(&config(&expired));
    assert!(said.iter().any(|line| line.contains("has expired at 2001-01-01T00:00:00Z")), "{said:#?}");
    daemon.stop();

    let file = daemon.home().join("expired.toml");
    std::fs::write(&file, section(&expired)).unwrap();
    let (_, err) = expect_exit(&mut aggregator(["check", "--config", &file.display().to_string()]), 0);
    assert!(err.contains("has expired"), "{err}");
}
