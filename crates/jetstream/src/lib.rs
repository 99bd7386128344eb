//! Messages into a stream of NATS JetStream, each once and in order.
//!
//! A [`Bus`] is a connection to the servers, and the stream. [`Bus::last`] reads where a writer stands, [`Bus::publish`]
//! sends a message that the server takes only behind the message before. This crate never depends on the configuration
//! or on what the messages hold.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::jetstream::context::{GetStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, LastRawMessageErrorKind, RetentionPolicy, Stream,
};
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event};
use bytes::Bytes;
use tokio::sync::watch;

mod ack;
mod subjects;

pub use ack::{Ack, PublishError};
pub use async_nats::{HeaderMap, HeaderValue};
pub use subjects::covers;

/// Longest wait for an answer of a server.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// The first server that knows `Nats-Expected-Last-Subject-Sequence-Subject`.
const SERVER_MIN: (i64, i64, i64) = (2, 11, 0);
/// The header with the subjects whose last sequence is expected.
const EXPECTED_OF: &str = "Nats-Expected-Last-Subject-Sequence-Subject";

/// What is said of a connection that has ended.
const LOST: &str = "the connection is lost";

/// How the daemon proves who it is. The texts are the contents of files.
#[derive(Clone, Default)]
pub enum Credentials {
    /// Not at all.
    #[default]
    None,
    /// A `.creds` file: a JWT and the seed of its key.
    Creds(String),
    /// A token.
    Token(String),
    /// A user and a password.
    Password(String, String),
}

/// Where the messages go.
#[derive(Clone)]
pub struct Target {
    /// The URLs of servers of one cluster, separated by commas.
    pub servers: String,
    /// The name of the connection, which operators of the servers see.
    pub name: String,
    /// The stream.
    pub stream: String,
    /// The subjects of a stream that is created, with `*` for what varies.
    pub subject: String,
    /// The servers that hold the stream, at least.
    pub replicas: usize,
    /// Who the daemon is.
    pub credentials: Credentials,
    /// A file with trusted authorities, besides those of the host.
    pub authorities: Option<PathBuf>,
    /// The certificate and the key of the daemon.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Why the bus cannot be used, in a sentence that names the way out.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BusError(pub(crate) String);

/// The last message of some subjects.
#[derive(Debug)]
pub struct Last {
    /// Its sequence in the stream; 0 if there is none.
    pub sequence: u64,
    /// Its headers.
    pub headers: HeaderMap,
}

/// Where in the stream a message is taken.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The subjects of the writer.
    pub filter: &'a str,
    /// The sequence of the last message of these subjects.
    pub behind: u64,
    /// Whether this is also the last message of the stream. Then the message gets the next sequence, or is refused.
    pub is_next: bool,
}

/// What the server says about the stream.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// The sequence of the newest message that the stream has ever had.
    pub last_sequence: u64,
    /// Whether messages leave the stream by its configuration: by age, by number, by size or with their consumers.
    pub forgets: bool,
}

/// A connection to the servers, and the stream. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    context: Context,
    client: Client,
    stream: Stream,
    /// Why the connection cannot be used; `None` while it can.
    lost: watch::Receiver<Option<String>>,
}

impl Bus {
    /// Connects, and creates the stream or checks it.
    ///
    /// # Errors
    /// What is wrong with the servers, the credentials or the stream.
    pub async fn connect(target: &Target) -> Result<Self, BusError> {
        let servers = &target.servers;
        let (lost_tx, lost) = watch::channel(None);
        let options = options(target)?.event_callback(move |event| {
            if let Some(why) = loss(&event) {
                // The first reason is the cause of the others.
                lost_tx.send_if_modified(|known| known.is_none() && known.replace(why).is_none());
            }
            std::future::ready(())
        });
        let addresses: Result<Vec<async_nats::ServerAddr>, _> =
            servers.split(',').map(|server| server.trim().parse()).collect();
        let addresses = addresses.map_err(|error| {
            BusError(format!("{servers} is no list of NATS servers: {error}; write nats://host:port"))
        })?;
        let connected = options.connect(addresses).await;
        let client = connected.map_err(|error| not_connected(servers, &error))?;
        if !client.is_server_compatible(SERVER_MIN.0, SERVER_MIN.1, SERVER_MIN.2) {
            return Err(BusError(format!(
                "the server at {servers} has version {}: a forwarder needs nats-server 2.11 or newer",
                client.server_info().version
            )));
        }
        let context = jetstream::context::ContextBuilder::new().timeout(ANSWER_MAX).build(client.clone());
        let stream = find_or_create(&context, target).await?;
        Ok(Self { context, client, stream, lost })
    }

    /// The address of the server, as it names itself.
    #[must_use]
    pub fn server(&self) -> String {
        let info = self.client.server_info();
        format!("{}:{}", info.host, info.port)
    }

    /// The longest message that the server takes, headers included, in bytes.
    #[must_use]
    pub fn message_bytes_max(&self) -> usize {
        self.client.server_info().max_payload
    }

    /// Waits until the connection is lost or the server forbids a message. Returns why.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn lost(&self) -> BusError {
        let mut lost = self.lost.clone();
        let why = lost.wait_for(Option::is_some).await;
        // A dropped sender means that the connection has ended.
        BusError(why.ok().and_then(|why| why.clone()).unwrap_or_else(|| LOST.to_owned()))
    }

    /// Reads the last message of the subjects that `filter` takes, from the leader of the stream.
    ///
    /// # Errors
    /// When the servers do not answer, or refuse.
    pub async fn last(&self, filter: &str) -> Result<Last, BusError> {
        match self.stream.get_last_raw_message_by_subject(filter).await {
            Ok(message) => Ok(Last { sequence: message.sequence, headers: message.headers }),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                Ok(Last { sequence: 0, headers: HeaderMap::new() })
            }
            Err(error) => {
                let name = self.name();
                Err(BusError(format!(
                    "the last message of {filter} in stream {name} cannot be read: {error}"
                )))
            }
        }
    }

    /// Asks how far the stream reaches.
    ///
    /// # Errors
    /// When the servers do not answer, or refuse.
    pub async fn extent(&self) -> Result<Extent, BusError> {
        let info = self.stream.get_info().await;
        let info =
            info.map_err(|error| BusError(format!("stream {} cannot be read: {error}", self.name())))?;
        let config = &info.config;
        let forgets = config.max_age > Duration::ZERO
            || config.max_messages > 0
            || config.max_bytes > 0
            || config.max_messages_per_subject > 0
            || config.retention != RetentionPolicy::Limits;
        Ok(Extent { last_sequence: info.state.last_sequence, forgets })
    }

    /// Sends a message with the id `id`, which the server takes only as `place` says. Waits while the connection takes
    /// nothing.
    ///
    /// # Errors
    /// When the message cannot be sent.
    pub async fn publish(
        &self,
        subject: String,
        body: Bytes,
        mut headers: HeaderMap,
        id: &str,
        place: &Place<'_>,
    ) -> Result<Ack, PublishError> {
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
        headers.insert(async_nats::header::NATS_EXPECTED_STREAM, self.name());
        headers.insert(async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, place.behind.to_string());
        headers.insert(EXPECTED_OF, place.filter);
        if place.is_next {
            headers.insert(async_nats::header::NATS_EXPECTED_LAST_SEQUENCE, place.behind.to_string());
        }
        let bytes = body.len();
        let message = PublishMessage::build().payload(body).headers(headers);
        match self.context.send_publish(subject, message).await {
            Ok(ack) => Ok(Ack::new(ack, self.name())),
            Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                Err(PublishError::Refused(BusError(format!(
                    "a message of {bytes} bytes is longer than the server takes (max_payload is {}): raise max_payload of \
                     nats-server",
                    self.message_bytes_max()
                ))))
            }
            Err(error) => Err(PublishError::Refused(BusError(format!("a message cannot be sent: {error}")))),
        }
    }

    fn name(&self) -> &str {
        &self.stream.cached_info().config.name
    }
}

/// Why the connection cannot be used after `event`; `None` if it can.
fn loss(event: &Event) -> Option<String> {
    match event {
        Event::Disconnected | Event::Closed | Event::LameDuckMode => Some(LOST.to_owned()),
        Event::ServerError(error) if error.to_string().to_lowercase().contains("permissions violation") => {
            Some(format!("the server forbids a message: {error}; give the user the permission"))
        }
        _ => None,
    }
}

fn options(target: &Target) -> Result<ConnectOptions, BusError> {
    let mut options = ConnectOptions::new()
        .name(&target.name)
        .connection_timeout(ANSWER_MAX)
        .request_timeout(Some(ANSWER_MAX))
        .ping_interval(ANSWER_MAX)
        .max_reconnects(1)
        .require_tls(target.servers.contains("tls://"));
    options = match target.credentials.clone() {
        Credentials::None => options,
        Credentials::Creds(text) => options
            .credentials(&text)
            .map_err(|error| BusError(format!("credentials_file is no .creds file: {error}")))?,
        Credentials::Token(token) => options.token(token),
        Credentials::Password(user, password) => options.user_and_password(user, password),
    };
    if let Some(authorities) = &target.authorities {
        options = options.add_root_certificates(authorities.clone());
    }
    if let Some((certificate, key)) = &target.identity {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(options)
}

/// A sentence for a connection that was not made.
fn not_connected(servers: &str, error: &async_nats::ConnectError) -> BusError {
    // The cause of an error of TLS, such as an expired certificate, is the innermost one.
    let mut why = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if !why.contains(&inner.to_string()) {
            why = format!("{why}: {inner}");
        }
        cause = inner.source();
    }
    let way_out = match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            "check credentials_file, token_file, or user and password_file"
        }
        ConnectErrorKind::Tls => "check the certificate of the server, and tls.ca",
        ConnectErrorKind::Dns | ConnectErrorKind::ServerParse => "check the host names in nats",
        _ if why.contains("certificate") => "check the certificate of the server, and tls.ca",
        _ => "check that a NATS server listens there",
    };
    BusError(format!("cannot connect to {servers}: {why}; {way_out}"))
}

async fn find_or_create(context: &Context, target: &Target) -> Result<Stream, BusError> {
    let Target { stream: name, subject, replicas, .. } = target;
    match context.get_stream(name).await {
        Ok(stream) => check(stream, target),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                let config = Config {
                    name: name.clone(),
                    subjects: vec![subject.clone()],
                    num_replicas: *replicas,
                    discard: DiscardPolicy::New,
                    allow_direct: true,
                    ..Config::default()
                };
                context.create_stream(config).await.map_err(|error| {
                    BusError(format!(
                        "stream {name} with {subject} and {replicas} replicas cannot be created: {error}; create it with \
                         the command nats stream add, or change stream, subject or replicas"
                    ))
                })
            }
            GetStreamErrorKind::JetStream(error) => {
                Err(BusError(format!("stream {name} cannot be used: {error}{}", ack::way_out(&error))))
            }
            _ => Err(BusError(format!(
                "the server does not answer about stream {name}: {error}; check that JetStream is on (nats-server -js), \
                 and that the user may publish to $JS.API.> and subscribe to _INBOX.>"
            ))),
        },
    }
}

/// Checks a stream that exists.
fn check(stream: Stream, target: &Target) -> Result<Stream, BusError> {
    let config = &stream.cached_info().config;
    let name = &config.name;
    if !config.subjects.iter().any(|subject| covers(subject, &target.subject)) {
        return Err(BusError(format!(
            "stream {name} does not take {}: it has the subjects {}; add it with nats stream edit, or change subject",
            target.subject,
            config.subjects.join(", ")
        )));
    }
    if config.num_replicas < target.replicas {
        return Err(BusError(format!(
            "stream {name} has {} replicas, and replicas is {}: change one of the two (nats stream edit --replicas)",
            config.num_replicas, target.replicas
        )));
    }
    if config.sealed || config.no_ack {
        return Err(BusError(format!(
            "stream {name} is sealed or does not acknowledge (no_ack): name another stream"
        )));
    }
    Ok(stream)
}
