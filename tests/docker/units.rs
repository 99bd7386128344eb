//! The units of `deploy/systemd` under a real systemd, with the commands of their README.

use std::path::Path;

use crate::engine::wait_for;
use crate::machine::Machine;
use crate::package::{CONFIG, installed, machine, start, wait_ready};
use crate::{code_lines, command_of};

const README: &str = "deploy/systemd/README.md";

/// The command that makes the token of a station.
fn token_command() -> String {
    command_of(README, "(umask 077; head")
}

/// Waits until the log of the daemon has this text.
fn wait_journal(machine: &Machine, text: &str) {
    wait_for(text, || {
        let journal = machine.journal();
        journal.contains(text).then_some(()).ok_or(journal)
    });
}

#[test]
fn the_commands_of_the_readme_install_a_service_that_reloads_and_restarts() {
    let Some(machine) = machine("installation under systemd") else { return };
    machine.sh("mkdir -p /src/deploy /src/target/release && dpkg-deb -x /root/package.deb /tmp/files \
         && cp /tmp/files/usr/bin/telemetry-aggregator /src/target/release/");
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd");
    machine.copy_in(&units, "/src/deploy/");
    let commands: Vec<_> =
        code_lines(README, "sh").into_iter().filter(|line| *line != token_command()).collect();
    assert_eq!(commands.len(), 5, "{commands:?}");
    machine.sh(&format!("cd /src\n{}", commands.join("\n")));
    wait_ready(&machine);
    machine.sh("systemctl reload telemetry-aggregator");
    wait_journal(&machine, "configuration reloaded, nothing has changed");
    machine.sh("systemctl restart telemetry-aggregator");
    wait_ready(&machine);
    assert_eq!(machine.sh("systemctl --failed --quiet --no-legend"), "");
}

#[test]
fn a_token_of_a_station_comes_with_a_restart_and_goes_with_a_reload() {
    let Some(machine) = installed("tokens of stations under systemd") else { return };
    start(&machine);
    machine.sh(&token_command());
    let config = machine.sh(&format!("cat {CONFIG}"));
    let with_station = format!("{config}\n{}\n", code_lines(README, "toml").join("\n"));
    let write = |text: &str| machine.sh(&format!("cat > {CONFIG} <<'END'\n{text}\nEND"));
    let send = |station: &str| {
        // The first station of a simulated fleet has this name.
        machine.try_sh(&format!(
            "uplink-sim --satellites 1 --stations 1 --replays 0 --frames 5 \
             --token-file /etc/telemetry-aggregator/stations/{station}.token"
        ))
    };
    write(&with_station);
    machine.sh("telemetry-aggregator check");

    // systemd copies credentials at the start of the service, so a reload finds no file.
    machine.sh("systemctl reload telemetry-aggregator");
    wait_journal(&machine, "the configuration in force has not changed");
    assert!(send("svalbard").is_err(), "a reload cannot see a new token");

    machine.sh("systemctl restart telemetry-aggregator");
    send("svalbard").expect("the token of the station");

    write(&config);
    machine.sh("systemctl reload telemetry-aggregator");
    wait_journal(&machine, "ingest.tokens (1 removed)");
    assert!(send("svalbard").is_err(), "the token is withdrawn");
}
