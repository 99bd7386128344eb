//! `--ready-file`: the bound addresses as JSON, written once everything is up.

use std::io::{self, Write};
use std::path::Path;

use super::Addresses;

/// Writes `{"ingest":"127.0.0.1:40001","feed":"127.0.0.1:40002","http":null}` to `path`.
///
/// The file appears whole: it is written to a temporary file in the same directory and renamed.
///
/// # Errors
/// Errors of the file system.
pub fn write(path: &Path, addresses: Addresses) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let json = serde_json::json!({
        "ingest": addresses.ingest.to_string(),
        "feed": addresses.feed.map(|address| address.to_string()),
        "http": addresses.http.map(|address| address.to_string()),
    });
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    writeln!(file, "{json}")?;
    file.persist(path)?;
    Ok(())
}
