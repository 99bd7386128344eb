//! Credentials: where they come from, and that messages never contain them.

use super::*;
use frame::Station;

/// A file with `content` and `mode` in `dir`.
fn token_file(dir: &TempDir, name: &str, content: &[u8], mode: u32) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn tokens_come_with_their_sources() {
    let config = config(
        "[[ingest.tokens]]\ntoken = \"a\"\nsources = [7, 4294967295, 7]\n[[ingest.tokens]]\ntoken = \"b\"",
    );
    let [a, b] = &config.ingest.tokens[..] else { panic!("{config:?}") };
    assert!(a.token.matches(b"a") && b.token.matches(b"b"));
    assert_eq!(a.sources, [7, u32::MAX].into());
    assert!(b.sources.is_empty());
}

#[test]
fn tokens_of_sources_come_with_their_stations() {
    let text = "[[ingest.tokens]]\ntoken = \"a\"\nstations = [\"svalbard\", \"\"]";
    let ours = config(text);
    let names: Vec<_> = ours.ingest.tokens[0].stations.iter().map(Station::as_str).collect();
    assert_eq!(names, ["", "svalbard"]);
    assert!(ours.to_toml().contains("stations = [\"\", \"svalbard\"]"), "{}", ours.to_toml());
    let any = config("[[ingest.tokens]]\ntoken = \"a\"\n[[feed.tokens]]\ntoken = \"b\"").to_toml();
    assert_eq!(any.matches("stations = []").count(), 1, "subscribers have none: {any}");
    for (wrong, expected) in [
        ("[\"a\", \"b\", \"a\"]", "station \"a\" is listed twice: name each station once".to_owned()),
        ("[\"a\\tb\"]", "station name \"a\\tb\" contains a control character or an invisible one".to_owned()),
        (
            "[\"a\\u202Eb\"]",
            "station name \"a\\u{202e}b\" contains a control character or an invisible one".to_owned(),
        ),
        (&format!("[\"{}\"]", "x".repeat(65)), "station name of 65 bytes, at most 64 are allowed".to_owned()),
        ("\"a\"", "expected a list of station names such as [\"svalbard\"]; empty for any".to_owned()),
        ("[1]", "expected a list of station names such as [\"svalbard\"]; empty for any".to_owned()),
        (&format!("[{}]", "\"a\",".repeat(1025)), "1025 stations, at most 1024 are allowed".to_owned()),
    ] {
        let text = format!("[[ingest.tokens]]\ntoken = \"a\"\nstations = {wrong}");
        assert_eq!(errors(&text), format!("c.toml:3:12: ingest.tokens[0].stations: {expected}"));
    }
    let feed = errors("[[feed.tokens]]\ntoken = \"a\"\nstations = [\"a\"]");
    let expected =
        "c.toml:3:1: feed.tokens[0].stations: unknown key (allowed here: token, token_file, sources)";
    assert_eq!(feed, expected);
}

#[test]
fn a_token_file_is_read_without_surrounding_blanks() {
    let dir = TempDir::new().unwrap();
    let path = token_file(&dir, "t", b" hunter2\r\n", 0o600);
    let shown = path.display();
    let text = format!("[[feed.tokens]]\ntoken_file = \"{shown}\"\n[http]\ntoken_file = \"{shown}\"");
    let loaded = load(&text).unwrap();
    let config = loaded.config;
    assert_eq!(loaded.warnings, [""; 0]);
    assert_eq!(config.feed.tokens[0].token.expose(), "hunter2");
    assert_eq!(config.feed.tokens[0].token_file, Some(path));
    assert_eq!(config.http.token.unwrap().expose(), "hunter2");
}

#[test]
fn a_token_file_everyone_can_read_is_a_warning() {
    let dir = TempDir::new().unwrap();
    let path = token_file(&dir, "t", b"hunter2", 0o644);
    let shown = path.display();
    let loaded = load(&format!("[http]\ntoken_file = \"{shown}\"")).unwrap();
    assert_eq!(
        loaded.warnings,
        [format!(
            "{shown} holds a token and everyone on this host can read it (mode 0644): chmod o-rwx {shown}"
        )]
    );
}

#[test]
fn a_mounted_secret_may_be_readable_by_everyone() {
    let warning = |path| source::readable_warning(Path::new(path), 0o644, "a token");
    assert_eq!(warning("/run/secrets/http.token"), None);
    assert!(warning("/run/secrets.d/http.token").is_some());
}

#[test]
fn a_configuration_with_tokens_everyone_can_read_is_a_warning() {
    let dir = TempDir::new().unwrap();
    let warnings = |text: &[u8], mode| {
        let path = token_file(&dir, "c.toml", text, mode);
        Config::load(Some(&path), no_env()).unwrap().warnings.len()
    };
    assert_eq!(warnings(b"[http]\ntoken = \"t\"", 0o644), 1);
    assert_eq!(warnings(b"[http]\ntoken = \"t\"", 0o640), 0);
    assert_eq!(warnings(b"[[feed.tokens]]\ntoken = \"t\"", 0o644), 1);
    assert_eq!(warnings(b"", 0o644), 0);
}

#[test]
fn a_token_file_that_holds_no_token_is_an_error_with_its_path() {
    let dir = TempDir::new().unwrap();
    for (content, why) in [
        (&b"\n"[..], "is empty"),
        (b"\xff", "is no UTF-8 text"),
        (b"hunter2\nhunter3", "contains control characters"),
        (&[b'a'; 1025], "has 1025 bytes, at most 1024 are allowed"),
        (&[b'a'; 5000], "has more than 2048 bytes"),
    ] {
        let path = token_file(&dir, "t", content, 0o600);
        let shown = path.display();
        let text = errors(&format!("[[ingest.tokens]]\ntoken_file = \"{shown}\""));
        let start = format!("c.toml:2:14: ingest.tokens[0].token_file: the token in {shown} {why}");
        assert!(text.starts_with(&start), "{text}");
        assert!(!text.contains("hunter"), "{text}");
    }
    let text = errors("[http]\ntoken_file = \"/nowhere/t\"");
    assert!(text.starts_with("c.toml:2:14: http.token_file: cannot read /nowhere/t: "), "{text}");
    let text = errors("[http]\ntoken_file = \"/dev/null\"");
    assert!(
        text.ends_with("cannot read /dev/null: it is a device, and only a regular file is taken here"),
        "{text}"
    );
}

#[test]
fn a_token_is_either_in_the_configuration_or_in_a_file() {
    for table in ["", "token = \"hunter2\"\ntoken_file = \"/nowhere\"", "sources = [1]"] {
        assert_eq!(
            errors(&format!("[[ingest.tokens]]\n{table}")),
            "c.toml:1:1: ingest.tokens[0]: expected exactly one of token and token_file"
        );
    }
    assert_eq!(
        errors("[http]\ntoken = \"hunter2\"\ntoken_file = \"/nowhere\""),
        "c.toml:3:14: http.token_file: both http.token and http.token_file are set, expected at most \
         one of them"
    );
}

#[test]
fn errors_in_a_table_are_reported_without_values() {
    for (table, expected) in [
        (
            "tokn = \"hunter2\"",
            "c.toml:2:1: ingest.tokens[0].tokn: unknown key, did you mean token? (allowed here: token, \
             token_file, sources, stations)",
        ),
        (
            "token = \" hunter2\"",
            "c.toml:2:9: ingest.tokens[0].token: the token contains control characters, or blanks at \
             its beginning or end; expected a text of 1 to 1024 bytes",
        ),
        (
            "token = \"\"",
            "c.toml:2:9: ingest.tokens[0].token: the token is empty; expected a text of 1 to \
             1024 bytes",
        ),
        (
            "token = \"***\"",
            "c.toml:2:9: ingest.tokens[0].token: the token is the mask *** that `check` prints in place \
             of a token, not a token; expected a text of 1 to 1024 bytes",
        ),
        (
            "token = [\"hunter2\"]",
            "c.toml:2:9: ingest.tokens[0].token: the token is no text; expected a text of 1 \
             to 1024 bytes",
        ),
        (
            "token = \"hunter2\"\nsources = [-1]",
            "c.toml:3:11: ingest.tokens[0].sources: expected a list of source ids from 0 to 4294967295 \
             such as [1, 2]; empty for all",
        ),
    ] {
        // A wrong table still means that a token is required. So there is no second error.
        let text = format!("[[ingest.tokens]]\n{table}\n[ingest]\n");
        let text = text.replace("\n[ingest]\n", "");
        assert_eq!(errors(&text), expected);
        let env = [("TELEMETRY_AGGREGATOR__INGEST__LISTEN", "0.0.0.0:1")];
        assert_eq!(load_with(&text, &env).unwrap_err().to_string(), expected);
    }
    assert_eq!(
        errors("ingest.tokens = \"hunter2\""),
        "c.toml:1:17: ingest.tokens: expected a list of tables, each written [[ingest.tokens]]"
    );
    assert_eq!(
        errors("ingest.tokens = [\"hunter2\"]"),
        "c.toml:1:18: ingest.tokens[0]: expected a table, written [[ingest.tokens]]"
    );
}

#[test]
fn a_repeated_token_is_an_error_that_does_not_print_it() {
    let table = "[[ingest.tokens]]\ntoken = \"hunter2\"\n";
    let text = errors(&table.repeat(2));
    assert_eq!(text, "c.toml:3:1: ingest.tokens[1]: the same token as ingest.tokens[0]: give each its own");
    let other_list = table.replace("ingest", "feed");
    config(&format!("{table}{other_list}"));
}

#[test]
fn secrets_appear_neither_in_debug_nor_in_print() {
    let dir = TempDir::new().unwrap();
    let path = token_file(&dir, "t", b"hunter4", 0o600);
    let shown = path.display();
    let env = [("TELEMETRY_AGGREGATOR__HTTP__TOKEN", "hunter1")];
    let loaded = load_with(
        &format!(
            "[[ingest.tokens]]\ntoken = \"hunter2\"\n[[feed.tokens]]\ntoken = \"hunter3\"\nsources = [5]\n\
             [[feed.tokens]]\ntoken_file = \"{shown}\""
        ),
        &env,
    )
    .unwrap();
    assert_eq!(loaded.config.feed.tokens[1].token.expose(), "hunter4");
    assert!(!format!("{loaded:?}").contains("hunter"));
    let text = loaded.config.to_toml();
    assert!(!text.contains("hunter"), "{text}");
    assert!(text.contains("[[feed.tokens]]\ntoken = \"***\"\nsources = [5]\n"), "{text}");
    assert!(text.contains(&format!("token_file = \"{shown}\"")), "{text}");
    // The mask must not become the token.
    assert!(errors(&text).contains("is the mask ***"), "{text}");
}

#[test]
fn tokens_in_files_read_back() {
    let dir = TempDir::new().unwrap();
    let path = token_file(&dir, "t", b"hunter2", 0o600);
    let shown = path.display();
    let ours = config(&format!(
        "http.token_file = \"{shown}\"\n[[ingest.tokens]]\ntoken_file = \"{shown}\"\nsources = [3, 1]\n\
         stations = [\"kiruna\", \"say \\\"svalbard\\\"\"]"
    ));
    assert_eq!(config(&ours.to_toml()), ours);
}

#[test]
fn a_list_has_a_limit() {
    let tables = |count| -> String {
        let table = |n| format!("[[ingest.tokens]]\ntoken = \"t{n}\"\n");
        (0..count).map(table).collect()
    };
    assert_eq!(config(&tables(1024)).ingest.tokens.len(), 1024);
    let text = errors(&tables(1025));
    assert_eq!(text, "c.toml:1:1: ingest.tokens: 1025 tables, at most 1024 are allowed");
}
