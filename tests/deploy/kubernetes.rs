//! `deploy/kubernetes`: the objects are valid, and fit the image and the configuration. The test starts no cluster.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use config::Config;
use serde_json::Value;

use crate::docker::make_secrets;
use crate::support::command::{aggregator, expect_exit};
use crate::support::not_tested;
use crate::support::python::Python;
use crate::{in_repository, text};

const DIR: &str = "deploy/kubernetes";

/// A copy of the directory in `dir`, with secrets made as the README says.
fn copy_to(dir: &Path) {
    for entry in std::fs::read_dir(in_repository(DIR)).expect("the directory") {
        let entry = entry.expect("an entry");
        if entry.path().is_file() {
            std::fs::copy(entry.path(), dir.join(entry.file_name())).expect("a copy");
        }
    }
    make_secrets(&format!("{DIR}/README.md"), dir);
}

fn find<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let object = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    object
}

#[test]
fn kustomize_makes_valid_objects_that_fit_image_and_configuration() {
    if Command::new("kubectl").arg("help").stdout(Stdio::null()).status().is_err() {
        return not_tested(format_args!("deploy/kubernetes: there is no kubectl"));
    }
    let python = match Python::with("kubernetes") {
        Ok(python) => python,
        Err(error) => return not_tested(format_args!("deploy/kubernetes: {error}")),
    };
    let dir = tempfile::tempdir().unwrap();
    copy_to(dir.path());
    let (objects, _) = expect_exit(Command::new("kubectl").arg("kustomize").arg(dir.path()), 0);
    let path = dir.path().join("objects.yaml");
    std::fs::write(&path, objects).unwrap();
    expect_exit(python.tool("kubernetes-validate").arg("--strict").arg(&path), 0);
    let objects: Vec<Value> = serde_json::from_str(&python.script("documents_as_json.py", &path)).unwrap();

    let pod = &find(&objects, "StatefulSet")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let user = pod["securityContext"]["runAsUser"].as_u64().unwrap();
    assert!(text("deploy/docker/Dockerfile").contains(&format!("\nUSER {user}:{user}\n")), "user {user}");
    let image = container["image"].as_str().unwrap();
    assert!(text("deploy/docker/compose.yaml").contains(&format!("image: {image}\n")), "{image}");
    assert_eq!(container["resources"]["limits"]["memory"], "1408Mi");
    assert!(Config::default().ingest.memory_limit < 1408 << 20);

    let toml: toml::Table = text(&format!("{DIR}/aggregator.toml")).parse().unwrap();
    let deadline = humantime::parse_duration(toml["shutdown"]["deadline"].as_str().unwrap()).unwrap();
    let grace = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap());
    assert!(grace >= deadline + Duration::from_secs(2), "{grace:?} for a drain of {deadline:?}");
    let service = &find(&objects, "Service")["spec"];
    assert_eq!(service["publishNotReadyAddresses"], true);
    for (name, index) in [("ingest", 0), ("feed", 1), ("http", 2)] {
        let listen = toml[name]["listen"].as_str().unwrap();
        let port = &container["ports"][index];
        assert_eq!(port["name"], name);
        assert_eq!(format!("0.0.0.0:{}", port["containerPort"]), listen);
        assert_eq!(service["ports"][index]["port"], port["containerPort"]);
        let rule = &find(&objects, "NetworkPolicy")["spec"]["ingress"][index];
        assert_eq!(rule["ports"][0]["port"], port["containerPort"]);
    }
    let mounted = |path: &str| {
        let mounts = container["volumeMounts"].as_array().unwrap();
        mounts.iter().any(|mount| mount["mountPath"] == path)
    };
    assert!(mounted(toml["data_dir"].as_str().unwrap()) && mounted("/run/secrets"));
    assert!(mounted("/etc/telemetry-aggregator"));
}

#[test]
fn the_configuration_of_the_pod_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    copy_to(dir.path());
    let path = dir.path().join("aggregator.toml");
    let secrets = dir.path().join("secrets");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("/run/secrets", &secrets.display().to_string())).unwrap();
    let (said, _) = expect_exit(aggregator(["check", "--config"]).arg(&path), 0);
    for port in [7480, 7481, 7482] {
        assert!(said.contains(&format!("\"0.0.0.0:{port}\"")), "{said}");
    }
}
