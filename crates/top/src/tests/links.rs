//! The lists and banners of links and outputs.

use std::time::Duration;

use ratatui::crossterm::event::KeyCode;
use ratatui::layout::Size;

use super::{NARROW, NOON_MS, WIDE, assert_golden, key, model, screen, snapshot, type_text, unknown};
use crate::draw::report;
use crate::model::{Column, Input, ListKind, Model, Next, Snapshot};
use api::{
    Forwarding, Link, LinkChannel, LinkCounts, LinkState, Output, OutputCounts, OutputReader, OutputState,
};

fn link(name: &str, state: LinkState, trouble: Option<&str>) -> Link {
    let has_peer = matches!(state, LinkState::Connected | LinkState::Silent);
    Link {
        name: name.to_owned(),
        description: format!("what {name} is configured to do"),
        state,
        since_ms: NOON_MS - 60_000,
        trouble: trouble.map(str::to_owned),
        trouble_bytes: None,
        address: (state == LinkState::Listening).then(|| "127.0.0.1:7490".to_owned()),
        peer: has_peer.then(|| "10.0.8.5:7000".to_owned()),
        heard_ms: has_peer.then_some(NOON_MS - 15_000),
        receive_buffer_bytes: None,
        units_per_s: if state == LinkState::Connected { 8.5 } else { 0.0 },
        bytes_per_s: if state == LinkState::Connected { 10_871.5 } else { 0.0 },
        counts: LinkCounts {
            units: 1_000,
            bad: 7,
            bad_dropped: 5,
            full_dropped: 20,
            skipped_bytes: 4_096,
            ..LinkCounts::default()
        },
        missing: 7,
        channels_total: 2,
        channels: [3, 4].map(channel).to_vec(),
    }
}

fn channel(missing: u64) -> LinkChannel {
    LinkChannel {
        source: 123,
        channel: missing as u32,
        bypass: false,
        expected: 100 + missing,
        received: 100,
        missing,
        modulo: Some(256),
        restarts: 0,
    }
}

/// An output with `readers` readers. The reader `n` is 100 * n frames behind `head`.
fn output(name: &str, state: OutputState, readers: u64, head: u64) -> Output {
    let reader = |n: u64| OutputReader {
        peer: format!("10.0.9.{n}:40000"),
        since_ms: NOON_MS - 60_000,
        next_offset: head - 100 * n,
    };
    Output {
        name: name.to_owned(),
        description: format!("what {name} is configured to do"),
        state,
        since_ms: NOON_MS - 60_000,
        trouble: None,
        address: Some("127.0.0.1:10011".to_owned()),
        cursor: None,
        counts: OutputCounts {
            frames: 6_000,
            bytes: 6_000_000,
            skipped: 12,
            gaps: 1,
            missing: 40,
            cut: 2,
            undecoded: 1,
            ..OutputCounts::default()
        },
        forwarding: None,
        slowest_offset: (readers > 0).then(|| head - 100 * readers),
        readers_total: readers as usize,
        readers: (1..=readers).map(reader).collect(),
    }
}

/// Like [`snapshot`], of a daemon with links and outputs in every state.
fn linked(sources: u32) -> Snapshot {
    let mut snapshot = snapshot(sources);
    let head = snapshot.stats.archive.next_offset;
    snapshot.links = vec![
        link("direwolf", LinkState::Connecting, Some("cannot connect to modem:8001: connection refused")),
        link("gateway", LinkState::Disabled, None),
        link("inuvik-udp", LinkState::Silent, None),
        link("kiruna-x", LinkState::Connected, None),
        link("nctrs", LinkState::Failed, Some("cannot listen on 10.0.8.1:7490: address in use\x1b[2J")),
        link("packets", LinkState::Listening, Some("the peer closed the connection")),
        link("standby", LinkState::Connected, Some("stream 7 live KIRUNA belongs to link kiruna-x")),
    ];
    snapshot.outputs = vec![
        Output {
            cursor: Some(head - 20_000),
            trouble: Some("10.0.9.1:40000: connection lost: broken pipe".to_owned()),
            ..output("archive-feed", OutputState::Listening, 0, head)
        },
        Output {
            // Another reader has left.
            trouble: Some("10.0.9.9:40000: the reader closed the connection".to_owned()),
            ..output("cosmos", OutputState::Connected, 2, head)
        },
        output("spare", OutputState::Disabled, 0, head),
        output("yamcs-live", OutputState::Connected, 1, head),
    ];
    snapshot
}

/// A model of a daemon with links and outputs.
fn linked_model(size: Size) -> Model {
    let mut model = unknown(size);
    let mut before = linked(60);
    before.outputs.iter_mut().for_each(|output| output.counts.frames -= 600);
    before.outputs.iter_mut().for_each(|output| output.counts.bytes -= 600_000);
    for input in [
        Input::Known(Box::new(before)),
        Input::Now(Duration::from_secs(10)),
        Input::Known(Box::new(linked(60))),
    ] {
        assert_eq!(model.step(input), Next::GoOn);
    }
    model
}

#[test]
fn the_report_has_links_and_outputs() {
    assert_golden("report_links", &report(&linked_model(Size::default())));
}

#[test]
fn the_lists_of_links_and_outputs_fit_every_screen() {
    for (name, size) in [("narrow", NARROW), ("wide", WIDE)] {
        let mut model = linked_model(size);
        for list in ["links", "outputs"] {
            type_text(&mut model, "l");
            assert_eq!(model.list.name(), list);
            assert_golden(&format!("{name}_{list}"), &screen(&model));
        }
        key(&mut model, KeyCode::Tab);
        assert_eq!(model.list, ListKind::Sources);
    }
}

#[test]
fn links_and_outputs_in_trouble_are_named_above_the_sources() {
    let banners = |model: &Model| {
        let screen = screen(model);
        let banners = screen.lines().filter(|line| line.contains("in trouble: ")).map(str::to_owned);
        banners.collect::<Vec<_>>()
    };
    let wide = Size::new(400, 60);
    assert_eq!(
        banners(&linked_model(wide)),
        [
            "LINKS: 4 of 7 in trouble: nctrs failed: cannot listen on 10.0.8.1:7490: address in use [2J; direwolf \
             connecting: cannot connect to modem:8001: connection refused; inuvik-udp silent; standby: stream 7 live \
             KIRUNA belongs to link kiruna-x",
            "OUTPUTS: 1 of 4 in trouble: archive-feed 20,000 frames behind",
        ]
    );
    let mut well = linked(60);
    well.links.retain(|link| ["gateway", "kiruna-x", "packets"].contains(&link.name.as_str()));
    well.outputs.remove(0);
    let mut model = unknown(wide);
    model.step(Input::Known(Box::new(well.clone())));
    assert_eq!(banners(&model), Vec::<String>::new());
    // With a single reader the trouble is its own.
    well.outputs[2] = Output {
        address: None,
        trouble: Some("cannot send to 10.0.9.1:40000: network unreachable".to_owned()),
        ..well.outputs[2].clone()
    };
    // Of an output that cannot connect, the reason matters more than how far it is behind.
    let head = well.stats.archive.next_offset;
    well.outputs.push(Output {
        cursor: Some(head - 20_000),
        trouble: Some("cannot connect".to_owned()),
        ..output("z", OutputState::Connecting, 0, head)
    });
    model.step(Input::Known(Box::new(well.clone())));
    assert_eq!(
        banners(&model),
        [
            "OUTPUTS: 2 of 4 in trouble: yamcs-live: cannot send to 10.0.9.1:40000: network unreachable; z connecting: \
             cannot connect"
        ]
    );
    // A forwarder above its limit.
    let late = Forwarding { lag_ms: 372_000, lag_max_ms: Some(300_000), late: true, ..Forwarding::default() };
    well.outputs.truncate(2);
    well.outputs[0] = Output {
        forwarding: Some(late),
        trouble: Some("the stream is full".to_owned()),
        ..output("bus", OutputState::Connecting, 0, head)
    };
    model.step(Input::Known(Box::new(well)));
    assert_eq!(
        banners(&model),
        ["OUTPUTS: 1 of 2 in trouble: bus 6m12s behind, more than 5m00s: the stream is full"]
    );
}

#[test]
fn without_links_and_outputs_there_is_only_the_list_of_sources() {
    let mut model = model(60, WIDE);
    type_text(&mut model, "l");
    assert_eq!(screen(&model), screen(&super::model(60, WIDE)));
    // A reload of the daemon's configuration may remove all links while they are shown.
    model.step(Input::Known(Box::new(linked(60))));
    type_text(&mut model, "l");
    assert_eq!(model.list, ListKind::Links);
    // The keys of the sources have no effect on another list.
    type_text(&mut model, "sr");
    assert_eq!((model.sort, model.is_descending), (Column::Source, false));
    model.step(Input::Known(Box::new(snapshot(60))));
    assert_eq!(model.list, ListKind::Sources);
}

#[test]
fn many_links_scroll() {
    let mut many = linked(2);
    many.outputs.clear();
    many.links =
        (0..40).map(|number| link(&format!("link-{number:02}"), LinkState::Connected, None)).collect();
    let mut model = unknown(NARROW);
    model.step(Input::Known(Box::new(many)));
    type_text(&mut model, "lG");
    let screen = screen(&model);
    assert!(screen.contains("link-39") && screen.contains("of 40"), "{screen}");
    assert!(screen.contains("q quit  ? help  l sources"), "{screen}");
}

#[test]
fn every_size_is_drawn() {
    for (width, height) in [(0, 0), (1, 1), (9, 3), (20, 10), (300, 4), (60, 200), (99, 32), (100, 32)] {
        let mut model = linked_model(Size::new(width, height));
        for _ in 0..3 {
            key(&mut model, KeyCode::End);
            screen(&model);
            type_text(&mut model, "l");
        }
    }
}
