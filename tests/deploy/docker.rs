//! `deploy/docker`: everything that compose.yaml and the Dockerfile name exists and fits together. The test starts no
//! container.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use config::Config;
use serde_json::Value;

use crate::support::command::{aggregator, expect_exit, uplink_sim};
use crate::support::python::Python;
use crate::support::{Daemon, not_tested};
use crate::{in_repository, text};

const DOCKERFILE: &str = "deploy/docker/Dockerfile";
const CONFIG: &str = "deploy/docker/aggregator.toml";

/// compose.yaml with its aliases resolved. Without a program that reads YAML, this reports that and returns `None`.
fn compose() -> Option<Value> {
    let python = match Python::find() {
        Ok(python) => python,
        Err(error) => {
            not_tested(format_args!("compose.yaml: {error}"));
            return None;
        }
    };
    let json = python.script("yaml_as_json.py", &in_repository("deploy/docker/compose.yaml"));
    Some(serde_json::from_str(&json).expect("JSON"))
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().map(|one| one.as_str().expect("a text")).collect()
}

#[test]
fn hadolint_finds_nothing_in_the_dockerfile() {
    let python = match Python::with("hadolint") {
        Ok(python) => python,
        Err(error) => return not_tested(format_args!("the Dockerfile with hadolint: {error}")),
    };
    let ran = python.tool("hadolint").arg(in_repository(DOCKERFILE)).output().expect("hadolint runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
}

#[test]
fn compose_names_existing_files_and_services() {
    let Some(compose) = compose() else { return };
    let services = compose["services"].as_object().expect("services");
    let has_check = |name: &str| {
        let service = &services[name];
        service["healthcheck"]["test"].is_array() || service["build"].is_object()
    };
    for (name, service) in services {
        for volume in strings(&service["volumes"]) {
            let source = volume.split(':').next().expect("a source");
            match source.strip_prefix('.') {
                Some(_) => {
                    let path = in_repository("deploy/docker").join(source);
                    assert!(path.exists(), "{name}: {}", path.display());
                    assert!(volume.ends_with(":ro,z"), "{name}: {volume}");
                }
                None => assert!(compose["volumes"].get(source).is_some(), "{name}: {volume}"),
            }
        }
        for secret in strings(&service["secrets"]) {
            assert!(compose["secrets"].get(secret).is_some(), "{name}: {secret}");
        }
        for (other, condition) in service["depends_on"].as_object().into_iter().flatten() {
            assert!(services.contains_key(other), "{name} depends on {other}");
            let is_health = condition["condition"] == "service_healthy";
            assert!(
                !is_health || has_check(other),
                "{name} waits for the health of {other}, which has no health check"
            );
        }
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(strings(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(strings(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
    }
    let daemon = &services["aggregator"];
    let context =
        in_repository("deploy/docker").join(daemon["build"]["context"].as_str().expect("a context"));
    assert!(context.join(daemon["build"]["dockerfile"].as_str().expect("a Dockerfile")).exists());
    let config: toml::Table = text(CONFIG).parse().expect("TOML");
    let duration = |text: &str| humantime::parse_duration(text).expect("a duration");
    let deadline = duration(config["shutdown"]["deadline"].as_str().expect("a deadline"));
    let grace = duration(daemon["stop_grace_period"].as_str().expect("a time"));
    assert!(grace >= deadline + Duration::from_secs(2), "{grace:?} for a drain of {deadline:?}");
    assert_eq!(daemon["mem_limit"], "1408m");
    assert!(Config::default().ingest.memory_limit < 1408 << 20);
}

/// Runs the line of `readme` that makes the secrets, in `dir`.
pub fn make_secrets(readme: &str, dir: &Path) {
    let readme = text(readme);
    let line = readme.lines().find(|line| line.starts_with("install ")).expect("the line that makes secrets");
    expect_exit(Command::new("sh").args(["-ec", line]).current_dir(dir), 0);
}

#[test]
fn one_line_makes_the_secrets_and_the_configuration_accepts_them() {
    let dir = tempfile::tempdir().unwrap();
    make_secrets("deploy/docker/README.md", dir.path());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("secrets")), 0o700, "only its owner may enter");
    let compose = text("deploy/docker/compose.yaml");
    let files: Vec<_> = compose.lines().filter_map(|line| line.trim().strip_prefix("file: ")).collect();
    assert_eq!(files.len(), 4);
    for file in files {
        assert_eq!(mode(&dir.path().join(file)), 0o444, "{file}: any user of a container may read it");
    }
    let secrets = dir.path().join("secrets");
    let config = text(CONFIG).replace("/run/secrets", &secrets.display().to_string());
    let path = dir.path().join("aggregator.toml");
    std::fs::write(&path, config).unwrap();
    let (said, _) = expect_exit(aggregator(["check", "--config"]).arg(&path), 0);
    for port in [7480, 7481, 7482] {
        assert!(said.contains(&format!("\"0.0.0.0:{port}\"")), "{said}");
    }

    let token_file = secrets.join("ingest.token");
    let daemon = Daemon::start(&format!("[[ingest.tokens]]\ntoken_file = \"{}\"", token_file.display()));
    let connect = daemon.address().to_string();
    let mut fleet =
        uplink_sim(["--connect", &connect, "--satellites", "2", "--replays", "1", "--frames", "10"]);
    expect_exit(fleet.arg("--token-file").arg(&token_file), 0);
    daemon.wait_line(" source registered ");
}

#[test]
fn the_dockerfile_copies_only_files_of_its_context() {
    let (dockerfile, ignored) = (text(DOCKERFILE), text(".dockerignore"));
    let copied = dockerfile.lines().filter_map(|line| line.strip_prefix("COPY "));
    let copied = copied.filter(|line| !line.contains("--from="));
    let sources: Vec<_> = copied
        .flat_map(|line| {
            let mut words: Vec<_> = line.split_whitespace().collect();
            words.pop();
            words
        })
        .collect();
    assert!(["Cargo.lock", "crates", "src"].iter().all(|part| sources.contains(part)), "{sources:?}");
    for entry in std::fs::read_dir(in_repository("crates")).expect("the crates") {
        let name = entry.expect("a crate").file_name().into_string().expect("a plain name");
        let manifest = format!("crates/{name}/Cargo.toml");
        assert!(sources.contains(&manifest.as_str()), "{manifest} is not in the layer of dependencies");
    }
    for source in sources {
        assert!(in_repository(source).exists(), "{source}");
        let kept =
            |line: &str| line.strip_prefix('!').is_some_and(|kept| Path::new(source).starts_with(kept));
        assert!(ignored.lines().any(kept), "{source} is kept out");
    }
    let manifest: toml::Table = text("Cargo.toml").parse().expect("TOML");
    let rust = manifest["workspace"]["package"]["rust-version"].as_str().expect("a version");
    assert!(dockerfile.contains(&format!("RUST_IMAGE=rust:{rust}-")), "Rust {rust}");
    for bin in manifest["bin"].as_array().expect("binaries") {
        // The Dockerfile makes a placeholder for this file before it copies the sources.
        assert!(dockerfile.contains(bin["path"].as_str().expect("a path")), "{bin}");
    }
}
