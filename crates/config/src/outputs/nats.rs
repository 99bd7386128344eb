//! The transport `nats` of an output: a forwarder into a stream of NATS JetStream.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::draft::Draft;
use crate::token_files::is_awaited;
use crate::tree::path as key_of;
use crate::values::{bus_servers, bus_stream, bus_subject, bus_user, integer, path};

/// The longest `.creds` file, token or password, in bytes.
const SECRET_BYTES_MAX: usize = 64 << 10;

/// A forwarder into a stream of NATS JetStream.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct NatsTransport {
    /// The URLs of the servers, separated by commas.
    #[serde(rename = "nats", deserialize_with = "bus_servers")]
    pub servers: String,
    /// The stream. The forwarder creates it if it does not exist.
    #[serde(deserialize_with = "bus_stream")]
    pub stream: String,
    /// The servers that hold the stream, at least.
    #[serde(default = "one", deserialize_with = "integer::<1, 5, _, _>")]
    pub replicas: usize,
    /// The subject of a message, with words in braces.
    #[serde(default = "subject", deserialize_with = "bus_subject")]
    pub subject: String,
    /// A file with a JWT and the seed of its key.
    #[serde(default, with = "path", skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// A file with a token.
    #[serde(default, with = "path", skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// The name of the user; empty for none.
    #[serde(default, deserialize_with = "bus_user")]
    pub user: String,
    /// A file with the password of the user.
    #[serde(default, with = "path", skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// What a message holds.
    #[serde(default)]
    pub message: MessageForm,
    /// The content of the file with the credentials.
    #[serde(skip)]
    pub secret: FileSecret,
}

/// What a message holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageForm {
    /// One frame.
    #[default]
    Frame,
    /// Many frames.
    Batch,
}

/// The content of a file with credentials. `Debug` does not write it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FileSecret(String);

impl FileSecret {
    /// The content, without blanks at its ends.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for FileSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(support::secret::MASK)
    }
}

const fn one() -> usize {
    1
}

fn subject() -> String {
    "tm.{daemon}.{kind}.{source}.{lane}".to_owned()
}

/// Reads the file with the credentials of `nats`, the transport of the output `key`. Adds errors to `draft`.
pub(super) fn resolve(draft: &mut Draft<'_>, key: &str, nats: &mut NatsTransport) {
    let files = [
        ("credentials_file", &nats.credentials_file),
        ("token_file", &nats.token_file),
        ("password_file", &nats.password_file),
    ];
    let mut named = files.into_iter().filter_map(|(name, file)| Some((name, file.as_ref()?)));
    let (first, second) = (named.next(), named.next());
    if let (Some((one, _)), Some((other, _))) = (first, second) {
        return draft.problem(&key_of(key, other), format!("{one} is set too: remove one of the two"));
    }
    if nats.user.is_empty() != nats.password_file.is_none() {
        return draft
            .problem(&key_of(key, "user"), "user and password_file belong together: write both, or none");
    }
    let Some((name, file)) = first else { return };
    let name = key_of(key, name);
    let shown = file.display();
    match fs::read_to_string(file) {
        Ok(text) if text.trim().is_empty() => draft.problem(&name, format!("{shown} is empty")),
        Ok(text) if text.len() > SECRET_BYTES_MAX => {
            draft.problem(&name, format!("{shown} has more than {SECRET_BYTES_MAX} bytes"));
        }
        Ok(text) => nats.secret = FileSecret(text.trim().to_owned()),
        Err(error) if is_awaited(draft, &name, file, &error) => {}
        Err(error) => draft.problem(&name, format!("cannot read {shown}: {error}")),
    }
}
