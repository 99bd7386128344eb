use std::sync::{Arc, Mutex, mpsc};

use bytes::Bytes;
use clap::Parser as _;

use super::*;
use frame::{Frame, FrameFlags, Origin, Station, StreamKey};
use wire::Deliver;

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    args: TailArgs,
}

fn parse(line: &str) -> Result<TailArgs, clap::Error> {
    Line::try_parse_from(std::iter::once("tail").chain(line.split_whitespace())).map(|line| line.args)
}

#[test]
fn a_start_can_be_written_in_four_ways() {
    let start = |text: &str| parse(&format!("--from {text}")).map(|args| args.from).ok();
    assert_eq!(parse("").unwrap().from, Start::Live);
    assert_eq!(start("live"), Some(Start::Live));
    assert_eq!(start("earliest"), Some(Start::Earliest));
    assert_eq!(start("1785585600"), Some(Start::Offset { offset: 1_785_585_600, log_id: 0 }));
    let from_ns = 1_785_585_600_000_000_000;
    for time in ["2026-08-01T12:00:00Z", "1785585600.0", "1785585600000000000ns"] {
        assert_eq!(start(time), Some(Start::Received { from_ns }), "{time}");
    }
    assert_eq!(start("2026-08-01T14:00:00+02:00"), Some(Start::Received { from_ns }));
    assert!(matches!(start("-1h"), Some(Start::Received { .. })));
    for wrong in ["latest", "18446744073709551616", "-1", "2026-08"] {
        assert_eq!(start(wrong), None, "{wrong}");
    }
}

#[test]
fn the_options_arrive_in_the_subscription() {
    let line = "--connect [::1]:9 --source 3 --source 1 --priority emergency --kind replay --policy timely \
                --retry-for 5m";
    let target = parse(line).unwrap().target().unwrap();
    assert_eq!((&*target.address, target.retry_for), ("[::1]:9", Some(Duration::from_secs(300))));
    let selection = Selection::of_sources([1, 3])
        .with_priority(Some(FramePriority::Emergency))
        .with_kind(Some(SourceKind::ArchivedReplay));
    assert_eq!(target.subscribe, Subscribe::new(Policy::Timely, Start::Live, selection));
}

#[test]
fn bad_usage_is_refused() {
    for line in
        ["--connect localhost", "--connect :7481", "--connect localhost:0", "--limit 0", "--policy none"]
    {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
    for line in ["--log-id 7", "--log-id 7 --from earliest"] {
        assert!(parse(line).unwrap().target().is_err(), "{line}");
    }
    let start = parse("--log-id 7 --from 9").unwrap().target().unwrap().subscribe.start;
    assert_eq!(start, Start::Offset { offset: 9, log_id: 7 });
    let many: String = (0..513).map(|id| format!(" --source {id}")).collect();
    assert!(parse(&many).unwrap().target().unwrap_err().to_string().contains("at most 512"));
}

#[test]
fn a_token_is_read_from_its_file_and_never_printed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hunter2\n").unwrap();
    assert_eq!(token(Some(file.path())).unwrap(), "hunter2");
    std::fs::write(file.path(), "hunter2 hunter3 \n").unwrap();
    let error = format!("{:#}", token(Some(file.path())).unwrap_err());
    assert!(error.contains("blanks") && !error.contains("hunter"), "{error}");
}

fn frame(offset: u64, payload: &'static [u8]) -> Deliver {
    let (source_id, source_kind) = (7, SourceKind::LiveUplink);
    let stream = StreamKey { source_id, source_kind, station: Station::new("Kiruna").unwrap() };
    let frame = Frame {
        source_id,
        source_kind,
        priority: FramePriority::Emergency,
        flags: FrameFlags::default(),
        sequence: 9,
        ert_ns: 0,
        received_ns: 1_785_585_600_500_000_000,
        origin: Arc::new(Origin { stream, epoch: 3 }),
        payload: Bytes::from_static(payload),
    };
    Deliver { offset, frame }
}

fn at(next_offset: u64) -> Option<Position> {
    Some(Position { log_id: 1, next_offset })
}

/// An output, the bytes written, and the sender that permits each write.
type Slowly = (Output<Slow>, Arc<Mutex<Vec<u8>>>, mpsc::Sender<io::Result<()>>);

/// Collects the written bytes. Each write waits for the test, which decides whether it succeeds.
struct Slow {
    written: Arc<Mutex<Vec<u8>>>,
    go: mpsc::Receiver<io::Result<()>>,
}

impl io::Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.go.recv().expect("the test continues")?;
        self.written.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn slow(format: Format) -> Slowly {
    let (go_tx, go) = mpsc::channel();
    let written = Arc::new(Mutex::new(Vec::new()));
    (Output::new(Slow { written: Arc::clone(&written), go }, format), written, go_tx)
}

#[tokio::test]
async fn each_format_writes_frames_in_its_form() {
    for (format, expected) in [
        (Format::Payload, "onetwo".to_owned()),
        (
            Format::Text,
            "4 2026-08-01T12:00:00.500Z live/7@Kiruna EMERGENCY epoch 3 sequence 9: 3 bytes\n\
             5 2026-08-01T12:00:00.500Z live/7@Kiruna EMERGENCY epoch 3 sequence 9: 3 bytes\n"
                .to_owned(),
        ),
        (
            Format::Jsonl,
            [(4, "b25l"), (5, "dHdv")]
                .map(|(offset, payload)| {
                    format!(
                        "{{\"offset\":{offset},\"source_id\":7,\"source_kind\":\"live\",\"station\":\"Kiruna\",\
                         \"epoch\":3,\"priority\":\"emergency\",\"sequence\":9,\"flags\":0,\"ert_ns\":0,\
                         \"received_ns\":1785585600500000000,\"payload\":\"{payload}\"}}\n"
                    )
                })
                .concat(),
        ),
    ] {
        let (mut output, written, go) = slow(format);
        output.put(frame(4, b"one")).unwrap();
        output.put(frame(5, b"two")).unwrap();
        go.send(Ok(())).unwrap();
        output.finish(at(6)).await.unwrap();
        assert_eq!(String::from_utf8(written.lock().unwrap().clone()).unwrap(), expected);
        assert_eq!(output.written(), at(6));
    }
}

#[tokio::test]
async fn the_position_never_passes_an_unwritten_frame() {
    let (mut output, written, go) = slow(Format::Payload);
    output.begin(at(3));
    assert_eq!(output.written(), at(3), "nothing waits");
    output.put(frame(3, b"one")).unwrap();
    output.begin(at(4));
    output.put(frame(4, b"two")).unwrap();
    output.begin(at(5));
    let stalled = tokio::time::timeout(Duration::from_millis(50), output.wrote()).await;
    assert!(stalled.is_err(), "the writer is blocked");
    assert_eq!(output.written(), at(3));
    go.send(Ok(())).unwrap();
    output.wrote().await.unwrap();
    assert_eq!((&written.lock().unwrap()[..], output.written()), (&b"one"[..], at(4)));
    go.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
    assert_eq!(output.finish(at(5)).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(output.written(), at(4));
}

#[tokio::test]
async fn a_blocked_writer_fills_the_output() {
    let (mut output, _, go) = slow(Format::Payload);
    static LARGE: [u8; 64 << 10] = [1; 64 << 10];
    output.put(frame(0, &LARGE)).unwrap();
    output.begin(at(1));
    for offset in 1..=4 {
        assert!(!output.is_full());
        output.put(frame(offset, &LARGE)).unwrap();
    }
    assert!(output.is_full());
    go.send(Ok(())).unwrap();
    output.wrote().await.unwrap();
    output.begin(at(5));
    assert!(!output.is_full());
    go.send(Ok(())).unwrap();
    output.finish(at(5)).await.unwrap();
}
