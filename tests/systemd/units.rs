//! The units in deploy/systemd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use config::Config;

use super::has;
use crate::support::command::{aggregator, expect_exit, output};

const SERVICE: &str = "telemetry-aggregator.service";
const SOCKETS: [&str; 3] = ["ingest", "feed", "http"];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd")
}

fn read(name: &str) -> String {
    let path = deploy().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The value of `key` in a unit, which must have exactly one.
fn value(unit: &str, key: &str) -> String {
    let prefix = format!("{key}=");
    let mut values = unit.lines().filter_map(|line| line.strip_prefix(&prefix));
    let value = values.next().unwrap_or_else(|| panic!("no {key}= in {unit}"));
    assert_eq!(values.next(), None, "{key}= is there twice");
    value.to_owned()
}

/// The units in deploy/systemd, with the path of the binary under test, so that it need not be installed.
fn with_this_binary(dir: &Path) -> Vec<PathBuf> {
    let sockets = SOCKETS.map(|name| format!("telemetry-aggregator-{name}.socket"));
    let place = |name: &str| {
        let installed = "/usr/local/bin/telemetry-aggregator";
        let text = read(name).replace(installed, env!("CARGO_BIN_EXE_telemetry-aggregator"));
        assert!(name != SERVICE || !text.contains(installed), "where {SERVICE} finds the binary has changed");
        fs::write(dir.join(name), text).unwrap();
        dir.join(name)
    };
    std::iter::once(SERVICE).chain(sockets.iter().map(String::as_str)).map(place).collect()
}

#[test]
fn systemd_analyze_accepts_the_units() {
    if !has("systemd-analyze", "the units") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut verify = Command::new("systemd-analyze");
    let (out, err) = expect_exit(verify.args(["verify", "--man=no"]).args(with_this_binary(dir.path())), 0);
    let about_ours = |line: &&str| line.contains("telemetry-aggregator");
    assert_eq!(out.lines().chain(err.lines()).find(about_ours), None, "{out}{err}");
}

#[test]
fn the_service_has_a_low_exposure_level() {
    if !has("systemd-analyze", "the hardening of the service") {
        return;
    }
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=true", "--no-pager"]).arg(deploy().join(SERVICE));
    let ran = output(&mut security);
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{text}{}", String::from_utf8_lossy(&ran.stderr));
    // "→ Overall exposure level for telemetry-aggregator.service: 1.4 OK"
    let (_, overall) = text.split_once("Overall exposure level for ").expect("an overall level");
    let (_, level) = overall.split_once(": ").expect("a number behind the name");
    let level: f64 = level.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number");
    assert!(level < 2.0, "exposure {level}:\n{text}");
}

#[test]
fn the_drain_fits_the_stop_timeout_of_systemd() {
    let service = read(SERVICE);
    let stop = humantime::parse_duration(&value(&service, "TimeoutStopSec")).unwrap();
    let deadline = Config::default().shutdown.deadline;
    assert!(stop > deadline + Duration::from_secs(5), "TimeoutStopSec={stop:?}, deadline {deadline:?}");
    assert_eq!(value(&service, "Type"), "notify");
    humantime::parse_duration(&value(&service, "WatchdogSec")).unwrap();
}

#[test]
fn the_socket_units_have_the_names_and_ports_of_the_daemon() {
    let config = Config::default();
    let ports = [config.ingest.listen, config.feed.listen, config.http.listen].map(|address| address.port());
    for (name, port) in SOCKETS.into_iter().zip(ports) {
        let unit = read(&format!("telemetry-aggregator-{name}.socket"));
        assert_eq!(value(&unit, "FileDescriptorName"), name);
        assert_eq!(value(&unit, "Service"), SERVICE);
        let listen = value(&unit, "ListenStream");
        assert_eq!(listen.rsplit(':').next(), Some(port.to_string().as_str()), "{listen}");
    }
}

#[test]
fn the_configuration_of_the_units_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    for name in SOCKETS {
        let token = dir.path().join(format!("{name}.token"));
        fs::write(&token, format!("the token of {name}\n")).unwrap();
    }
    let credentials = "/run/credentials/telemetry-aggregator.service";
    let text = read("aggregator.toml").replace(credentials, &dir.path().display().to_string());
    let path = dir.path().join("aggregator.toml");
    fs::write(&path, text).unwrap();
    let mut check = aggregator(["check", "--config"]);
    let http_token = dir.path().join("http.token");
    check.arg(&path).env("TELEMETRY_AGGREGATOR__HTTP__TOKEN_FILE", http_token);
    expect_exit(&mut check, 0);
    // The service must load every token that the configuration names.
    let service = read(SERVICE);
    for name in SOCKETS {
        let load = format!("LoadCredential={name}.token:/etc/telemetry-aggregator/{name}.token");
        assert!(service.contains(&load), "no {load}");
    }
}
