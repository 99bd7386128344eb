//! `top`: what `top --once` prints, and the screen of `top` in a terminal of its own.

mod screen;

use std::net::TcpListener;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::command::{aggregator, expect_exit};
use crate::support::http::get_json;
use crate::support::{Client, Daemon, EMERGENCY, Hello, Port, ROUTINE, wait_until};
use screen::top_in_terminal;

pub fn url(daemon: &Daemon) -> String {
    format!("http://{}", daemon.http())
}

fn top(daemon: &Daemon, args: &[&str]) -> Command {
    let mut command = aggregator(["top", "--url", &url(daemon)]);
    command.args(args);
    command
}

/// A daemon to which sources 7 and 8 have sent frames and disconnected. The rates are back to zero.
fn settled() -> Daemon {
    let daemon = Daemon::start("");
    for source_id in [7, 8] {
        let (mut client, _) = Client::open(daemon.address(), &Hello::new(source_id).station("KIRUNA"));
        client.deliver(ROUTINE, 0, b"0123456789");
        client.deliver(EMERGENCY, 2, b"SAFE_MODE\x00");
        client.bye([3, 1]);
    }
    wait_until("sources offline and at rest", || {
        let sources = get_json(daemon.http(), "/api/v1/sources");
        let is_at_rest = |source: &Value| {
            let lanes = &source["lanes"];
            source["state"] == "ended"
                && lanes["routine"]["frames_per_s"] == 0.0
                && lanes["emergency"]["frames_per_s"] == 0.0
        };
        let all = sources["sources"].as_array().unwrap();
        if all.len() == 2 && all.iter().all(is_at_rest) { Ok(()) } else { Err(sources.to_string()) }
    });
    daemon
}

/// Removes the rates, which may still include frames of the second before.
fn without_rates(sources: &Value) -> Value {
    let mut sources = sources.clone();
    for source in sources["sources"].as_array_mut().unwrap() {
        for lane in ["emergency", "routine"] {
            source["lanes"][lane]["frames_per_s"] = Value::Null;
            source["lanes"][lane]["bytes_per_s"] = Value::Null;
        }
    }
    sources
}

#[test]
fn once_prints_what_the_api_reports() {
    let daemon = settled();
    let (text, _) = expect_exit(&mut top(&daemon, &["--once"]), 0);
    for expected in [
        "RUNNING",
        "balanced",
        "SAFE_MODE",
        "source 8 KIRUNA #2",
        "sources 2, by source",
        "ended",
        "NO SOURCES",
    ] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
    assert!(!text.contains('\x1b'), "{text:?}");

    let (out, _) = expect_exit(&mut top(&daemon, &["--once", "--json"]), 0);
    let printed: Value = serde_json::from_str(&out).expect("JSON");
    let (stats, sources) =
        (get_json(daemon.http(), "/api/v1/stats"), get_json(daemon.http(), "/api/v1/sources"));
    assert_eq!(without_rates(&printed["sources"]), without_rates(&sources));
    for settled in [
        "service",
        "version",
        "state",
        "unready",
        "started_ms",
        "frames",
        "missing",
        "connections",
        "refusals",
        "subscribers",
        "emergencies",
    ] {
        assert_eq!(printed["stats"][settled], stats[settled], "{settled}");
    }
    let keys = |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(keys(&printed["stats"]), keys(&stats));
    assert_eq!(keys(&printed), ["sources", "stats"]);
}

#[test]
fn sources_can_be_selected() {
    let daemon = settled();
    let ids = |args: &[&str]| -> (Value, Vec<u64>) {
        let (out, _) = expect_exit(&mut top(&daemon, args), 0);
        let printed: Value = serde_json::from_str(&out).expect("JSON");
        let sources = &printed["sources"];
        let ids = sources["sources"].as_array().unwrap().iter().map(|one| one["source_id"].as_u64().unwrap());
        (sources["total"].clone(), ids.collect())
    };
    assert_eq!(ids(&["--once", "--json", "--source", "8"]), (json!(1), vec![8]));
    assert_eq!(
        ids(&["--once", "--json", "--source", "8", "--source", "9", "--source", "7"]),
        (json!(2), vec![7, 8])
    );
    let (text, _) = expect_exit(&mut top(&daemon, &["--once", "--source", "9"]), 0);
    assert!(text.contains("sources 0,"), "{text}");
}

/// A daemon with a link that cannot listen, a link that listens, and an output. Drop the listener last.
fn linked() -> (Daemon, TcpListener) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let link = |name: &str, at: &str| {
        format!(
            "[[links]]\nname = {name:?}\nlisten = {at:?}\nframing = {{ kind = \"packet\", max = 1024 }}\nsource = \"apid\"\n"
        )
    };
    let links = link("taken", &address.to_string()) + &link("packets", "127.0.0.1:0");
    let output = "[[outputs]]\nname = \"yamcs\"\nlisten = \"127.0.0.1:0\"\n";
    let daemon = Daemon::start(&(links + output));
    wait_until("a link that has failed and an output that listens", || {
        let (links, outputs) =
            (get_json(daemon.http(), "/api/v1/links"), get_json(daemon.http(), "/api/v1/outputs"));
        let states = links["links"].as_array().unwrap().iter().map(|link| link["state"].as_str().unwrap());
        let is_settled = states.eq(["listening", "failed"]) && outputs["outputs"][0]["state"] == "listening";
        if is_settled { Ok(()) } else { Err(format!("{links:#} {outputs:#}")) }
    });
    (daemon, taken)
}

#[test]
fn links_and_outputs_are_shown_and_their_trouble_is_noticed() {
    let (daemon, _taken) = linked();
    let (text, _) = expect_exit(&mut top(&daemon, &["--once"]), 0);
    let banner = "LINKS: 1 of 2 in trouble: taken failed: cannot listen on 127.0.0.1:";
    for expected in [banner, "links 2, 1 in trouble", "outputs 1, 0 in trouble", "yamcs ", "sources 0,"] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
    let (out, _) = expect_exit(&mut top(&daemon, &["--once", "--json"]), 0);
    let printed: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(printed["outputs"], get_json(daemon.http(), "/api/v1/outputs"));
    assert_eq!(printed["links"]["links"][1]["name"], "taken");

    let Some(terminal) = top_in_terminal(&url(&daemon), 100, 30) else { return };
    let screen = terminal.wait_text("LINKS: 1 of 2 in trouble: taken failed");
    assert!(screen.contains("sources 0,") && screen.contains("l links"), "{screen}");
    terminal.type_key("l");
    let screen = terminal.wait_text("links 2, 1 in trouble");
    let states: Vec<_> = screen.lines().filter(|line| line.contains("listening")).collect();
    assert!(states.len() == 1 && states[0].starts_with("packets "), "{screen}");
    terminal.type_key("l");
    terminal.wait_text("outputs 1, 0 in trouble");
    terminal.type_key("l");
    terminal.wait_text("sources 0,");
    terminal.type_key("q");
    terminal.expect_given_back();
}

#[test]
fn top_without_a_daemon_or_a_terminal_reports_it() {
    let closed = Port::hold();
    let url = format!("http://{}", closed.address());
    let (_, error) = expect_exit(&mut aggregator(["top", "--url", &url, "--once"]), 1);
    assert_eq!(error, format!("telemetry-aggregator: {url}: cannot connect: connection refused\n"));
    let (_, error) = expect_exit(&mut aggregator(["top", "--url", &url]), 2);
    assert!(error.contains("--once") && error.lines().count() == 1, "{error}");
    let (_, error) = expect_exit(&mut aggregator(["top", "--once", "--url", "ftp://127.0.0.1"]), 2);
    assert!(error.contains("http://127.0.0.1:7482"), "{error}");
    expect_exit(&mut aggregator(["top", "--json"]), 2);
    expect_exit(&mut aggregator(["top", "--interval", "1ms"]), 2);
}
