//! The other side of a forwarder that is a stream of NATS JetStream.
//!
//! Each message carries the sequence of the message before in the subjects of its lane, so that the server refuses a
//! message behind a lost one. A message that is sent alone waits for its acknowledgement, which has the sequence. Behind it
//! the sequences are foretold, and several messages are in flight. These also ask that nobody else has written to the
//! stream in between: with a foretold sequence that is off by one, the server would else take a message behind a refused
//! one. Where others write to the same stream, fewer messages are in flight.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::timeout;

use super::parcel::Parcel;
use super::{Side, Stand, Trouble, host_name, lag, lane};
use crate::outputs::Context;
use crate::outputs::reader::Part;
use config::{Config, MessageForm, NatsTransport, Output};
use frame::{Frame, FramePriority};
use jetstream::{Ack, Bus, Credentials, HeaderMap, Place, PublishError, Target};
use wire::Deliver;

/// Most messages in flight.
const WINDOW_MAX: usize = 256;
/// The window doubles after so many messages that were stored in a row, for each message that it has.
const GROW_AFTER: usize = 64;
/// Longest batch in bytes, unless the server takes less.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// Room for the headers of a message, in bytes.
const HEADER_BYTES: usize = 2 << 10;
/// Longest wait for the answers to what is in flight.
const SETTLE_MAX: Duration = Duration::from_secs(6);

/// The lane of a forwarder into NATS.
pub(in crate::outputs) struct NatsSide {
    /// The connection.
    bus: Bus,
    /// The template of the subjects, with the lane and the daemon filled in.
    subject: String,
    /// All subjects of the lane.
    filter: String,
    /// What a message holds.
    form: MessageForm,
    /// The lane.
    lane: FramePriority,
    /// The id of the log.
    log: String,
    /// The sequence of the message before the next one.
    expected: u64,
    /// A message is in flight whose sequence cannot be foretold.
    is_alone: bool,
    /// Messages in flight.
    acks: VecDeque<Ack>,
    /// How many messages may be in flight.
    window: usize,
    /// Messages that were stored since the window has changed.
    stored: usize,
}

/// The connection of the output `name`, whose transport is `nats`.
pub(in crate::outputs) fn target(name: &str, nats: &NatsTransport, config: &Config) -> Target {
    let secret = nats.secret.reveal().to_owned();
    let credentials = if nats.credentials_file.is_some() {
        Credentials::Creds(secret)
    } else if nats.token_file.is_some() {
        Credentials::Token(secret)
    } else if nats.password_file.is_some() {
        Credentials::Password(nats.user.clone(), secret)
    } else {
        Credentials::None
    };
    let tls = &config.tls;
    Target {
        servers: nats.servers.clone(),
        name: format!("telemetry-aggregator output {name}"),
        stream: nats.stream.clone(),
        subject: filled(&nats.subject, "*", "*", "*"),
        replicas: nats.replicas,
        credentials,
        authorities: tls.ca.clone(),
        identity: tls.certificate.clone().zip(tls.key.clone()),
    }
}

/// The subject of `template` with these words.
fn filled(template: &str, kind: &str, source: &str, lane: &str) -> String {
    template
        .replace("{daemon}", &host_name())
        .replace("{kind}", kind)
        .replace("{source}", source)
        .replace("{lane}", lane)
}

/// Connects, and finds where both lanes go on.
///
/// # Errors
/// Why the output cannot forward.
pub(in crate::outputs) async fn lanes(
    output: &Output,
    nats: &NatsTransport,
    context: &Context,
) -> Result<Vec<(NatsSide, Part)>, String> {
    let target = target(&output.name, nats, &context.config.borrow());
    let bus = Bus::connect(&target).await.map_err(|error| error.to_string())?;
    let mut lanes = Vec::new();
    for priority in lag::lanes(output) {
        let mut side = NatsSide::new(bus.clone(), nats, priority, context.durable.history().log_id());
        let stand = match side.resume().await {
            Ok(stand) => stand,
            Err(Trouble::Over(why)) => return Err(why),
            Err(Trouble::Doubt) => return Err("the stream does not say where it stands".to_owned()),
        };
        let part = lane::begin(&mut side, stand, &output.name, priority, context).await?;
        lanes.push((side, part));
    }
    Ok(lanes)
}

impl NatsSide {
    /// The server, for operators.
    pub(in crate::outputs) fn server(&self) -> String {
        self.bus.server()
    }

    /// The lane `lane` of the log `log_id` over `bus`.
    pub(in crate::outputs) fn new(bus: Bus, nats: &NatsTransport, lane: FramePriority, log_id: u64) -> Self {
        Self {
            bus,
            subject: filled(&nats.subject, "{kind}", "{source}", lane.name()),
            filter: filled(&nats.subject, "*", "*", lane.name()),
            form: nats.message,
            lane,
            log: format!("{log_id:016x}"),
            expected: 0,
            is_alone: false,
            acks: VecDeque::new(),
            window: WINDOW_MAX,
            stored: 0,
        }
    }

    /// The body, the headers and the subject of the message for a parcel.
    fn message(&self, parcel: &Parcel) -> (String, HeaderMap, Bytes) {
        let mut headers = HeaderMap::new();
        headers.insert("Telemetry-Log", self.log.as_str());
        headers.insert("Telemetry-Lane", self.lane.name());
        headers.insert("Telemetry-Offset", parcel.first().to_string());
        match (self.form, &parcel.frames[..]) {
            (MessageForm::Frame, [(_, frame), ..]) => {
                add_headers(&mut headers, frame);
                let (kind, source) = (frame.source_kind.name(), frame.source_id.to_string());
                let subject = self.subject.replace("{kind}", kind).replace("{source}", &source);
                (subject, headers, frame.payload.clone())
            }
            (_, frames) => {
                headers.insert("Telemetry-Last-Offset", parcel.last().to_string());
                headers.insert("Telemetry-Frames", frames.len().to_string());
                let mut body = BytesMut::new();
                frames.iter().for_each(|(offset, frame)| Deliver::encode(*offset, frame, &mut body));
                (self.subject.replace("{kind}", "all").replace("{source}", "all"), headers, body.freeze())
            }
        }
    }
}

/// Adds the headers of one frame.
fn add_headers(headers: &mut HeaderMap, frame: &Frame) {
    let stream = &frame.origin.stream;
    headers.insert("Telemetry-Source", frame.source_id.to_string());
    headers.insert("Telemetry-Kind", frame.source_kind.name());
    headers.insert("Telemetry-Station", stream.station.as_str());
    headers.insert("Telemetry-Epoch", frame.origin.epoch.to_string());
    headers.insert("Telemetry-Sequence", frame.sequence.to_string());
    headers.insert("Telemetry-Flags", frame.flags.0.to_string());
    headers.insert("Telemetry-Ert", frame.ert_ns.to_string());
    headers.insert("Telemetry-Received", frame.received_ns.to_string());
}

impl Side for NatsSide {
    async fn resume(&mut self) -> Result<Stand, Trouble> {
        // While an answer is missing, a message may still be on its way.
        let settled = timeout(SETTLE_MAX, async {
            for ack in &mut self.acks {
                if let Err(PublishError::Refused(error)) = ack.stored().await {
                    return Err(Trouble::Over(error.to_string()));
                }
            }
            Ok(())
        });
        settled.await.unwrap_or_else(|_| Err(Trouble::Over("messages were not answered".to_owned())))?;
        self.acks.clear();
        self.is_alone = false;
        let last = self.bus.last(&self.filter).await.map_err(|error| Trouble::Over(error.to_string()))?;
        self.expected = last.sequence;
        if last.sequence == 0 {
            return Ok(Stand { next_offset: None, sequence: 0 });
        }
        let header = |name: &str| last.headers.get(name).map(jetstream::HeaderValue::as_str);
        let offset = header("Telemetry-Last-Offset").or_else(|| header("Telemetry-Offset"));
        let (Some(log), Some(Ok(offset))) = (header("Telemetry-Log"), offset.map(str::parse::<u64>)) else {
            return Err(Trouble::Over(format!(
                "the last message of {} is none of a forwarder: change subject, or purge these subjects",
                self.filter
            )));
        };
        if log != self.log {
            return Err(Trouble::Over(format!(
                "{} has frames of the log {log}, and this archive has the log {}: another daemon writes there, or the \
                 archive was replaced; change subject, or purge these subjects (nats stream purge --subject)",
                self.filter, self.log
            )));
        }
        Ok(Stand { next_offset: Some(offset + 1), sequence: last.sequence })
    }

    fn has_room(&self) -> bool {
        !self.is_alone && self.acks.len() < self.window
    }

    fn parcel_bytes(&self) -> usize {
        match self.form {
            MessageForm::Frame => 0,
            MessageForm::Batch => {
                BATCH_BYTES_MAX.min(self.bus.message_bytes_max().saturating_sub(HEADER_BYTES)).max(1)
            }
        }
    }

    async fn send(&mut self, parcel: &Parcel) -> Result<(), Trouble> {
        let (subject, headers, body) = self.message(parcel);
        let id = format!("{}-{}", self.log, parcel.first());
        let is_next = !self.acks.is_empty();
        let place = Place { filter: &self.filter, behind: self.expected, is_next };
        match self.bus.publish(subject, body, headers, &id, &place).await {
            Ok(ack) => {
                self.is_alone = !is_next;
                self.acks.push_back(ack);
                self.expected += 1;
                Ok(())
            }
            Err(PublishError::Doubt) => Err(Trouble::Doubt),
            Err(PublishError::Refused(error)) => {
                Err(Trouble::Over(format!("frame {}: {error}", parcel.first())))
            }
        }
    }

    async fn acknowledged(&mut self) -> Result<u64, Trouble> {
        let Some(ack) = self.acks.front_mut() else {
            return Err(Trouble::Over(self.bus.lost().await.to_string()));
        };
        let stored = tokio::select! {
            stored = ack.stored() => stored,
            lost = self.bus.lost() => return Err(Trouble::Over(lost.to_string())),
        };
        self.acks.pop_front();
        match stored {
            Ok(sequence) => {
                if self.acks.is_empty() {
                    (self.expected, self.is_alone) = (sequence, false);
                }
                self.stored += 1;
                if self.stored >= GROW_AFTER * self.window {
                    (self.window, self.stored) = ((2 * self.window).min(WINDOW_MAX), 0);
                }
                Ok(sequence)
            }
            Err(PublishError::Doubt) => {
                (self.window, self.stored) = ((self.window / 2).max(1), 0);
                Err(Trouble::Doubt)
            }
            Err(PublishError::Refused(error)) => Err(Trouble::Over(error.to_string())),
        }
    }

    async fn explain_nothing(&mut self, stored: u64, file: &str) -> Result<(), Trouble> {
        let extent = self.bus.extent().await.map_err(|error| Trouble::Over(error.to_string()))?;
        if extent.last_sequence >= stored && extent.forgets {
            return Ok(());
        }
        Err(Trouble::Over(format!(
            "the stream was purged or made anew: it has no message of {}, and the cursor stands behind sequence {stored}; to \
             forward the archive from its oldest frame on, stop the daemon and remove {file}; to go on at the cursor, remove \
             \"sequence\" from that file",
            self.filter
        )))
    }
}
