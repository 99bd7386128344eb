//! The dashboard, the alerts and the table in `docs/observe.md` name only metrics that `/metrics` exposes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::exposed::{families, family_of, names_in};
use crate::support::not_tested;
use crate::{in_repository, text};

const DASHBOARD: &str = "deploy/grafana/telemetry-aggregator.json";
const RULES: &str = "deploy/prometheus/rules.yml";

#[test]
fn the_dashboard_and_the_alerts_use_existing_metrics() {
    let families = families();
    let kind_of = |name: &str| families.get(name).map(|family| family.kind.as_str());
    for path in [DASHBOARD, RULES, "deploy/prometheus/rules_test.yml"] {
        let names = names_in(&text(path));
        assert!(names.len() > 10, "{path} names {names:?}");
        for name in names {
            assert!(family_of(&name, kind_of).is_some(), "{path}: there is no {name} on /metrics");
        }
    }
}

#[test]
fn each_metric_is_in_the_docs_with_its_type_and_labels() {
    let families = families();
    let mut documented = BTreeMap::new();
    for line in text("docs/observe.md").lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" |").map(str::trim).collect();
        let [name, kind, labels, _, _] = cells[..] else { continue };
        let labels: BTreeSet<String> =
            labels.split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect();
        let before = documented.insert(name.trim_matches('`').to_owned(), (kind.to_owned(), labels));
        assert!(before.is_none(), "{name} is documented twice");
    }
    assert_eq!(documented.keys().collect::<Vec<_>>(), families.keys().collect::<Vec<_>>());
    for (name, family) in families {
        let (kind, labels) = &documented[&name];
        assert_eq!(*kind, family.kind, "{name}");
        if let Some(exposed) = family.labels {
            assert_eq!(*labels, exposed, "{name}");
        }
    }
}

/// Panels that show data, including those in rows.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let inner = panels.iter().flat_map(|panel| panel["panels"].as_array().into_iter().flatten());
    panels.iter().chain(inner).collect()
}

#[test]
fn the_dashboard_file_is_valid() {
    let dashboard: Value = serde_json::from_str(&text(DASHBOARD)).expect("JSON");
    assert!(dashboard["schemaVersion"].as_u64() >= Some(38), "of Grafana 10 or later");
    assert!(dashboard.get("id").is_none(), "an id is of one Grafana; the uid is what lasts");
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    assert!(variables.iter().any(|one| one["type"] == "datasource" && one["name"] == "datasource"));
    let panels = panels(&dashboard);
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "ids are unique");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = &panel["title"];
        let position = |name: &str| panel["gridPos"][name].as_u64().expect("a position");
        assert!(position("x") + position("w") <= 24 && position("h") > 0, "{title}");
        assert_ne!(*title, json!(""));
        let targets = panel["targets"].as_array().expect("queries");
        let letters: BTreeSet<_> = targets.iter().map(|target| target["refId"].as_str()).collect();
        assert!(!targets.is_empty() && letters.len() == targets.len(), "{title}");
        for target in targets.iter().chain([*panel]) {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
}

/// Runs `promtool` in `dir`. Without `promtool`, this reports that and returns `None`.
fn promtool(dir: &Path, args: &[&str]) -> Option<()> {
    let Ok(ran) = Command::new("promtool").args(args).current_dir(dir).output() else {
        not_tested(format_args!("promtool {}: Debian's prometheus is not installed", args.join(" ")));
        return None;
    };
    let said = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(ran.status.success(), "promtool {args:?}: {}", said.join("\n"));
    Some(())
}

#[test]
fn the_alerts_fire_as_their_tests_expect() {
    let dir = in_repository("deploy/prometheus");
    promtool(&dir, &["check", "rules", "rules.yml"]);
    promtool(&dir, &["check", "config", "prometheus.yml"]);
    promtool(&dir, &["test", "rules", "rules_test.yml"]);
    let (rules, played) = (text(RULES), text("deploy/prometheus/rules_test.yml"));
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let name = format!("alertname: {alert}\n");
        assert!(played.contains(&name), "{alert} is not played");
    }
}

#[test]
fn the_configuration_of_the_container_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    // The same layout of files as compose.yaml mounts.
    for (from, to) in [("deploy/docker/prometheus.yml", "prometheus.yml"), (RULES, "rules.yml")] {
        std::fs::copy(in_repository(from), dir.path().join(to)).unwrap();
    }
    promtool(dir.path(), &["check", "config", "prometheus.yml"]);
}

#[test]
fn the_queries_of_the_dashboard_are_promql() {
    let dashboard: Value = serde_json::from_str(&text(DASHBOARD)).expect("JSON");
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    let targets =
        panels(&dashboard).into_iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    for (number, target) in targets.enumerate() {
        let asked = target["expr"].as_str().expect("a query").replace("$__rate_interval", "1m");
        // JSON is YAML.
        let asked = serde_json::to_string(&asked).unwrap();
        rules.push_str(&format!("  - record: query_{number}\n    expr: {asked}\n"));
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rules.yml"), rules).unwrap();
    promtool(dir.path(), &["check", "rules", "rules.yml"]);
}
