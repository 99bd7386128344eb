//! A minimal Debian in a container, with systemd as its first process.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;

use crate::engine::{base_image, docker, run, try_docker, unique, wait_for};

/// Makes the container look like a booted host to systemd: mounts propagate, and it may write its control groups.
const BOOT: &str = "mount --make-rshared / \
    && if [ -e /sys/fs/cgroup/cgroup.controllers ]; then mount -o remount,rw /sys/fs/cgroup; fi \
    && exec /lib/systemd/systemd";

/// A running Debian. Dropping this removes it, and shows the journal of the daemon if the test failed.
pub struct Machine {
    name: String,
}

impl Machine {
    /// Boots a machine.
    ///
    /// # Errors
    /// What this host lacks.
    pub fn boot() -> Result<Self, String> {
        let image = base_image("systemd")?;
        let machine = Self { name: unique("machine") };
        let mut command = Command::new("docker");
        command.args(["run", "--detach", "--name", &machine.name]);
        // The rights that systemd needs for the sandbox of the service.
        command.args(["--cap-add=SYS_ADMIN", "--cap-add=SYS_PTRACE"]);
        command.args(["--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"]);
        command.args(["--tmpfs=/run", "--tmpfs=/run/lock", "--tmpfs=/tmp"]);
        if Path::new("/sys/fs/cgroup/systemd").exists() {
            command.args(["--volume", "/sys/fs/cgroup:/sys/fs/cgroup:ro"]);
        }
        run(command.args([&image, "sh", "-ec", BOOT]))?;
        wait_for("systemd in a container", || {
            if docker(["inspect", "--format", "{{.State.Running}}", &machine.name]) != "true" {
                let said = run(Command::new("sh").args(["-c", "docker logs \"$0\" 2>&1", &machine.name]));
                return Ok(Err(format!("systemd does not run in a container: {said:?}")));
            }
            machine.try_sh("systemctl is-system-running --wait").map(|_| Ok(()))
        })?;
        Ok(machine)
    }

    /// Runs a line of bash as root. The line must succeed. Returns its stdout.
    #[track_caller]
    pub fn sh(&self, line: &str) -> String {
        self.try_sh(line).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Like [`Self::sh`].
    ///
    /// # Errors
    /// The line and its stderr, if it fails.
    pub fn try_sh(&self, line: &str) -> Result<String, String> {
        try_docker(["exec", &self.name, "bash", "-ec", line])
    }

    /// Copies a file of this host to a directory of the machine.
    pub fn copy_in(&self, file: &Path, to: &str) {
        docker(["cp", &file.display().to_string(), &format!("{}:{to}", self.name)]);
    }

    /// Copies a directory of the machine to a directory of this host.
    pub fn copy_out(&self, path: &str, to: &Path) {
        docker(["cp", &format!("{}:{path}", self.name), &to.display().to_string()]);
    }

    /// The address of a port. Connections go to the machine itself, not to a proxy of the engine.
    pub fn address(&self, port: u16) -> SocketAddr {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let ip: IpAddr = docker(["inspect", "--format", format, &self.name]).parse().expect("an address");
        SocketAddr::new(ip, port)
    }

    /// The log of the daemon.
    pub fn journal(&self) -> String {
        self.sh("journalctl --no-pager --output cat --unit telemetry-aggregator")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal = self.try_sh("journalctl --no-pager --lines 60 --unit 'telemetry-aggregator*'");
            eprintln!("{}", journal.unwrap_or_else(|error| error));
        }
        drop(try_docker(["rm", "--force", "--volumes", &self.name]));
    }
}
