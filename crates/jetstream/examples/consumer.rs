//! Takes the frames of a telemetry aggregator out of a stream of NATS JetStream, each once.
//!
//! ```sh
//! cargo run -p jetstream --example consumer -- nats://127.0.0.1:4222 TELEMETRY frames.txt
//! ```
//!
//! Writes lines as `deploy/examples/nats/consumer.py` does. The file is also the position.

use std::{collections::HashMap, error::Error, fs, io::Write as _, path::Path};

use async_nats::jetstream::consumer::{DeliverPolicy, pull::OrderedConfig};
use async_nats::{HeaderMap, jetstream};
use bytes::{Buf as _, Bytes};
use futures::StreamExt as _;
use wire::{Deliver, FeedMessage};

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let argument = |index| std::env::args().nth(index).ok_or("usage: consumer URL STREAM FILE");
    run(&argument(1)?, &argument(2)?, argument(3)?.as_ref()).await
}

/// Runs until the stream is gone.
pub async fn run(server: &str, stream: &str, path: &Path) -> Result<(), Failure> {
    let mut out = fs::OpenOptions::new().create(true).append(true).open(path)?;
    let known = fs::read_to_string(path)?;
    let known = &known[..known.rfind('\n').map_or(0, |end| end + 1)];
    out.set_len(known.len() as u64)?; // A line that a crash cut off comes again.
    let (mut start_sequence, mut seen) = (1, HashMap::new()); // The last offset of each lane of each log.
    for line in known.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        start_sequence = fields[0].parse()?;
        seen.insert(fields[1..3].join(" "), fields[3].parse::<u64>()?);
    }
    let stream = jetstream::new(async_nats::connect(server).await?).get_stream(stream).await?;
    let from = DeliverPolicy::ByStartSequence { start_sequence };
    let config = OrderedConfig { deliver_policy: from, ..OrderedConfig::default() };
    let mut chunks = stream.create_consumer(config).await?.messages().await?.ready_chunks(256);
    while let Some(chunk) = chunks.next().await {
        for message in chunk {
            let message = message?;
            let at = message.info()?.stream_sequence;
            let headers = message.headers.as_ref().ok_or("a message without headers")?;
            let key = format!("{} {}", text(headers, "Telemetry-Log"), text(headers, "Telemetry-Lane"));
            for (offset, source, payload) in frames(headers, message.payload.clone())? {
                if seen.get(&key).is_none_or(|last| offset > *last) {
                    seen.insert(key.clone(), offset);
                    writeln!(out, "{at} {key} {offset} {source} {payload:x}")?;
                }
            }
        }
        out.sync_data()?;
    }
    Ok(())
}

/// The offset, source and payload of each frame in a message.
fn frames(headers: &HeaderMap, mut body: Bytes) -> Result<Vec<(u64, u32, Bytes)>, Failure> {
    if headers.get("Telemetry-Frames").is_none() {
        let (offset, source) = (text(headers, "Telemetry-Offset"), text(headers, "Telemetry-Source"));
        return Ok(vec![(offset.parse()?, source.parse()?, body)]);
    }
    let mut frames = Vec::new();
    while body.has_remaining() {
        let length = body.try_get_u32()? as usize;
        if let FeedMessage::Deliver(Deliver { offset, frame }) = FeedMessage::decode(body.split_to(length))? {
            frames.push((offset, frame.source_id, frame.payload));
        }
    }
    Ok(frames)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.as_str())
}
