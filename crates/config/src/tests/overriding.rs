//! Environment variables that override keys.

use super::*;

fn overridden(env: &[(&str, &str)]) -> Loaded {
    load_with("[ingest]\nlisten = \"127.0.0.1:1\"", env).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(env: &[(&str, &str)]) -> String {
    load_with("", env).unwrap_err().to_string()
}

#[test]
fn a_variable_overrides_the_file_and_is_read_as_the_type_of_its_key() {
    let loaded = overridden(&[
        ("TELEMETRY_AGGREGATOR__INGEST__LISTEN", "127.0.0.1:2"),
        ("TELEMETRY_AGGREGATOR__INGEST__MAX_CONNECTIONS", "3"),
        ("TELEMETRY_AGGREGATOR__ARCHIVE__STORE_REPLAYS", "false"),
        ("TELEMETRY_AGGREGATOR__ARCHIVE__RETENTION_AGE", "4days"),
        ("TELEMETRY_AGGREGATOR__DATA_DIR", "5"),
        ("TELEMETRY_AGGREGATOR_DATA_DIR", "another program's"),
        ("PATH", "/bin"),
    ]);
    let config = loaded.config;
    assert_eq!(config.ingest.listen.port(), 2);
    assert_eq!(config.ingest.max_connections.get(), 3);
    assert!(!config.archive.store_replays);
    assert_eq!(config.archive.retention_age, Some(Duration::from_secs(4 * 86_400)));
    assert_eq!(config.data_dir, Path::new("5"));
    assert_eq!(loaded.overrides.len(), 5, "{:?}", loaded.overrides);
}

#[test]
fn every_key_can_be_overridden() {
    for key in settings(&Config::default()).iter().filter(|key| !key.is_list()) {
        let path = key.path().to_ascii_uppercase().replace('.', "__");
        let name = format!("{PREFIX}{path}");
        let value = key.value().map_or_else(|| "\"x\"".to_owned(), ToString::to_string);
        let value = value.trim_matches('"');
        let text = match load_with("", &[(&name, value)]) {
            Ok(loaded) => {
                assert_eq!(loaded.overrides, [name]);
                continue;
            }
            Err(error) => error.to_string(),
        };
        // A key without a default refuses the value itself. So the variable was assigned to the right key.
        assert!(text.starts_with(&format!("{name}: {}: ", key.path())), "{text}");
    }
}

#[test]
fn an_unknown_variable_is_named_with_the_nearest_variable() {
    assert_eq!(
        refused(&[("TELEMETRY_AGGREGATOR__INGEST__LISTN", "127.0.0.1:2")]),
        "TELEMETRY_AGGREGATOR__INGEST__LISTN: overrides no key, did you mean \
         TELEMETRY_AGGREGATOR__INGEST__LISTEN?"
    );
    assert!(refused(&[(PREFIX, "")]).contains("overrides no key"));
    assert!(
        refused(&[("TELEMETRY_AGGREGATOR__ingest__listen", "")])
            .contains("did you mean TELEMETRY_AGGREGATOR__INGEST__LISTEN?")
    );
}

#[test]
fn a_wrong_value_is_refused_with_the_allowed_values() {
    assert_eq!(
        refused(&[("TELEMETRY_AGGREGATOR__INGEST__MAX_STREAMS", "many")]),
        "TELEMETRY_AGGREGATOR__INGEST__MAX_STREAMS: ingest.max_streams: found \"many\", expected an \
         integer from 1 to 1048576"
    );
    assert_eq!(
        refused(&[("TELEMETRY_AGGREGATOR__SHUTDOWN__DEADLINE", "5")]),
        "TELEMETRY_AGGREGATOR__SHUTDOWN__DEADLINE: shutdown.deadline: found \"5\", expected a duration \
         such as \"5s\", from 100ms to 10m; write \"5s\" if seconds are meant"
    );
}

#[test]
fn lists_of_tables_cannot_be_overridden() {
    for name in ["TELEMETRY_AGGREGATOR__INGEST__TOKENS", "TELEMETRY_AGGREGATOR__INGEST__TOKENS__0__TOKEN"] {
        let text = refused(&[(name, "hunter2")]);
        assert_eq!(
            text,
            format!(
                "{name}: ingest.tokens is a list of tables and cannot be overridden: write \
                 [[ingest.tokens]] in the file, with token_file for tokens that must not be in the file"
            )
        );
    }
    assert_eq!(
        refused(&[("TELEMETRY_AGGREGATOR__LINKS__0__NAME", "kiruna-x")]),
        "TELEMETRY_AGGREGATOR__LINKS__0__NAME: links is a list of tables and cannot be overridden: write [[links]] in \
         the file"
    );
}

#[test]
fn a_conflict_names_the_variable() {
    let text = refused(&[("TELEMETRY_AGGREGATOR__FEED__LISTEN", "0.0.0.0:7481")]);
    assert!(
        text.starts_with("TELEMETRY_AGGREGATOR__FEED__LISTEN: feed.listen: 0.0.0.0:7481 can be"),
        "{text}"
    );
}

#[test]
fn a_wrong_value_in_the_file_is_an_error_under_a_variable_too() {
    let text = "[ingest]\nlisten = \"x\"";
    let fine = [("TELEMETRY_AGGREGATOR__INGEST__LISTEN", "127.0.0.1:2")];
    let error = load_with(text, &fine).unwrap_err().to_string();
    assert!(error.starts_with("c.toml:2:10: ingest.listen: found \"x\""), "{error}");
    let wrong = [("TELEMETRY_AGGREGATOR__INGEST__LISTEN", "y")];
    let errors = load_with(text, &wrong).unwrap_err();
    let [file, variable] = errors.problems() else { panic!("{errors}") };
    assert_eq!((file.key.as_str(), variable.key.as_str()), ("ingest.listen", "ingest.listen"));
    assert_eq!(variable.location, Location::Variable("TELEMETRY_AGGREGATOR__INGEST__LISTEN".to_owned()));
    // A section that is not a table is reported once, and the variable is still read.
    let errors = load_with("ingest = 5", &wrong).unwrap_err();
    let keys: Vec<_> = errors.problems().iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["ingest", "ingest.listen"]);
}

#[test]
fn an_integer_in_a_variable_may_have_the_forms_of_rust() {
    for (text, count) in [("007", 7), ("+3", 3)] {
        let loaded = overridden(&[("TELEMETRY_AGGREGATOR__INGEST__MAX_CONNECTIONS", text)]);
        assert_eq!(loaded.config.ingest.max_connections.get(), count);
    }
}
