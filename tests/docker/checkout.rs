//! A checkout of the repository as a user with a strict umask has it, and the commands of the README in it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::engine::{base_image, run, try_docker, unique};

/// The files that the image and compose.yaml need, without what a build or a user left there.
const COPY: &str = "tar -c --exclude=benches/actor --exclude=secrets --exclude=.env \
     .dockerignore CHANGELOG.md Cargo.toml Cargo.lock benches config crates deploy src \
     | (umask 077; tar -x --no-same-permissions -C \"$1\")";

/// A copy of the repository that only its owner may read, with settings of its own for compose.yaml. Dropping this removes
/// what Compose has made.
pub struct Checkout {
    dir: TempDir,
    project: String,
}

impl Checkout {
    /// Copies the files. The images of the daemon and of Prometheus get names that belong to this repository.
    ///
    /// # Errors
    /// What the base images lack.
    pub fn new() -> Result<Self, String> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("no temporary directory");
        let mut copy = Command::new("sh");
        copy.args(["-ec", COPY, "sh"]).arg(dir.path()).current_dir(env!("CARGO_MANIFEST_DIR"));
        run(&mut copy).expect("the checkout");
        let checkout = Self { dir, project: unique("compose") };
        let [debian, rust, prometheus] = ["debian", "rust", "prometheus"].map(base_image);
        let settings =
            format!("RUST_IMAGE={}\nRUNTIME_IMAGE={}\nPROMETHEUS_IMAGE={}\n", rust?, debian?, prometheus?);
        checkout.write(".env", &settings);
        checkout.write("compose.override.yaml", &overrides());
        Ok(checkout)
    }

    /// The directory of compose.yaml.
    pub fn docker_dir(&self) -> PathBuf {
        self.dir.path().join("deploy/docker")
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.docker_dir().join(name), text).expect("a file of the checkout");
    }

    /// Runs a line in the directory of compose.yaml. The line finds the programs under test.
    #[track_caller]
    pub fn sh(&self, line: &str) -> String {
        self.try_sh(line).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Like [`Self::sh`].
    ///
    /// # Errors
    /// The command and its stderr, if it fails.
    pub fn try_sh(&self, line: &str) -> Result<String, String> {
        let programs = Path::new(env!("CARGO_BIN_EXE_uplink-sim")).parent().expect("a directory");
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("sh");
        command.args(["-ec", &format!("umask 077\n{line}")]).current_dir(self.docker_dir());
        run(command.env("PATH", path).env("COMPOSE_PROJECT_NAME", &self.project))
    }

    /// Builds a service of compose.yaml by `command`. `image` is its name. Removes the image that had the name before.
    pub fn build(&self, command: &str, image: &str) {
        let id = || try_docker(["image", "inspect", "--format", "{{.Id}}", image]);
        let before = id();
        self.sh(command);
        if let (Ok(before), Ok(after)) = (before, id())
            && before != after
        {
            // A container of another run may still use it.
            drop(try_docker(["image", "rm", &before]));
        }
    }

    /// Where this host reaches `port` of a service.
    pub fn address(&self, service: &str, port: u16) -> SocketAddr {
        let address = self.sh(&format!("docker compose port {service} {port}"));
        address.parse().unwrap_or_else(|error| panic!("{address:?}: {error}"))
    }

    /// The id of the container of a service.
    pub fn container(&self, service: &str) -> String {
        self.sh(&format!("docker compose ps --all --quiet {service}"))
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = self.try_sh("docker compose --profile simulate logs --no-color --tail 40 2>&1");
            eprintln!("{}", logs.unwrap_or_else(|error| error));
        }
        drop(self.try_sh("docker compose --profile simulate down --volumes --timeout 5"));
    }
}

/// The name of the daemon's image. Two worktrees have two.
pub fn image_name() -> String {
    format!("telemetry-aggregator-test/daemon:{:08x}", crc32c::crc32c(env!("CARGO_MANIFEST_DIR").as_bytes()))
}

/// The image of another stage of the same build.
pub fn stage_name(stage: &str) -> String {
    image_name().replace("daemon", stage)
}

/// What differs from compose.yaml: names and ports that no other run has. No image of Grafana can be made from packages of
/// Debian.
fn overrides() -> String {
    let image = image_name();
    let [symbols, package] = ["symbols", "package"].map(stage_name);
    format!(
        r#"
services:
  aggregator:
    image: {image}
    ports: !override ["127.0.0.1::7480", "127.0.0.1::7481", "127.0.0.1::7482"]
  uplink-sim:
    image: {image}
  prometheus:
    ports: !override ["127.0.0.1::9090"]
  grafana:
    profiles: [grafana]
  symbols:
    image: {symbols}
    profiles: [symbols]
    build:
      context: ../..
      dockerfile: deploy/docker/Dockerfile
      target: symbols
      args: [RUST_IMAGE, RUNTIME_IMAGE]
  package:
    image: {package}
    profiles: [package]
    build:
      context: ../..
      dockerfile: deploy/docker/Dockerfile
      target: package
      args: [RUST_IMAGE, RUNTIME_IMAGE]
"#
    )
}
