//! The tables of `docs/dashboard.md`: each number of the page is in the API and in `/metrics`, and both agree.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::Value;

use crate::exposed::PREFIX;
use crate::support::http::{get, get_json};
use crate::support::{Client, Daemon, EMERGENCY, Hello, ROUTINE, wait_until};
use crate::text;

const LABELS: &str = "source=\"7\",kind=\"live\",station=\"KIRUNA\"";

/// A row of one of the tables.
struct Row {
    path: String,
    /// The cell as written: a metric, or words around one.
    metric: String,
}

/// The tables whose heads begin with `head`.
fn rows(head: &str) -> Vec<Row> {
    let docs = text("docs/dashboard.md");
    let table = docs.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    let table = table.take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [_, path, metric] = cells[..] else { panic!("{line}") };
        Row { path: path.trim_matches('`').to_owned(), metric: metric.to_owned() }
    };
    table.map(row).collect()
}

/// Collects the numbers in `value` by their paths.
fn numbers(value: &Value, path: &str, into: &mut BTreeMap<String, f64>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let dot = if path.is_empty() { "" } else { "." };
                numbers(value, &format!("{path}{dot}{name}"), into);
            }
        }
        Value::Number(number) => _ = into.insert(path.to_owned(), number.as_f64().expect("a number")),
        _ => {}
    }
}

/// The numbers of a daemon at one moment, from the API and from the metrics.
struct Moment {
    stats: BTreeMap<String, f64>,
    source: BTreeMap<String, f64>,
    metrics: BTreeMap<String, f64>,
}

impl Moment {
    fn of(address: SocketAddr) -> Self {
        let (mut stats, mut source) = (BTreeMap::new(), BTreeMap::new());
        numbers(&get_json(address, "/api/v1/stats"), "", &mut stats);
        numbers(&get_json(address, "/api/v1/sources?source=7")["sources"][0], "", &mut source);
        let text = get(address, "/metrics").text();
        let samples = text.lines().filter_map(|line| line.strip_prefix(PREFIX)?.rsplit_once(' '));
        let metrics = samples.map(|(name, value)| (name.to_owned(), value.parse().expect("a number")));
        Self { stats, source, metrics: metrics.collect() }
    }

    /// The numbers that differ. Panics if one side lacks a number.
    fn differences(&self) -> Vec<String> {
        let mut found = Vec::new();
        for Row { path, metric } in rows("| on the page |") {
            if let Some(metric) = metric.strip_prefix('`').and_then(|metric| metric.strip_suffix('`'))
                && path != "frames.rejected_by"
                && !["subscribers", "refusals", "archive.age_hold"].contains(&path.as_str())
            {
                found.extend(self.difference(&path, self.stats[&path], metric));
            }
        }
        let rejected: f64 = self
            .metrics
            .iter()
            .filter(|(name, _)| name.starts_with("frames_rejected_total"))
            .map(|(_, value)| value)
            .sum();
        if rejected != self.stats["frames.rejected"] {
            found.push(format!("rejected: {rejected}"));
        }
        for Row { path, metric } in rows("| in its details |") {
            let Some(metric) = metric.strip_prefix('`').and_then(|metric| metric.strip_suffix('`')) else {
                continue;
            };
            let lanes = if path.contains('*') { &["emergency", "routine"][..] } else { &[""] };
            for lane in lanes {
                let label = if lane.is_empty() { String::new() } else { format!(",lane=\"{lane}\"") };
                let path = path.replace('*', lane);
                found.extend(self.difference(
                    &path,
                    self.source[&path],
                    &format!("{metric}{{{LABELS}{label}}}"),
                ));
            }
        }
        found
    }

    fn difference(&self, path: &str, mut value: f64, metric: &str) -> Option<String> {
        if metric.contains("_seconds") {
            value /= 1e3;
        }
        let other = *self.metrics.get(metric).unwrap_or_else(|| panic!("there is no {metric} for {path}"));
        ((value - other).abs() > 1e-9 * value.abs())
            .then(|| format!("{path} is {value}, {metric} is {other}"))
    }
}

fn daemon() -> (Daemon, Client) {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7).station("KIRUNA").epoch(90));
    for sequence in [0, 1, 2, 9, 10] {
        client.deliver(ROUTINE, sequence, b"routine");
    }
    client.deliver(EMERGENCY, 11, b"SAFE_MODE");
    let (mut refused, _) = Client::open(daemon.address(), &Hello::new(9));
    refused.deliver(ROUTINE, 5, b"");
    refused.frame(ROUTINE, 4, b"");
    refused.expect_error(crate::support::code::SEQUENCE_REGRESSION);
    (daemon, client)
}

#[test]
fn each_number_agrees_with_its_metric() {
    let (daemon, _client) = daemon();
    // The daemon samples memory, files and disk once a second.
    wait_until("a moment without differences", || match Moment::of(daemon.http()).differences() {
        differences if differences.is_empty() => Ok(()),
        differences => Err(format!("{differences:#?}")),
    });
}

#[test]
fn each_number_is_in_a_row_of_the_docs() {
    let (daemon, _client) = daemon();
    let moment = Moment::of(daemon.http());
    let names = [
        "time_ms",
        "catalog.version",
        "catalog.sets",
        "source_id",
        "session",
        "since_ms",
        "offline_since_ms",
        "epoch",
    ];
    for (head, numbers) in [("| on the page |", moment.stats), ("| in its details |", moment.source)] {
        let documented: BTreeSet<String> = rows(head).into_iter().map(|row| row.path).collect();
        assert!(documented.len() > 15, "{documented:?}");
        let is_told = |path: &str| {
            let any_lane = path.replace(".emergency.", ".*.").replace(".routine.", ".*.");
            [path, &any_lane].iter().any(|path| {
                documented.iter().any(|documented| {
                    path.strip_prefix(documented.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                })
            })
        };
        for path in numbers.keys().filter(|path| !names.contains(&path.as_str())) {
            assert!(is_told(path), "{path} has no row below {head}");
        }
    }
}
