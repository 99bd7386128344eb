//! The programs accept the commands in the docs for operators. The test runs those that can run here.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use crate::docker::make_secrets;
use crate::support::command::{aggregator, expect_exit, output, uplink_sim};
use crate::support::{Client, Daemon, Hello, ROUTINE};
use crate::{in_repository, text};

/// The docs for operators.
fn docs() -> Vec<String> {
    let [yamcs, edge] =
        ["yamcs", "edge-to-centre"].map(|example| format!("deploy/examples/{example}/README.md"));
    let mut docs = vec!["docs/operate.md".to_owned(), "docs/observe.md".to_owned(), yamcs, edge];
    for entry in std::fs::read_dir(in_repository("deploy")).expect("deploy") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        let path = format!("deploy/{name}/README.md");
        docs.extend(in_repository(&path).exists().then_some(path));
    }
    docs
}

/// Lines of code blocks, and code inside lines.
fn code(text: &str) -> Vec<&str> {
    let mut code = Vec::new();
    let mut is_fenced = false;
    for line in text.lines() {
        if line.starts_with("```") {
            is_fenced = !is_fenced;
        } else if is_fenced || line.starts_with("    ") {
            code.push(line.trim());
        } else {
            code.extend(line.split('`').skip(1).step_by(2));
        }
    }
    code
}

#[test]
fn the_programs_accept_the_commands_of_the_docs() {
    let mut seen = HashSet::new();
    // Some commands name files that exist once the secrets are made.
    let dir = tempfile::tempdir().unwrap();
    make_secrets("deploy/docker/README.md", dir.path());
    for doc in docs() {
        for code in code(&text(&doc)) {
            let line = code.strip_prefix("docker compose exec aggregator ").unwrap_or(code);
            let mut words = line.split_whitespace();
            let program = words.next();
            let args: Vec<_> = words.take_while(|word| !word.starts_with('#')).collect();
            let mut command = match program {
                Some("telemetry-aggregator") if !args.is_empty() => aggregator(&args),
                Some("uplink-sim") if !args.is_empty() => uplink_sim(&args),
                _ => continue,
            };
            let ran = output(command.arg("--help").current_dir(dir.path()));
            let said = String::from_utf8_lossy(&ran.stderr);
            assert!(ran.status.success(), "{doc}: {line}: {said}");
            seen.insert(line.to_owned());
        }
    }
    assert!(seen.len() > 8, "{seen:?}");
}

/// Runs a line of the docs in a shell that finds the programs. The paths of `daemon` and `srv` replace those of a
/// host.
fn run(line: &str, daemon: &Daemon, srv: &Path) {
    let data = daemon.archive_dir();
    let data = data.parent().expect("data_dir").display().to_string();
    let line = line
        .replace("/etc/telemetry-aggregator/aggregator.toml", &daemon.config_path().display().to_string())
        .replace("/var/lib/telemetry-aggregator", &data)
        .replace("/srv", &srv.display().to_string());
    let programs = Path::new(env!("CARGO_BIN_EXE_telemetry-aggregator")).parent().expect("a directory");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    expect_exit(Command::new("sh").args(["-ec", &line]).env("PATH", path), 0);
}

#[test]
fn the_commands_of_the_docs_check_back_up_and_repair_an_archive() {
    let text = text("docs/operate.md");
    let lines: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let of = |begin: &str| {
        let lines: Vec<_> = lines.iter().filter(|line| line.starts_with(begin)).collect();
        assert!(!lines.is_empty(), "no line begins with {begin}");
        lines
    };
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1));
    for sequence in 0..20 {
        client.deliver(ROUTINE, sequence, b"kept");
    }
    let srv = tempfile::tempdir().unwrap();
    // `repair` requires that the parent directory of its output exists.
    std::fs::create_dir(srv.path().join("repaired")).unwrap();
    for line in
        [of("telemetry-aggregator check"), of("mkdir"), of("telemetry-aggregator archive verify")].concat()
    {
        run(line, &daemon, srv.path());
    }
    daemon.stop();
    for line in of("telemetry-aggregator archive repair") {
        run(line, &daemon, srv.path());
    }
    for copy in ["backup", "repaired"] {
        assert_eq!(crate::support::archived(&srv.path().join(copy).join("archive")).len(), 20, "{copy}");
    }
}
