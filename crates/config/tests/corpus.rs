//! Loads every configuration of `corpus.txt` and compares the verdicts, the messages, what is printed and what a reload
//! would change with `corpus.golden`.
//!
//! `GOLDEN=write cargo test -p config --test corpus` writes the golden file. Read its difference before you commit it.
//!
//! In `corpus.txt`, a line `==== name` begins a configuration, and a line `#env NAME=value` sets a variable. `DIR` is
//! the directory of the files that [`files`] writes.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use config::{Change, Config, Loaded};
use tempfile::TempDir;

#[test]
fn verdicts_and_messages_are_those_of_the_golden_file() {
    let dir = files();
    let base = loaded(dir.path(), "", &[]).expect("the defaults are valid").config;
    let mut found = String::new();
    let mut count = 0;
    for case in include_str!("corpus.txt").split("==== ").skip(1) {
        let (name, text) = case.split_once('\n').unwrap_or((case, ""));
        let (env, text): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with("#env "));
        let env: Vec<_> = env.iter().filter_map(|line| line["#env ".len()..].split_once('=')).collect();
        let report = report(&base, loaded(dir.path(), &(text.join("\n") + "\n"), &env));
        let report = report.replace(dir.path().to_str().unwrap(), "DIR").replace("DIR/c.toml", "c.toml");
        let _ = writeln!(found, "==== {name}\n{report}");
        count += 1;
    }
    assert!(count >= 200, "{count} configurations");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus.golden");
    if std::env::var("GOLDEN").is_ok_and(|wish| wish == "write") {
        fs::write(&path, &found).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap();
    for (found, golden) in found.split("==== ").zip(golden.split("==== ")) {
        assert_eq!(found, golden);
    }
    assert_eq!(found.len(), golden.len());
}

fn loaded(dir: &Path, text: &str, env: &[(&str, &str)]) -> Result<Loaded, config::ConfigError> {
    let path = dir.join("c.toml");
    fs::write(&path, text.replace("DIR", dir.to_str().unwrap())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(Some(&path), env)
}

/// The problems, or what the configuration does.
fn report(base: &Config, loaded: Result<Loaded, config::ConfigError>) -> String {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return format!("INVALID\n{error}\n"),
    };
    let config = loaded.config;
    let mut out = "VALID\n".to_owned();
    let printed = config.to_toml();
    let usual = base.to_toml();
    let usual: Vec<_> = usual.lines().collect();
    for line in printed.lines().filter(|line| line.is_empty() || !usual.contains(line)) {
        if !(line.is_empty() && out.ends_with("\n\n")) {
            let _ = writeln!(out, "{line}");
        }
    }
    for warning in &loaded.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    match Change::new(base, base, &config) {
        Ok(change) => {
            for changed in &change.changed {
                let _ = writeln!(out, "changed: {changed}");
            }
            for waiting in &change.waiting {
                let _ = writeln!(out, "{waiting}");
            }
        }
        Err(mismatch) => {
            for problem in &mismatch.problems {
                let _ = writeln!(out, "mismatch: {problem}");
            }
        }
    }
    out
}

/// A directory with the files that the configurations name.
fn files() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
    for (name, content, mode) in [
        ("token", "hunter2\n", 0o600),
        ("token2", "hunter3\n", 0o600),
        ("open", "hunter4\n", 0o644),
        ("empty", "\n", 0o600),
        ("server.pem", &certificate, 0o600),
        ("server.key", &key, 0o600),
        ("ca.pem", &certificate, 0o600),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    dir
}
