//! The crates that the programs are built from: their licences, and that none is there in two versions by accident.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// Licences that put no condition on the programs but to name the authors.
const LICENCES: [&str; 11] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that are there in two versions. Both versions of `syn` only build macros, and `getrandom` is a few system calls.
/// `object_store` takes hashes from crates of two ages and newer iterators than `ratatui`. `async-nats` has older random
/// numbers, and older hashes for the signature of its credentials.
const TWICE: [&str; 10] = [
    "base64",
    "block-buffer",
    "cpufeatures",
    "crypto-common",
    "digest",
    "getrandom",
    "itertools",
    "rand",
    "rand_core",
    "syn",
];

/// Runs cargo on this package and returns what it prints.
fn cargo(args: &[&str]) -> String {
    let mut cargo = Command::new(env!("CARGO"));
    let ran = cargo.args(args).arg("--locked").current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let ran = ran.expect("cargo runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).expect("text")
}

/// Whether the expression leaves a choice of licences that are all in the list. Parentheses are only around choices.
fn is_allowed(expression: &str) -> bool {
    let is_listed = |licence: &str| LICENCES.contains(&licence.trim());
    let has_choice =
        |part: &str| part.trim_matches(['(', ')']).replace('/', " OR ").split(" OR ").any(is_listed);
    expression.split(" AND ").all(has_choice)
}

#[test]
fn a_licence_is_allowed_if_each_part_leaves_a_choice() {
    for allowed in ["MIT", "GPL-3.0 OR MIT", "MIT/Unlicense", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
        assert!(is_allowed(allowed), "{allowed}");
    }
    for refused in ["GPL-3.0", "MIT AND GPL-3.0", "(GPL-3.0 OR LGPL-3.0) AND MIT", ""] {
        assert!(!is_allowed(refused), "{refused}");
    }
}

#[test]
fn every_crate_has_an_allowed_licence() {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let printed = cargo(&["metadata", "--format-version", "1", "--filter-platform", &platform]);
    let metadata: Value = serde_json::from_str(&printed).expect("JSON");
    let used: BTreeSet<_> = metadata["resolve"]["nodes"]
        .as_array()
        .expect("crates")
        .iter()
        .map(|node| &node["id"])
        .map(Value::to_string)
        .collect();
    let packages = metadata["packages"].as_array().expect("crates").iter();
    let foreign: Vec<_> = packages
        .filter(|package| used.contains(&package["id"].to_string()) && !package["source"].is_null())
        .collect();
    assert!(foreign.len() > 50, "{} crates", foreign.len());
    for package in foreign {
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(is_allowed(licence), "{} has the licence {licence:?}", package["name"]);
    }
}

#[test]
fn no_crate_comes_in_two_versions_by_accident() {
    let printed = cargo(&["tree", "--duplicates", "--edges", "normal", "--prefix", "depth"]);
    let roots = printed.lines().filter_map(|line| line.strip_prefix('0'));
    let found: BTreeSet<_> = roots.filter_map(|line| line.split(' ').next()).collect();
    assert!(
        found.is_subset(&BTreeSet::from(TWICE)),
        "crates in two versions: {found:?}; let their users agree on one, or add them here with the reason"
    );
}
