//! Containers and volumes that a test makes and removes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::engine::{docker, run, try_docker, unique, wait_for};
use crate::readme_command;

/// Where the daemon in the image keeps its data.
pub const DATA_DIR: &str = "/var/lib/telemetry-aggregator";

/// A volume. Dropping this removes the volume.
pub struct Volume {
    pub name: String,
}

impl Volume {
    pub fn new() -> Self {
        let name = unique("volume");
        docker(["volume", "create", &name]);
        Self { name }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        drop(try_docker(["volume", "rm", "--force", &self.name]));
    }
}

/// The tokens that the configuration in the image names, made by the README's command.
pub struct Secrets {
    dir: TempDir,
}

impl Secrets {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("no temporary directory");
        let line = readme_command("install ");
        run(Command::new("sh").args(["-ec", &line]).current_dir(dir.path())).expect("secrets");
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("secrets").join(name)
    }

    /// The token of sources.
    pub fn ingest(&self) -> String {
        std::fs::read_to_string(self.path("ingest.token")).expect("a token").trim().to_owned()
    }
}

/// A container that runs the daemon. Dropping this removes the container, and shows its log if the test failed.
pub struct Container {
    name: String,
}

impl Container {
    /// Starts the daemon as compose.yaml does: read-only, without capabilities, with nothing but its volume. Sources reach
    /// the daemon at `ingest`.
    pub fn start(image: &str, volume: &Volume, secrets: &Secrets, ingest: SocketAddr) -> Self {
        let container = Self { name: unique("daemon") };
        let mut command = Command::new("docker");
        command.args(["run", "--detach", "--name", &container.name, "--read-only", "--cap-drop=ALL"]);
        command.args(["--security-opt=no-new-privileges:true", "--health-interval=1s"]);
        command.args(["--publish", &format!("{ingest}:7480")]);
        command.args(["--volume", &format!("{}:{DATA_DIR}", volume.name)]);
        for name in ["ingest.token", "feed.token", "http.token"] {
            let mount = format!("{}:/run/secrets/{name}:ro", secrets.path(name).display());
            command.args(["--volume", &mount]);
        }
        run(command.arg(image)).expect("a container");
        container
    }

    /// Waits until the health check of the image has succeeded.
    pub fn wait_healthy(&self) {
        wait_for("a healthy daemon", || match self.inspect("{{.State.Health.Status}}") {
            status if status == "healthy" => Ok(()),
            status => Err(status),
        });
    }

    pub fn inspect(&self, format: &str) -> String {
        docker(["inspect", "--format", format, &self.name])
    }

    /// Sends a signal to the daemon.
    pub fn kill(&self, signal: &str) {
        docker(["kill", "--signal", signal, &self.name]);
    }

    /// Waits for the end of the daemon. Returns its exit code.
    pub fn wait_exit(&self) -> String {
        docker(["wait", &self.name])
    }

    /// Runs a command in the container, which must succeed.
    pub fn exec(&self, args: &[&str]) -> String {
        docker([&["exec", &self.name], args].concat())
    }

    /// Copies the archive of the ended daemon to a directory on this host. Returns the copy.
    pub fn archive(&self, dir: &Path) -> PathBuf {
        docker(["cp", &format!("{}:{DATA_DIR}/archive", self.name), &dir.display().to_string()]);
        dir.join("archive")
    }

    /// The last line of the log that has this message. The image writes the log as JSON to stderr.
    pub fn last_line(&self, message: &str) -> Value {
        let log =
            run(Command::new("sh").args(["-ec", "docker logs \"$0\" 2>&1", &self.name])).expect("the log");
        let mut lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found = lines.find(|line| line["message"] == message);
        found.unwrap_or_else(|| panic!("no line {message:?} in {log}"))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = run(Command::new("sh").args(["-c", "docker logs --tail 40 \"$0\" 2>&1", &self.name]));
            eprintln!("{}", log.unwrap_or_else(|error| error));
        }
        drop(try_docker(["rm", "--force", "--volumes", &self.name]));
    }
}

/// A container that does not run, for the files of its image.
pub struct Created {
    name: String,
}

impl Created {
    pub fn new(image: &str) -> Self {
        let name = unique("files");
        docker(["create", "--name", &name, image, "none"]);
        Self { name }
    }

    /// Copies a file or a directory to a path of this host.
    pub fn copy(&self, path: &str, to: &Path) {
        docker(["cp", &format!("{}:{path}", self.name), &to.display().to_string()]);
    }

    /// The content of a file.
    pub fn file(&self, path: &str, dir: &Path) -> Vec<u8> {
        let copy = dir.join("copy");
        self.copy(path, &copy);
        std::fs::read(&copy).expect("the copy")
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        drop(try_docker(["rm", "--force", "--volumes", &self.name]));
    }
}
