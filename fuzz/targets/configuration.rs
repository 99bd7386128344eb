//! The configuration file: an error has a text, and what is accepted can be checked again.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use config::Config;

/// A file in memory: each run writes it.
static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| format!("/dev/shm/fuzz-{}.toml", std::process::id()).into());

fuzz_target!(|bytes: &[u8]| {
    if std::str::from_utf8(bytes).is_err() {
        return;
    }
    std::fs::write(&*FILE, bytes).expect("a file in memory");
    let load = || Config::load(Some(FILE.as_path()), std::iter::empty());
    match load() {
        Ok(loaded) => drop(loaded.config.validate()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
