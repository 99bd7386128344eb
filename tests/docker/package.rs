//! The package of `deploy/debian` on a minimal Debian: install, upgrade under load, remove, purge.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use sim::Plan;
use tempfile::TempDir;

use crate::checkout::{Checkout, stage_name};
use crate::container::Created;
use crate::engine::wait_for;
use crate::image::built_checkout;
use crate::machine::Machine;
use crate::support::command::expect_exit;
use crate::support::fleet::{Fleet, FleetLog};
use crate::support::prober::Prober;
use crate::support::{LIMIT, not_tested, wait_until};
use crate::{alone, command_of, text};

const PACKAGE: &str = "telemetry-aggregator";
/// The package with the symbols, beside the package with the programs.
const SYMBOLS: &str = "telemetry-aggregator-dbgsym.deb";
const README: &str = "deploy/debian/README.md";
pub(super) const CONFIG: &str = "/etc/telemetry-aggregator/aggregator.toml";
/// The size of the package. Compressed programs take almost all of it.
const PACKAGE_BYTES: std::ops::Range<u64> = 1 << 20..12 << 20;
/// Frames of the fleet that are acknowledged before the test goes on.
const LIFE_FRAMES: u64 = 5_000;

/// The packages, built by the README's command on the Debian of the image.
struct Packages {
    dir: TempDir,
}

impl Packages {
    fn build(checkout: &Checkout) -> Self {
        let command = command_of(README, "deploy/debian/build");
        assert!(text("deploy/docker/Dockerfile").contains(&format!("RUN {command}\n")), "{command}");
        checkout.build("docker compose build package", &stage_name("package"));
        let dir = tempfile::tempdir().unwrap();
        Created::new(&stage_name("package")).copy("/.", dir.path());
        Self { dir }
    }

    /// The package with the programs.
    fn main(&self) -> PathBuf {
        self.named(&format!("{PACKAGE}_"))
    }

    fn named(&self, begin: &str) -> PathBuf {
        let entries = std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let is_it =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(begin));
        entries.filter(|path| is_it(path)).min().unwrap_or_else(|| panic!("no package {begin}"))
    }
}

/// The path of the package, built once. Without an engine this reports what is not tested.
fn package(what: &str) -> Option<&'static Path> {
    static BUILT: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let checkout = built_checkout("package for Debian")?;
        let packages = Packages::build(&checkout);
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("telemetry-aggregator.deb");
        std::fs::copy(packages.main(), &kept).unwrap();
        std::fs::copy(packages.named(&format!("{PACKAGE}-dbgsym_")), kept.with_file_name(SYMBOLS)).unwrap();
        Some(kept)
    });
    if BUILT.is_none() {
        not_tested(format_args!("docker: {what}"));
    }
    BUILT.as_deref()
}

/// A machine that has the package as a file. `None` where no machine boots.
pub(super) fn machine(what: &str) -> Option<Machine> {
    let package = package(what)?;
    match Machine::boot() {
        Ok(machine) => {
            machine.copy_in(package, "/root/package.deb");
            Some(machine)
        }
        Err(error) => {
            not_tested(format_args!("docker: {what}: {error}"));
            None
        }
    }
}

/// A machine with the package, which is not started yet.
pub(super) fn installed(what: &str) -> Option<Machine> {
    let machine = machine(what)?;
    machine.sh("dpkg -i /root/package.deb");
    Some(machine)
}

/// Starts the service as the README says, and waits until the daemon takes in everything.
pub(super) fn start(machine: &Machine) {
    machine.sh(&command_of(README, "systemctl enable"));
    wait_ready(machine);
}

/// Waits until the daemon takes in everything.
pub(super) fn wait_ready(machine: &Machine) {
    wait_for("a ready daemon", || machine.try_sh("telemetry-aggregator health --ready"));
}

#[test]
fn lintian_has_no_errors_and_no_warnings() {
    let what = "lintian on the packages";
    if let Err(error) = Command::new("lintian").arg("--version").output() {
        not_tested(format_args!("docker: {what}: lintian cannot be started: {error}"));
        return;
    }
    let Some(package) = package(what) else { return };
    for package in [package.to_owned(), package.with_file_name(SYMBOLS)] {
        let mut lintian = Command::new("lintian");
        lintian.args(["--allow-root", "--fail-on", "error,warning"]).arg(package);
        expect_exit(&mut lintian, 0);
    }
}

#[test]
fn the_package_has_what_a_user_of_debian_expects() {
    let Some(machine) = installed("content of the package") else { return };
    let size = machine.sh("stat -c %s /root/package.deb").parse().unwrap();
    assert!(PACKAGE_BYTES.contains(&size), "{size} bytes");
    eprintln!("package: {size} bytes");
    assert_eq!(machine.sh("dpkg --verify telemetry-aggregator"), "", "files differ from their sums");
    let files = machine.sh("dpkg -L telemetry-aggregator");
    for file in [
        "/usr/bin/telemetry-aggregator",
        "/usr/bin/uplink-sim",
        "/usr/lib/systemd/system/telemetry-aggregator-http.socket",
        "/usr/share/man/man1/telemetry-aggregator.1.gz",
        "/usr/share/man/man1/telemetry-aggregator-archive-verify.1.gz",
        "/usr/share/man/man1/uplink-sim.1.gz",
        "/usr/share/bash-completion/completions/telemetry-aggregator",
        "/usr/share/zsh/vendor-completions/_uplink-sim",
        "/usr/share/fish/vendor_completions.d/telemetry-aggregator.fish",
        "/usr/share/doc/telemetry-aggregator/changelog.gz",
    ] {
        assert!(files.lines().any(|line| line == file), "no {file} in {files}");
        machine.sh(&format!("test -s {file}"));
    }
    let page = machine.sh("zcat /usr/share/man/man1/telemetry-aggregator.1.gz");
    assert!(page.contains(".TH telemetry-aggregator 1") && page.contains("into a durable archive"), "{page}");
    assert!(machine.sh("cat /usr/share/doc/telemetry-aggregator/copyright").contains(" tokio v"));
    machine.sh("bash -n /usr/share/bash-completion/completions/telemetry-aggregator");
    assert_eq!(
        machine.sh("stat -c '%a %U' /etc/telemetry-aggregator/{ingest,feed,http}.token"),
        "600 root\n600 root\n600 root"
    );
    assert_eq!(
        machine.sh("systemctl is-active telemetry-aggregator || true"),
        "inactive",
        "a first install starts nothing"
    );
    assert_eq!(machine.sh("systemctl --failed --quiet --no-legend"), "");
}

/// Sources that send to the machine.
fn plan(machine: &Machine) -> Plan {
    Plan {
        connect: machine.address(7480).to_string(),
        satellites: 8,
        replays: 2,
        rate: 200.0,
        linger: LIMIT,
        token: machine.sh("cat /etc/telemetry-aggregator/ingest.token"),
        ..Plan::default()
    }
}

#[test]
fn an_upgrade_under_load_refuses_no_connection_and_loses_no_frame() {
    let Some(machine) = installed("upgrade of the package") else { return };
    let _alone = alone();
    machine.sh(
        "cd /root && dpkg-deb -R package.deb next && sed -i 's/^Version: .*/Version: 99/' next/DEBIAN/control \
         && dpkg-deb -b next next.deb",
    );
    machine.sh(&format!("sed -i 's/^.feed.$/[log]\\nlevel = \"debug\"\\n\\n[feed]/' {CONFIG}"));
    start(&machine);
    let pid = || machine.sh("systemctl show --property MainPID --value telemetry-aggregator");
    let plan = plan(&machine);
    let (first, fleet) = (pid(), Fleet::start(plan.clone()));
    let prober = Prober::start([machine.address(7480), machine.address(7481)]);
    fleet.wait_acked(LIFE_FRAMES);

    machine.sh("dpkg -i /root/next.deb");
    assert_ne!(pid(), first, "the upgrade restarts the daemon");
    fleet.wait_acked(LIFE_FRAMES);
    let before = prober.connected();
    wait_until("connections after the upgrade", || {
        (prober.connected() > before + 10).then_some(()).ok_or_else(|| prober.connected().to_string())
    });
    let report = fleet.stop_connected();
    prober.stop();
    assert!(report.is_complete() && report.reconnects >= u64::from(plan.sources()), "{report}");
    assert!(machine.sh(&format!("cat {CONFIG}")).contains("debug"), "the configuration was replaced");

    machine.sh(&command_of(README, "systemctl stop"));
    let dir = tempfile::tempdir().unwrap();
    machine.copy_out("/var/lib/telemetry-aggregator/archive", dir.path());
    let archived = FleetLog::read(&plan, &dir.path().join("archive"), |frame| panic!("{frame:?}"));
    assert_eq!(archived, report.sent, "frames in the archive");
}

#[test]
fn removing_keeps_data_and_configuration_and_purging_keeps_the_archive() {
    let Some(machine) = installed("removal of the package") else { return };
    start(&machine);
    let send = "uplink-sim --satellites 2 --replays 0 --frames 100 --token-file /etc/telemetry-aggregator/ingest.token";
    machine.sh(send);
    let is_there = |path: &str| machine.try_sh(&format!("test -e {path}")).is_ok();

    machine.sh(&command_of(README, "apt-get remove").replace("apt-get", "apt-get --yes"));
    for gone in ["/usr/bin/telemetry-aggregator", "/usr/lib/systemd/system/telemetry-aggregator.service"] {
        assert!(!is_there(gone), "{gone}");
    }
    assert!(is_there(CONFIG) && is_there("/etc/telemetry-aggregator/ingest.token"));
    assert_eq!(machine.sh("pidof telemetry-aggregator || true"), "", "the daemon still runs");
    // State 0A is LISTEN, 1D38 is 7480.
    let listens = |line: &str| line.contains(":1D38 ") && line.contains(":0000 0A ");
    assert!(!machine.sh("cat /proc/net/tcp6").lines().any(listens), "port 7480 listens");

    let said = machine.sh("apt-get --yes purge telemetry-aggregator 2>&1");
    assert!(said.contains("/var/lib/telemetry-aggregator keeps the archive"), "{said}");
    assert!(!is_there("/etc/telemetry-aggregator"));
    // The same package continues the archive.
    machine.sh("dpkg -i /root/package.deb");
    start(&machine);
    machine.sh(send);
    let listed = machine.sh("telemetry-aggregator archive cat /var/lib/telemetry-aggregator | wc -l");
    assert_eq!(listed, "400");
}
