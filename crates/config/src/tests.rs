//! Tests of [`Config::load`]: its results and its messages.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::print::{Setting, settings};
use super::source::FILE_BYTES_MAX;
use super::*;

mod any_text;
mod limits;
mod link_checks;
mod link_tables;
mod messages;
mod output_tables;
mod overriding;
mod tls;
mod token_lists;

/// Loads `text` as the file `c.toml` without overrides.
fn load(text: &str) -> Result<Loaded, ConfigError> {
    load_with(text, &[])
}

/// Loads `text` as the file `c.toml` with overrides.
fn load_with(text: &str, env: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let source = Source { path: PathBuf::from("c.toml"), text: text.to_owned(), mode: 0o600 };
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Config::load_source(Some(source), env, Purpose::Run)
}

/// The configuration of `text`.
pub(super) fn config(text: &str) -> Config {
    load(text).unwrap_or_else(|error| panic!("{error}")).config
}

/// All errors in `text`.
fn errors(text: &str) -> String {
    load(text).unwrap_err().to_string()
}

/// An empty environment.
fn no_env() -> impl Iterator<Item = (String, String)> {
    std::iter::empty()
}

#[test]
fn an_empty_file_means_the_defaults() {
    assert_eq!(config(""), Config::default());
}

#[test]
fn the_shipped_file_equals_the_defaults_and_names_every_key() {
    let text = include_str!("../../../config/aggregator.toml");
    assert_eq!(config(text), Config::default());

    let mut section = String::new();
    let mut named = Vec::new();
    for line in text.lines() {
        let line = line.trim_start_matches("# ");
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_matches(['[', ']']).to_owned();
        } else if let Some((name, _)) = line.split_once(" = ") {
            named.push(tree::path(&section, name));
        }
    }
    let words: Vec<_> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    for setting in settings(&Config::default()) {
        let path = setting.path();
        if !setting.is_list() {
            assert!(named.contains(&path), "{path} is missing");
            continue;
        }
        for name in allowed_after(&format!("[[{path}]]\nzzz = 1"), "(allowed here: ") {
            // A key that excludes another one stands in the sentence beside that.
            let is_named = named.contains(&format!("{path}.{name}")) || words.contains(&name.as_str());
            assert!(is_named, "{path}.{name} is missing");
        }
    }
    for name in inner_keys() {
        assert!(words.contains(&name.as_str()), "{name} is missing");
    }
}

/// The names that the only error in `text` lists after `start`.
fn allowed_after(text: &str, start: &str) -> Vec<String> {
    let error = errors(text);
    let names = error.split_once(start).unwrap_or_else(|| panic!("{error}")).1.trim_end_matches(')');
    names.split(", ").map(|name| name.trim_matches('"').to_owned()).collect()
}

/// The kinds and keys of the tables in links and outputs.
fn inner_keys() -> Vec<String> {
    let mut names = Vec::new();
    for (list, table) in [("links", "framing"), ("links", "decode"), ("outputs", "framing")] {
        let start = match (list, table) {
            ("links", "decode") => "name = \"a\"\nconnect = \"a:1\"\nframing = { kind = \"kiss\" }",
            ("links", _) => "name = \"a\"\nconnect = \"a:1\"",
            _ => "name = \"a\"\nlisten = \"127.0.0.1:1\"",
        };
        let of_kind = |keys: &str| format!("[[{list}]]\n{start}\n{table} = {{ {keys} }}");
        for kind in allowed_after(&of_kind("kind = \"zzzzzzzz\""), "expected one of ") {
            if (list, kind.as_str()) != ("outputs", "cosmos") {
                names.extend(allowed_after(
                    &of_kind(&format!("kind = \"{kind}\", zzz = 1")),
                    "(allowed here: ",
                ));
            }
            names.push(kind);
        }
    }
    for (table, keys) in
        [("links", "emergency = [{ zzz = 1 }]"), ("outputs", "select.zzz = 1"), ("outputs", "cosmos.zzz = 1")]
    {
        let text = format!("[[{table}]]\nname = \"a\"\nudp = \"127.0.0.1:1\"\n{keys}");
        let text = if table == "links" { text + "\nframing = { kind = \"datagram\" }" } else { text };
        names.extend(allowed_after(&text, "(allowed here: "));
    }
    names
}

#[test]
fn commented_settings_of_the_shipped_file_are_valid() {
    let dir = TempDir::new().unwrap();
    let token_file = dir.path().join("token");
    fs::write(&token_file, "secret\n").unwrap();
    let files = tls::Files::new();
    let text: String = include_str!("../../../config/aggregator.toml")
        .lines()
        .filter(|line| !line.starts_with("# token = "))
        .map(|line| match line.strip_prefix("# ") {
            Some(code) if code.starts_with("token_file = ") => {
                format!("token_file = {:?}\n", token_file.to_str().unwrap())
            }
            Some(code) if code.contains(tls::SHIPPED_DIR) => {
                format!("{}\n", code.replace(tls::SHIPPED_DIR, files.directory()))
            }
            // All the examples together need more memory than the defaults.
            _ if line.starts_with("memory_limit = ") => "memory_limit = \"1280 MiB\"\n".to_owned(),
            _ if line == "export = \"\"" => "export = \"export\"\n".to_owned(),
            Some(code) if code.starts_with("[[") || code.contains(" = ") => format!("{code}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = config(&text);
    assert_eq!(config.archive.retention_age, Some(Duration::from_secs(30 * 86_400)));
    assert_eq!(config.ingest.tokens.len(), 1);
    assert_eq!(config.feed.tokens.len(), 1);
    assert_eq!((config.ingest.clients.len(), config.feed.clients.len()), (1, 1));
    assert!(config.tls.files.sides.ingest.is_some());
    assert!(config.http.token.is_some());
    assert!(config.catalog.file.is_some());
    let links: Vec<_> = config.links.iter().map(|link| link.name.as_str()).collect();
    assert_eq!(links, ["kiruna-x", "svalbard-packets", "inuvik-udp"]);
    let outputs: Vec<_> = config.outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(outputs, ["yamcs-live", "cosmos", "yamcs-frames", "ops-bus", "centre"]);
}

#[test]
fn every_key_is_accepted() {
    let text = r#"
        data_dir = "/d"
        require_tls = true
        [log]
        level = "trace"
        format = "json"
        [ingest]
        listen = "[::1]:1"
        max_connections = 10
        max_connections_per_address = 11
        hello_timeout = "1s"
        heartbeat = "2s"
        max_message = "4 KiB"
        routine_window = "5 KiB"
        emergency_window = "6 KiB"
        memory_limit = "700 MiB"
        max_streams = 8
        max_streams_per_source = 7
        max_takeovers_per_minute = 9
        tls = false
        [pipeline]
        processor_capacity = 12
        broadcast_capacity = 13
        routine_max_delay = "14ms"
        [archive]
        commit_delay = "15ms"
        segment_size = "16 MiB"
        reserve = "9 MiB"
        retention_age = "18days"
        retention_size = "190 MiB"
        direct_io = "off"
        store_replays = false
        export = "/e"
        export_format = "csv"
        [export]
        store = "s3://bucket/p"
        local_retention = "19days"
        [feed]
        listen = "127.0.0.1:20"
        max_subscribers = 21
        tls = false
        [http]
        listen = "127.0.0.1:22"
        tls = false
        token = "t"
        [catalog]
        file = "f"
        [shutdown]
        deadline = "23s"
    "#;
    let config = config(text);
    assert_eq!(config.ingest.max_message, 4096);
    assert_eq!(config.archive.reserve, 9 << 20);
    assert_eq!(config.ingest.heartbeat, Duration::from_secs(2));
    assert!(!config.archive.store_replays);
    let export = config.export_config().unwrap();
    assert_eq!(export.dir, Path::new("/d/archive"));
    assert_eq!(export.out, Path::new("/e"));

    // No value is the default. So a key that is stored in the wrong place would show as a default.
    for (ours, default) in settings(&config).iter().zip(settings(&Config::default())) {
        let path = ours.path();
        let has_files = ["http.token_file", "tls.certificate", "tls.key", "tls.ca"].contains(&path.as_str());
        if !has_files && !ours.is_list() {
            assert_ne!(ours.value, default.value, "{path}");
        }
    }
}

#[test]
fn the_keys_come_in_the_order_of_the_file() {
    let settings = settings(&Config::default());
    assert_eq!(settings.len(), 49);
    let lists: Vec<_> = settings.iter().filter(|setting| setting.is_list()).map(Setting::path).collect();
    assert_eq!(lists, print::LISTS);
}

#[test]
fn a_named_file_must_exist() {
    let error = Config::load(Some(Path::new("/nowhere/c.toml")), no_env()).unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/c.toml: cannot read the configuration: "), "{error}");
    assert!(error.problems().is_empty());
}

#[test]
fn the_first_existing_file_is_read() {
    let dir = TempDir::new().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| dir.path().join(name));
    fs::write(&b, "data_dir = \"b\"").unwrap();
    fs::write(&c, "data_dir = \"c\"").unwrap();
    let found = Source::first_of(&[&a, &b, &c]).unwrap();
    let loaded = Config::load_source(found, no_env(), Purpose::Run).unwrap();
    assert_eq!(loaded.file.as_ref(), Some(&b));
    assert_eq!(loaded.config.data_dir, Path::new("b"));

    let b_is_a_file = b.join("c.toml");
    let found = Source::first_of(&[&a, &b_is_a_file]).unwrap();
    let loaded = Config::load_source(found, no_env(), Purpose::Run).unwrap();
    assert_eq!(loaded.file, None);
    assert_eq!(loaded.config, Config::default());
}

#[test]
fn a_file_that_exists_and_cannot_be_read_is_an_error() {
    let dir = TempDir::new().unwrap();
    let [bad, good] = ["bad", "good"].map(|name| dir.path().join(name));
    fs::write(&good, "").unwrap();
    // A directory, text that is not UTF-8, and a file that is too long.
    fs::create_dir(&bad).unwrap();
    assert!(Source::first_of(&[&bad, &good]).is_err());
    fs::remove_dir(&bad).unwrap();
    fs::write(&bad, b"data_dir = \"\xff\"").unwrap();
    assert!(Source::first_of(&[&bad, &good]).is_err());
    fs::write(&bad, vec![b'\n'; 1 + FILE_BYTES_MAX as usize]).unwrap();
    assert!(Source::first_of(&[&bad, &good]).is_err());
    fs::write(&bad, vec![b'\n'; FILE_BYTES_MAX as usize]).unwrap();
    assert!(Source::first_of(&[&bad, &good]).is_ok());
}
