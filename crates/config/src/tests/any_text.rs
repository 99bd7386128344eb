//! Printed configurations read back, and no text causes a panic.

use proptest::prelude::*;

use super::*;

#[test]
fn the_printed_configuration_reads_back() {
    let defaults = Config::default();
    assert_eq!(config(&defaults.to_toml()), defaults);
    let text = defaults.to_toml();
    for part in [
        "# memory:      440.0 MiB = 256 x 1760 KiB: connections (ingest.max_connections)",
        "ingest.memory_limit is 1152 MiB",
        "\n[ingest]\nlisten = \"127.0.0.1:7480\"\n",
        "# retention_age is not set",
        "# tokens is empty",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

proptest! {
    #[test]
    fn every_printed_configuration_reads_back(
        data_dir in "\\PC{1,20}",
        catalog in proptest::option::of("[a-z \"'\\\\#\n\t]{1,10}"),
        message in 4096u64..1 << 16,
        delay_us in 0u64..1_000_000,
        retention in proptest::option::of(1u64 << 30..1 << 50),
        age in proptest::option::of(1u64..1 << 31),
        port in 0u16..7000,
        replays: bool,
    ) {
        let mut ours = Config { data_dir: data_dir.into(), ..Config::default() };
        ours.catalog.file = catalog.map(PathBuf::from);
        ours.ingest.max_message = message;
        ours.ingest.listen.set_port(port);
        ours.archive.commit_delay = Duration::from_micros(delay_us);
        ours.archive.retention_size = retention;
        ours.archive.retention_age = age.map(Duration::from_secs);
        ours.archive.store_replays = replays;
        prop_assert_eq!(load(&ours.to_toml()).map_err(|e| e.to_string()).map(|l| l.config), Ok(ours));
    }

    #[test]
    fn any_text_gives_a_configuration_or_errors(text in "(\\PC|\n){0,200}") {
        let _ = load(&text).map_err(|error| error.to_string());
    }

    #[test]
    fn any_value_of_any_key_is_accepted_or_an_error(
        entries in proptest::collection::vec(
            (
                0usize..47,
                "[-0-9]{1,20}|\"[0-9.]{1,8} ?[KMGTiBmsh]{0,3}\"|true|\\[[0-9,]{0,9}\\]|\\{\\}|inf|[0-9:T-]{5,20}",
            ),
            0..8,
        ),
    ) {
        let keys = settings(&Config::default());
        let lines = entries.iter().map(|(index, value)| format!("{} = {value}\n", keys[*index].path()));
        let _ = load(&lines.collect::<String>()).map_err(|error| error.to_string());
    }

    #[test]
    fn the_shipped_file_with_any_bytes_changed_causes_no_panic(index in 0usize..20_000, byte in 0u8..128) {
        let mut bytes = include_bytes!("../../../../config/aggregator.toml").to_vec();
        let index = index % bytes.len();
        bytes[index] = byte;
        if let Ok(text) = String::from_utf8(bytes) {
            let _ = load(&text).map_err(|error| error.to_string());
        }
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_stack_overflow() {
    for (open, close) in [("[", "]"), ("{a=", "}")] {
        let text = format!("data_dir = {}1{}", open.repeat(100_000), close.repeat(100_000));
        assert!(load(&text).is_err());
    }
    assert!(load(&format!("a{} = 1", ".a".repeat(100_000))).is_err());
}
