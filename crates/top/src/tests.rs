//! Compares the screen with golden texts in `golden/`, and tests keys and responses. `GOLDEN=write cargo test top::`
//! writes the texts.

use frame::Lanes;
use std::path::Path;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Size;

use super::draw::{draw, report};
use super::model::{Column, Filter, Input, Model, Next, Snapshot};
use api::{
    Archive, ArchiveStatus, Books, CatalogReport, Connections, DaemonState, Emergency, Fleet, FleetState,
    Kind, LaneStats, Latency, Listener, Policy, Process, RefusalCounts, Service, Source, SourceLane, Stats,
    StreamState, Subscriber,
};

mod links;

const NARROW: Size = Size::new(60, 20);
const WIDE: Size = Size::new(200, 60);
/// 2026-08-01T12:00:00Z.
const NOON_MS: i64 = 1_785_585_600_000;

fn refusals() -> RefusalCounts {
    let counts =
        |reasons: &[(&str, u64)]| reasons.iter().map(|(reason, n)| ((*reason).to_owned(), *n)).collect();
    RefusalCounts(
        [
            (Listener::Feed, counts(&[("version", 2)])),
            (Listener::Ingest, counts(&[("evicted", 1_488), ("unauthorized", 3)])),
        ]
        .into(),
    )
}

fn latency(ms: f64) -> Latency {
    Latency { p50_ms: Some(ms), p99_ms: Some(ms * 3.0), max_ms: Some(ms * 4.0) }
}

fn source(number: u32) -> Source {
    let n = u64::from(number);
    let is_connected = number % 7 != 6;
    let lane = |frames: u64, per_s: f64| SourceLane {
        frames,
        payload_bytes: frames * 64,
        frames_per_s: per_s,
        bytes_per_s: per_s * 64.0,
        accepted_next: frames,
        durable_next: frames,
        queued_frames: 0,
        credit_used_bytes: if number % 20 == 19 { 900 } else { n },
        credit_bytes: 1_000,
        last_frame_ms: (frames > 0).then_some(NOON_MS - 1_000 * i64::from(number)),
        ack_latency_ms: (frames > 0).then_some(1.5 + f64::from(number) / 10.0),
    };
    Source {
        source_id: 100 + number,
        kind: if number % 10 == 1 { Kind::Replay } else { Kind::Live },
        station: ["KIRUNA", "SVALBARD", "Estación 衛星", ""][number as usize % 4].to_owned(),
        state: if is_connected { StreamState::Connected } else { StreamState::Lost },
        ended_ms: (!is_connected).then_some(NOON_MS - 30_000),
        session: is_connected.then_some(n),
        peer: is_connected.then(|| format!("192.0.2.{number}:4000")),
        via: None,
        since_ms: is_connected.then_some(NOON_MS - 60_000),
        offline_since_ms: (!is_connected).then_some(NOON_MS - 90_000),
        epoch: 1,
        frames: Books { received: 1_000 * n, archived: 1_000 * n, duplicates: n % 3, ..Books::default() },
        missing: if number % 13 == 12 { 5 } else { 0 },
        shared_sequence: false,
        looks_shared: false,
        last_frame_ms: (number % 9 != 8).then_some(NOON_MS - 1_000 * i64::from(number)),
        lanes: Lanes {
            emergency: lane(0, 0.0),
            routine: lane(1_000 * n, if is_connected { 100.0 } else { 0.0 }),
        },
    }
}

fn fleet(sources: u32) -> Fleet {
    let lost = (0..sources).filter(|number| number % 7 == 6).count() as u64;
    let state = if sources == 0 {
        FleetState::Idle
    } else if lost > 0 {
        FleetState::Degraded
    } else {
        FleetState::Ok
    };
    Fleet { state, connected: u64::from(sources) - lost, lost, ..Fleet::default() }
}

fn snapshot(sources: u32) -> Snapshot {
    let n = u64::from(sources);
    let lane = |frames, per_s: f64, ack| LaneStats {
        frames,
        payload_bytes: frames * 64,
        frames_per_s: per_s,
        bytes_per_s: per_s * 64.0,
        ack_latency: ack,
    };
    let emergency = |at: i64| Emergency {
        offset: 10 + at as u64,
        source_id: 107,
        kind: if at == 0 { Kind::Replay } else { Kind::Live },
        station: "KIRUNA".to_owned(),
        sequence: 40 + at as u64,
        received_ms: NOON_MS - 10_000 + at * 1_000,
        payload_bytes: 11,
        label: match at {
            1 => Some(String::new()),
            2 => None,
            _ => Some("SAFE_MODE".to_owned()),
        },
    };
    let subscriber = |at: u64| Subscriber {
        session: at,
        peer: format!("198.51.100.{at}:5000"),
        policy: if at == 0 { Policy::Complete } else { Policy::Timely },
        since_ms: NOON_MS - 3_600_000,
        next_offset: 0,
        lag_frames: at * 12_000,
    };
    let some = sources > 0;
    let rejected_by = some.then(|| ("too_large".to_owned(), 2)).into_iter().collect();
    let received = 12_345_678 * n / 10;
    let stats = Stats {
        service: Service::default(),
        version: "0.1.0".to_owned(),
        state: DaemonState::Running,
        unready: Vec::new(),
        time_ms: NOON_MS,
        started_ms: NOON_MS - 11_525_000,
        frames: Books {
            received,
            archived: received - if some { 75 } else { 0 },
            duplicates: if some { 3 } else { 0 },
            rejected: if some { 2 } else { 0 },
            in_flight: if some { 70 } else { 0 },
            rejected_by,
            ..Books::default()
        },
        missing: n / 13 * 5,
        lanes: if some {
            Lanes {
                emergency: lane(3, 0.5, latency(0.4)),
                routine: lane(received - 3, 100.0 * n as f64, latency(2.25)),
            }
        } else {
            Lanes::default()
        },
        archive: Archive {
            status: ArchiveStatus::Ok,
            reason: None,
            first_offset: 0,
            next_offset: received,
            segments: 3,
            segment_bytes: 768 << 20,
            written_bytes: 700 << 20,
            commits: 1_000,
            sync: if some { latency(1.1) } else { Latency::default() },
            expired_frames: 0,
            age_hold: None,
            upkeep_failing: 0,
            foreign_segments: 0,
            file_shortages: 0,
            disk_free_bytes: 40 << 30,
            disk_bytes: 100 << 30,
        },
        connections: Connections {
            sources: sources as usize,
            sources_max: 1_024,
            subscribers: if some { 2 } else { 0 },
            subscribers_max: 64,
        },
        fleet: fleet(sources),
        subscribers: if some { (0..2).map(subscriber).collect() } else { Vec::new() },
        refusals: if some { refusals() } else { RefusalCounts::default() },
        emergencies: if some { (0..3).map(emergency).collect() } else { Vec::new() },
        uploads: None,
        catalog: CatalogReport::default(),
        process: Process { memory_bytes: 120 << 20, memory_limit_bytes: 512 << 20, open_files: 77 },
    };
    Snapshot {
        stats,
        sources: (0..sources).map(source).collect(),
        total: sources as usize,
        links: Vec::new(),
        outputs: Vec::new(),
    }
}

fn unknown(size: Size) -> Model {
    Model::new("http://127.0.0.1:7482".to_owned(), Duration::from_secs(1), size)
}

/// A model of a daemon with `sources` sources. The daemon has responded twice, with a failed request in between.
fn model(sources: u32, size: Size) -> Model {
    let mut model = unknown(size);
    let mut half = snapshot(sources);
    half.stats.lanes.routine.frames_per_s /= 2.0;
    for input in [
        Input::Known(Box::new(half)),
        Input::Trouble("connection refused".to_owned()),
        Input::Now(Duration::from_secs(60)),
        Input::Known(Box::new(snapshot(sources))),
    ] {
        assert_eq!(model.step(input), Next::GoOn);
    }
    model
}

fn key(model: &mut Model, code: KeyCode) {
    let event = KeyEvent::new(code, KeyModifiers::NONE);
    assert_eq!(model.step(Input::Key(event)), Next::GoOn, "{code:?}");
}

fn type_text(model: &mut Model, text: &str) {
    text.chars().for_each(|character| key(model, KeyCode::Char(character)));
}

/// The screen, as text without trailing blanks.
fn screen(model: &Model) -> String {
    let mut terminal = Terminal::new(TestBackend::new(model.size.width, model.size.height)).unwrap();
    terminal.draw(|frame| draw(model, frame.area(), frame.buffer_mut())).unwrap();
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for row in buffer.content().chunks(usize::from(model.size.width).max(1)) {
        let mut line = String::new();
        let mut covered = 0;
        for cell in row {
            // A wide character covers the cell behind it.
            if covered > 0 {
                covered -= 1;
                continue;
            }
            line.push_str(cell.symbol());
            covered = ratatui::text::Span::raw(cell.symbol()).width().saturating_sub(1);
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[track_caller]
fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/golden").join(name).with_extension("txt");
    if std::env::var("GOLDEN").is_ok_and(|wish| wish == "write") {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(golden == text, "{} differs; it is now:\n{text}", path.display());
}

#[test]
fn the_screen_shows_the_daemon_in_every_size() {
    for (name, size) in [("narrow", NARROW), ("wide", WIDE)] {
        for sources in [0, 2, 60] {
            assert_golden(&format!("{name}_{sources}"), &screen(&model(sources, size)));
        }
    }
}

#[test]
fn the_report_has_all_sources() {
    assert_golden("report_60", &report(&model(60, Size::default())));
}

#[test]
fn help_fits_a_small_screen() {
    let mut model = model(2, NARROW);
    key(&mut model, KeyCode::Char('?'));
    assert_golden("help", &screen(&model));
    key(&mut model, KeyCode::Esc);
    assert_eq!(screen(&model), screen(&self::model(2, NARROW)));
}

#[test]
fn a_daemon_that_does_not_answer_is_marked() {
    let mut model = unknown(NARROW);
    assert!(screen(&model).contains("\nconnecting\n"), "{}", screen(&model));
    model.step(Input::Trouble("cannot connect: connection refused".to_owned()));
    assert!(
        screen(&model).contains("\nNO ANSWER: cannot connect: connection refused\n"),
        "{}",
        screen(&model)
    );
    model.step(Input::Known(Box::new(snapshot(2))));
    assert!(!screen(&model).contains("NO ANSWER"), "{}", screen(&model));
    model.step(Input::Now(Duration::from_secs(12)));
    model.step(Input::Trouble("no answer within 3s".to_owned()));
    assert_golden("stale", &screen(&model));
    // The daemon responds again.
    model.step(Input::Known(Box::new(snapshot(2))));
    assert!(!model.is_stale());
    // The data is stale, too, if a request has neither succeeded nor failed.
    model.step(Input::Now(Duration::from_secs(18)));
    assert!(model.is_stale());
}

#[test]
fn a_lost_fleet_is_shown_at_the_top() {
    let mut lost = snapshot(2);
    lost.stats.fleet = Fleet { state: FleetState::Lost, lost: 2, ..Fleet::default() };
    let mut model = unknown(NARROW);
    model.step(Input::Known(Box::new(lost)));
    let screen = screen(&model);
    let lines: Vec<_> = screen.lines().take(2).collect();
    assert!(lines[0].starts_with("RUNNING  FLEET LOST  up ") && lines[0].ends_with(" old"), "{screen}");
    assert_eq!(lines[1], "FLEET LOST: 2 sources vanished without BYE, 0 connected");
}

#[test]
fn the_reasons_for_not_being_ready_are_shown_at_the_top() {
    let mut unready = snapshot(2);
    unready.stats.state = DaemonState::Draining;
    unready.stats.unready = vec![
        "draining: no new connections are taken".to_owned(),
        "archive degraded: 12 MiB are free on the disk and the reserve is 64 MiB: free some, or add to it\x1b[2J".to_owned(),
    ];
    unready.stats.archive.status = ArchiveStatus::Degraded;
    let mut model = unknown(NARROW);
    model.step(Input::Known(Box::new(unready)));
    assert_golden("unready", &screen(&model));
}

#[test]
fn books_that_do_not_balance_are_marked() {
    let mut wrong = snapshot(2);
    wrong.stats.frames.received += 1;
    let mut model = unknown(WIDE);
    model.step(Input::Known(Box::new(wrong)));
    assert!(screen(&model).contains("OFF BY 1"), "{}", screen(&model));
}

#[test]
fn every_size_is_drawn() {
    for (width, height) in [(0, 0), (1, 1), (9, 3), (20, 10), (300, 4), (60, 200), (99, 32), (100, 32)] {
        for sources in [0, 60] {
            let mut model = model(sources, Size::new(width, height));
            key(&mut model, KeyCode::End);
            screen(&model);
            key(&mut model, KeyCode::Char('?'));
            screen(&model);
        }
    }
}

#[test]
fn q_and_control_c_quit() {
    let mut model = model(2, NARROW);
    let quits = |model: &mut Model, code, modifiers| model.step(Input::Key(KeyEvent::new(code, modifiers)));
    assert_eq!(quits(&mut model, KeyCode::Char('q'), KeyModifiers::NONE), Next::Quit);
    assert_eq!(quits(&mut model, KeyCode::Char('c'), KeyModifiers::CONTROL), Next::Quit);
    assert_eq!(quits(&mut model, KeyCode::Char('c'), KeyModifiers::NONE), Next::GoOn);
    assert_eq!(model.filter, Filter::Connected);
}

#[test]
fn keys_order_the_table() {
    let ids = |model: &Model| -> Vec<u32> { model.rows().iter().map(|source| source.source_id).collect() };
    let mut model = model(60, WIDE);
    assert_eq!(ids(&model)[..3], [100, 101, 102]);
    type_text(&mut model, "r");
    assert_eq!(ids(&model)[..3], [159, 158, 157]);
    type_text(&mut model, "ssssss");
    assert_eq!((model.sort, model.is_descending), (Column::Missing, true));
    // Equal sources stay in the order of their ids in both directions.
    assert_eq!(ids(&model)[..5], [112, 125, 138, 151, 100]);
    type_text(&mut model, "r");
    assert_eq!(ids(&model)[..3], [100, 101, 102]);
    key(&mut model, KeyCode::Left);
    assert_eq!((model.sort, model.is_descending), (Column::Bytes, true));
    assert_eq!(ids(&model)[59], 155);
    // The selection wraps around to the column of ids.
    type_text(&mut model, "sssssss");
    assert_eq!((model.sort, model.is_descending), (Column::Source, false));
    for column in Column::ALL {
        assert_eq!(model.sort, column);
        assert_eq!(model.rows().len(), 60);
        type_text(&mut model, "s");
    }
    model.step(Input::Key(KeyEvent::new(KeyCode::Left, KeyModifiers::NONE)));
    // The oldest frames come first. Sources without any frame come before them.
    type_text(&mut model, "S");
    assert_eq!((model.sort, ids(&model)[0], ids(&model)[6]), (Column::Age, 108, 159));
}

#[test]
fn keys_choose_what_is_shown() {
    let mut model = model(60, WIDE);
    let shown = |model: &Model| model.rows().len();
    for (keys, filter, rows) in [
        ("f", Filter::Connected, 52),
        ("f", Filter::Offline, 8),
        ("f", Filter::Trouble, 14),
        ("f", Filter::All, 60),
        ("o", Filter::Offline, 8),
        ("a", Filter::All, 60),
        ("t", Filter::Trouble, 14),
    ] {
        type_text(&mut model, keys);
        assert_eq!((model.filter, shown(&model)), (filter, rows), "{keys}");
    }
    assert!(screen(&model).contains("sources 60, 14 trouble, by source ascending"), "{}", screen(&model));
}

#[test]
fn keys_scroll_within_the_table() {
    let mut model = model(60, NARROW);
    let first = |model: &Model| screen(model).lines().nth(14).map(|line| line.trim()[..3].to_owned());
    let mut expect = |code, scroll: usize| {
        key(&mut model, code);
        let row = format!("{}", 100 + scroll);
        assert_eq!((model.scroll, first(&model)), (scroll, Some(row)), "{code:?}: {}", screen(&model));
    };
    expect(KeyCode::Up, 0);
    expect(KeyCode::Down, 1);
    expect(KeyCode::Char('j'), 2);
    expect(KeyCode::Char('k'), 1);
    expect(KeyCode::PageDown, 6);
    expect(KeyCode::PageUp, 1);
    expect(KeyCode::End, 55);
    expect(KeyCode::Down, 55);
    expect(KeyCode::Home, 0);
    expect(KeyCode::Char('G'), 55);
    assert!(screen(&model).contains("56-60 of 60"), "{}", screen(&model));
    // A larger screen or fewer sources leave less to scroll.
    model.step(Input::Size(WIDE));
    assert!(model.scroll < 55, "{}", model.scroll);
    model.step(Input::Known(Box::new(snapshot(2))));
    assert_eq!(model.scroll, 0);
}
