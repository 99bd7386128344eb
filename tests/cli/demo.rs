//! `demo`: the scenario of the RFC.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::command::{aggregator, expect_exit};

#[test]
fn the_demo_shows_emergencies_overtaking() {
    let started = Instant::now();
    // A daemon on this host may already have the usual ports. In both cases the ports are taken.
    let _taken: Vec<_> = [7480, 7481, 7482].map(|port| TcpListener::bind(("127.0.0.1", port))).into();
    let (out, said) = expect_exit(&mut aggregator(["demo"]), 0);
    assert!(started.elapsed() < Duration::from_secs(3), "it took {:?}", started.elapsed());
    assert!(said.is_empty(), "{said}");
    let processed: Vec<_> = out.lines().filter(|line| line.contains("processed source=")).collect();
    assert_eq!(processed.len(), 45, "{out}");
    for source in 0..4 {
        let of_source: Vec<_> =
            processed.iter().filter(|line| line.contains(&format!("source={source} "))).collect();
        assert_eq!(of_source.len(), 10, "source {source}: {out}");
        for (index, line) in of_source.iter().enumerate() {
            let is_emergency = line.contains("priority=EMERGENCY");
            assert_eq!(is_emergency, index < 2, "frame {index} of source {source}: {out}");
            assert!(line.contains("kind=live"), "{line}");
        }
        let sequences: Vec<u64> = of_source.iter().map(|line| number(line, "seq=")).collect();
        assert_eq!(sequences, [4, 7, 0, 1, 2, 3, 5, 6, 8, 9], "source {source}");
    }
    assert_eq!(processed.iter().filter(|line| line.contains("kind=replay")).count(), 5, "{out}");
    let stats: Vec<_> = out.lines().filter(|line| line.contains("stats routed=")).collect();
    let last = stats.last().unwrap_or_else(|| panic!("no stats: {out}"));
    assert_eq!(["routed=", "processed=", "emergency="].map(|name| number(last, name)), [45, 45, 8]);
    for line in &stats {
        let [routed, processed, emergency] =
            ["routed=", "processed=", "emergency="].map(|name| number(line, name));
        assert!(routed >= processed && processed >= emergency, "{line}");
    }
    for part in ["archive done total=45", "registering one more source", "removing a source"] {
        assert!(out.contains(part), "{part:?} is missing in: {out}");
    }
}

/// The number after `name` in a line.
fn number(line: &str, name: &str) -> u64 {
    let word = line.split_whitespace().find_map(|word| word.strip_prefix(name));
    word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no {name} in {line:?}"))
}
