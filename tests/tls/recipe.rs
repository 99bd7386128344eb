//! The recipe in docs/security.md, as it stands there.

use std::process::Command;

use crate::support::Daemon;
use crate::support::command::{expect_exit, output};

/// The code blocks of `language`, with the name of this host.
fn blocks(language: &str) -> Vec<String> {
    let text = include_str!("../../docs/security.md").replace("centre.example", "localhost");
    let fence = format!("```{language}\n");
    text.split(fence.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_recipe_works_as_it_stands() {
    let [make, clients] = &blocks("sh")[..] else { panic!("two blocks of commands") };
    let [config] = &blocks("toml")[..] else { panic!("one configuration") };
    let home = tempfile::tempdir().unwrap();
    let mut shell = Command::new("bash");
    expect_exit(shell.args(["-euc", make]).current_dir(home.path()), 0);
    let mut daemon = Daemon::start_at(home, &config.replace(":7480", ":0"));
    let ports = [(":7480", daemon.address()), (":7481", daemon.feed()), (":7482", daemon.http())];
    let commands = ports.iter().fold(clients.clone(), |text, (documented, address)| {
        text.replace(documented, &format!(":{}", address.port()))
    });
    let programs = std::path::Path::new(env!("CARGO_BIN_EXE_uplink-sim")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let has_curl = Command::new("curl").arg("--version").output().is_ok();
    let commands: String =
        commands.split_inclusive('\n').filter(|line| has_curl || !line.starts_with("curl")).collect();
    let mut shell = Command::new("bash");
    let ran = output(
        shell.args(["-euo", "pipefail", "-c", &commands]).env("PATH", path).current_dir(daemon.home()),
    );
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}\n{err}");
    assert_eq!(
        out.lines().filter(|line| line.starts_with('{') && line.contains("\"sequence\"")).count(),
        400,
        "{out}"
    );
    assert!(out.contains("healthy"), "{out}");
    daemon.stop();
}
