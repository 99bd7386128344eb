//! compose.yaml, with the commands of its README.

use std::net::SocketAddr;

use serde_json::Value;

use crate::checkout::Checkout;
use crate::container::DATA_DIR;
use crate::engine::{docker, wait_for};
use crate::image::built_checkout;
use crate::support::http::get_json;
use crate::support::not_tested;
use crate::{alone, readme_command, readme_commands};

/// `mem_limit` of compose.yaml.
const MEMORY_MAX: u64 = 1408 << 20;
/// Sources of `uplink-sim` in compose.yaml.
const SOURCES: &str = "50";

/// Makes what the containers read, as the README says. Returns the command that starts them.
fn prepare(checkout: &Checkout) -> String {
    checkout.sh(&readme_command("install "));
    checkout.sh(&readme_command("chmod "));
    readme_command("docker compose --profile simulate up")
}

/// The value of a query that has one sample.
fn query(prometheus: SocketAddr, metric: &str) -> Result<String, String> {
    let answer = get_json(prometheus, &format!("/api/v1/query?query={metric}"));
    match &answer["data"]["result"][0]["value"][1] {
        Value::String(value) => Ok(value.clone()),
        _ => Err(answer.to_string()),
    }
}

#[test]
fn prometheus_sees_the_fleet_that_the_readme_starts() {
    let Some(checkout) = built_checkout("compose.yaml") else { return };
    not_tested(format_args!("docker: Grafana in compose.yaml: Debian has no package of it"));
    checkout.sh(&prepare(&checkout));

    let prometheus = checkout.address("prometheus", 9090);
    wait_for("the fleet in Prometheus", || {
        match query(prometheus, "telemetry_aggregator_sources_connected")? {
            value if value == SOURCES => Ok(()),
            value => Err(value),
        }
    });
    let archived = "sum(telemetry_aggregator_source_frames_total)%3E0";
    wait_for("archived frames in Prometheus", || query(prometheus, archived));
    let rules = "docker compose exec prometheus wget -q -O - http://127.0.0.1:9090/api/v1/rules";
    assert!(checkout.sh(rules).contains("TelemetryAggregatorDown"), "the alerts are not loaded");

    for container in checkout.sh("docker compose --profile simulate ps --quiet").lines() {
        // `down` leaves volumes without a name behind.
        let volumes = "{{range .Mounts}}{{if eq .Type \"volume\"}}{{println .Name}}{{end}}{{end}}";
        let named = |name: &str| name.starts_with("telemetry-aggregator-test-");
        assert!(docker(["inspect", "--format", volumes, container]).lines().all(named), "{container}");
    }
    let daemon = checkout.container("aggregator");
    checkout.sh("docker compose stop aggregator");
    assert_eq!(docker(["inspect", "--format", "{{.State.ExitCode}}", &daemon]), "0");
    checkout.sh(&readme_command("docker compose --profile simulate down"));
    assert_eq!(checkout.container("aggregator"), "", "containers are left");
    let volumes = checkout
        .sh("docker volume ls --quiet --filter label=com.docker.compose.project=$COMPOSE_PROJECT_NAME");
    assert!(volumes.lines().any(|name| name.ends_with("_data")), "the archive is gone: {volumes}");
}

/// The commands of the README beside a running daemon. Programs of this host get the ports of this run and an end.
fn run_the_other_commands(checkout: &Checkout) {
    let (ingest, feed) = (checkout.address("aggregator", 7480), checkout.address("aggregator", 7481));
    let mut count = 0;
    for line in readme_commands() {
        let line = match line.split(' ').next() {
            Some("uplink-sim") => format!("{line} --connect {ingest} --frames 10"),
            Some("telemetry-aggregator") => format!("{line} --connect {feed} --from earliest --limit 10"),
            _ if line.contains(" exec ") || line.contains(" logs ") => line,
            _ => continue,
        };
        let said = checkout.sh(&line);
        assert!(!said.is_empty(), "{line} says nothing");
        count += 1;
    }
    assert_eq!(count, 4);
    assert!(checkout.sh(&format!("docker compose exec aggregator ls {DATA_DIR}")).contains("archive"));
}

#[test]
fn the_commands_of_the_readme_reach_the_daemon_and_a_reload_takes_a_file_changed_in_its_place() {
    let Some(checkout) = built_checkout("commands and reload in compose.yaml") else { return };
    prepare(&checkout);
    checkout.sh("docker compose up -d --wait aggregator");
    run_the_other_commands(&checkout);
    let path = checkout.docker_dir().join("aggregator.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replace("max_connections_per_address = 256", "max_connections_per_address = 99"),
    )
    .unwrap();
    checkout.sh("docker compose kill -s HUP aggregator");
    wait_for("the reload", || {
        let log = checkout.sh("docker compose logs --no-color aggregator");
        let is_there =
            log.lines().any(|line| line.contains("configuration reloaded") && line.contains("(256 -> 99)"));
        is_there.then_some(()).ok_or(log)
    });
}

#[test]
fn the_memory_limit_holds_under_a_flood() {
    let Some(checkout) = built_checkout("memory limit in compose.yaml") else { return };
    let _alone = alone();
    prepare(&checkout);
    checkout.sh("docker compose up -d --wait aggregator");
    let flood = "docker compose run --rm --no-deps uplink-sim --connect aggregator:7480 \
        --token-file /run/secrets/ingest.token --replays 0 --payload 1115 --duration 15s --linger 60s --report json";
    let report: Value = serde_json::from_str(&checkout.sh(flood)).expect("a report");
    assert!(report["acked"].as_u64() > Some(50_000), "that is no flood: {report}");
    let id = checkout.container("aggregator");
    let state = "{{.State.OOMKilled}} {{.RestartCount}} {{.State.Health.Status}} {{.HostConfig.Memory}}";
    assert_eq!(docker(["inspect", "--format", state, &id]), format!("false 0 healthy {MEMORY_MAX}"));
    let memory = memory(&checkout);
    eprintln!("flood: {report}\n{memory:?}");
    assert!(memory.resident_max < MEMORY_MAX, "{memory:?}");
    assert!(memory.charged_max <= MEMORY_MAX, "{memory:?}");
}

/// Bytes of memory of the daemon and of its control group, at most since the start.
#[derive(Debug)]
struct Memory {
    resident_max: u64,
    /// With pages of files and sockets.
    charged_max: u64,
}

fn memory(checkout: &Checkout) -> Memory {
    let files = "docker compose exec aggregator sh -c 'grep VmHWM /proc/1/status; \
        cat /sys/fs/cgroup/memory/memory.max_usage_in_bytes || cat /sys/fs/cgroup/memory.peak'";
    let said = checkout.sh(files);
    let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [resident_kib, charged_max] = numbers[..] else { panic!("{said}") };
    Memory { resident_max: resident_kib << 10, charged_max }
}
