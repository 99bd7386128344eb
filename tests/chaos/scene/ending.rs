//! The end of a scene: everything is acknowledged, archived, exported and delivered, and is checked once more.

use std::sync::atomic::Ordering::Relaxed;

use super::Scene;
use crate::audit::{Audit, verify};
use crate::equipment::Equipment;
use crate::exports;
use crate::follower::Follower;
use crate::source::Source;
use crate::support::http::get_json;
use crate::support::{Books, EMERGENCY, LIMIT, ROUTINE, Signal};
use crate::track::Faults;

impl Scene {
    /// Ends all sources with BYE, drains the daemon, and checks everything once more from the first offset on.
    pub fn finish(mut self) -> Faults {
        self.sources.iter().for_each(|source| source.shared.finish.store(true, Relaxed));
        self.sources.iter_mut().for_each(Source::finish);
        let units: u64 = self.equipment.iter_mut().map(Equipment::stop).sum();
        self.wait_for_peers();
        exports::wait(&self.archive_dir());
        let books = self.drain();
        let mut faults = self.check_archive();
        self.check_again(&mut faults);
        let (found, exported) = exports::check(&self.home());
        faults.add(&found);
        let track = &self.audit.track;
        let written: u64 = self.sources.iter().flat_map(Source::books).map(|book| book.written).sum();
        assert_eq!(track.frames, written, "frames of sources in the archive");
        println!(
            "scene: {} frames, {exported} of them and of units in exports, {} of {units} units of links, {} frames \
             repeated by the output; last life {books:?}",
            track.frames,
            track.units,
            self.reader.repeated()
        );
        self.followers.iter_mut().for_each(Follower::stop);
        self.reader.stop();
        faults
    }

    /// Waits until subscribers and the reader of the output have everything.
    fn wait_for_peers(&mut self) {
        let stats = get_json(self.daemon().http(), "/api/v1/stats");
        let head = stats["archive"]["next_offset"].as_u64().expect("an offset");
        self.wait("all frames at the peers", |scene| {
            if let Some(next) = scene.followers.iter().map(Follower::next_offset).find(|next| *next < head) {
                return Err(format!("a subscriber is at {next} of {head}"));
            }
            let books = |source: u32, lane: usize| scene.sources[source as usize].books()[lane].written;
            if scene.setup.has_retention() { Ok(()) } else { scene.reader.has_all(books) }
        });
        for source in &self.sources {
            for (lane, follower) in [(EMERGENCY, 1), (ROUTINE, 2)] {
                let found =
                    [0, follower].map(|follower| self.followers[follower].track().found(source.id, lane));
                assert_eq!(found[1], found[0], "source {} lane {lane} at the subscribers", source.id);
            }
        }
    }

    /// SIGTERM. The daemon must exit with 0, and its books must balance.
    fn drain(&mut self) -> Books {
        self.daemon().signal(Signal::TERM);
        let exit = self.daemon_mut().wait_exit(LIMIT);
        assert_eq!(exit.code, Some(0), "exit code after SIGTERM");
        let books = self.daemon().final_books();
        books.assert_balanced();
        assert_eq!(books.undelivered, 0, "accepted frames were lost: {books:?}");
        books
    }

    /// Reads the whole archive a second time, if nothing of it has expired.
    fn check_again(&self, faults: &mut Faults) {
        verify(&self.data_dir());
        if self.setup.has_retention() {
            return;
        }
        let mut again = Audit::default();
        again.read_on(&self.data_dir());
        faults.add(&again.track.faults);
        assert_eq!(again.next_offset, self.audit.next_offset, "offsets of the archive");
        assert_eq!(again.track.frames, self.audit.track.frames, "frames of the archive");
    }
}
