//! The example of the crate `client`.

use std::collections::BTreeSet;

use crate::support::{Daemon, EMERGENCY, ROUTINE};

#[path = "../../crates/client/examples/source.rs"]
#[allow(dead_code, reason = "the test calls `run` in place of `main`")]
mod source;

#[tokio::test]
async fn the_example_of_a_source_ends_when_its_100_frames_are_durable() {
    let mut daemon = Daemon::start("");
    let durable = source::run(&daemon.address().to_string()).await.unwrap();
    assert_eq!([durable.emergency, durable.routine], [10, 90]);
    let archived = daemon.archived();
    let sequences = |lane| -> BTreeSet<u64> {
        archived.iter().filter(|frame| frame.lane == lane).map(|frame| frame.sequence).collect()
    };
    assert_eq!(sequences(EMERGENCY), (0..10).collect());
    assert_eq!(sequences(ROUTINE), (0..90).collect());
    assert_eq!(daemon.stop().archived, 100);
}
