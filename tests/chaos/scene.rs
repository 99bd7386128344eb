//! A real daemon with everything around it: 50 sources, two links, an output with a reader, three subscribers.

mod ending;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::audit::Audit;
use crate::equipment::{Equipment, LINKS};
use crate::follower::{ALL, EMERGENCIES, Follower, ROUTINES};
use crate::netns::Namespace;
use crate::proxy::Proxy;
use crate::reader::Reader;
use crate::setup::{Setup, TOKEN, config, launched};
use crate::shim::Shim;
use crate::source::{Entrance, REPLAYS, SATELLITES, Source, Uplink};
use crate::support::http::get_json;
use crate::support::wait::wait_within;
use crate::support::{Daemon, EMERGENCY, LIMIT, Port, ROUTINE, Signal};
use crate::track::Faults;

/// New routine frames per second and source while no test asks for more.
pub const RATE: u32 = 60;
/// Longest time until everything is as before a fault. Generous: the machine may be busy.
pub const RECOVERY_MAX: Duration = Duration::from_secs(60);
/// Time without any acknowledgement after which none is on its way.
const ON_ITS_WAY: Duration = Duration::from_millis(300);

/// Lets time pass, for what no event ends: the length of a fault, a random moment, the pace of a sender, the pause of a
/// client between two attempts.
pub fn pass(time: Duration) {
    std::thread::sleep(time);
}

/// A daemon and its peers.
pub struct Scene {
    daemon: Option<Daemon>,
    setup: Setup,
    pub rate: Arc<AtomicU32>,
    pub sources: Vec<Source>,
    pub followers: Vec<Follower>,
    pub reader: Reader,
    /// In front of the listeners for sources and subscribers.
    pub proxies: Vec<Proxy>,
    equipment: Vec<Equipment>,
    audit: Audit,
    /// Acknowledged frames that rounds have counted.
    counted: u64,
    _ports: Vec<Port>,
}

impl Scene {
    /// Starts everything, and waits until each source has an acknowledgement.
    pub fn start(setup: Setup) -> Self {
        let reached = std::iter::repeat_with(|| Port::hold_at(setup.host())).take(2);
        let ports: Vec<_> = reached.chain(std::iter::repeat_with(Port::hold).take(2 + LINKS.len())).collect();
        let addresses: Vec<_> = ports.iter().map(Port::address).collect();
        let [ingest, feed, _, output, links @ ..] = &addresses[..] else {
            unreachable!("there are that many")
        };
        let config = config(&setup, &addresses);
        let dir = tempfile::tempdir().expect("no temporary directory");
        let daemon = launched(&setup, |launch| Daemon::launch_at(dir, &config, launch));
        let proxies: Vec<_> = match setup.is_proxied {
            true => vec![Proxy::start(*ingest), Proxy::start(*feed)],
            false => vec![],
        };
        let entrance = |at: usize, direct: SocketAddr| Entrance {
            address: proxies.get(at).map_or(direct, Proxy::address),
            token: setup.namespace.as_ref().map_or_else(String::new, |_| TOKEN.to_owned()),
            namespace: setup.namespace.as_ref().map(|namespace| namespace.path()),
        };
        let rate = Arc::new(AtomicU32::new(RATE));
        let uplink = Uplink { entrance: entrance(0, *ingest), rate: Arc::clone(&rate) };
        let feed = entrance(1, *feed);
        let may_miss = setup.has_retention();
        let equipped = LINKS.into_iter().zip(links.iter().copied());
        let mut scene = Self {
            daemon: Some(daemon),
            setup,
            rate,
            sources: (0..SATELLITES + REPLAYS).map(|id| Source::start(id, uplink.clone())).collect(),
            followers: [ALL, EMERGENCIES, ROUTINES].map(|lanes| Follower::start(feed.clone(), lanes)).into(),
            reader: Reader::start(*output, may_miss),
            proxies,
            equipment: equipped.map(|(source, address)| Equipment::start(source, address)).collect(),
            audit: Audit::default(),
            counted: 0,
            _ports: ports,
        };
        scene.recovered(Instant::now());
        scene
    }

    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("the daemon is there between two restarts")
    }

    pub fn daemon_mut(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("the daemon is there between two restarts")
    }

    pub fn archive_dir(&self) -> PathBuf {
        self.daemon().archive_dir()
    }

    fn data_dir(&self) -> PathBuf {
        self.home().join("data")
    }

    fn home(&self) -> PathBuf {
        self.daemon().config_path().parent().expect("a directory").to_owned()
    }

    /// kill -9. The daemon must run.
    pub fn kill(&mut self) {
        self.daemon().signal(Signal::KILL);
        let exit = self.daemon_mut().wait_exit(LIMIT);
        assert_eq!(exit.code, None, "the daemon ended before it was killed");
    }

    /// Starts a new process on the archive of the ended one.
    pub fn restart(&mut self) {
        let ended = self.daemon.take().expect("a daemon that has ended");
        self.daemon = Some(launched(&self.setup, |launch| ended.relaunch(launch)));
    }

    /// Waits until each source has an acknowledgement of a frame that it wrote after this call.
    ///
    /// Returns the time since `began`.
    pub fn recovered(&mut self, began: Instant) -> Duration {
        let written: Vec<_> = self.sources.iter().map(|source| source.books()[ROUTINE].written).collect();
        self.wait("sources that go on", |scene| {
            let mut pairs = scene.sources.iter().zip(&written);
            match pairs.find(|(source, written)| source.books()[ROUTINE].acked <= **written) {
                None => Ok(()),
                Some((source, written)) => {
                    Err(format!("source {} is at {:?}, not behind {written}", source.id, source.books()))
                }
            }
        });
        began.elapsed()
    }

    /// Waits until `look` succeeds. Fails the test at once if a peer has found a fault.
    #[track_caller]
    pub fn wait(&mut self, what: &str, look: impl Fn(&Self) -> Result<(), String>) {
        wait_within(RECOVERY_MAX, what, || {
            self.assert_running();
            look(&*self)
        });
    }

    /// Waits until `more` frames are acknowledged than now.
    #[track_caller]
    pub fn wait_acked(&mut self, more: u64) {
        let goal = self.acked() + more;
        self.wait(&format!("{more} more acknowledged frames"), |scene| match scene.acked() {
            acked if acked >= goal => Ok(()),
            acked => Err(format!("{acked} of {goal}")),
        });
    }

    /// Fails the test if a peer has found a fault.
    pub fn assert_running(&mut self) {
        self.sources.iter_mut().for_each(Source::assert_running);
        self.followers.iter_mut().for_each(Follower::assert_running);
        self.reader.assert_running();
    }

    /// How often sources have connected.
    pub fn welcomes(&self) -> u64 {
        self.sources.iter().map(|source| source.shared.welcomes.load(Relaxed)).sum()
    }

    /// The library of this scene's daemon.
    pub fn shim(&self) -> &Shim {
        self.try_shim().expect("the scene has a library to preload")
    }

    pub fn try_shim(&self) -> Option<&Shim> {
        self.setup.shim.as_deref()
    }

    /// The namespace of this scene's sources.
    pub fn namespace(&self) -> &Namespace {
        self.setup.namespace.as_ref().expect("the scene has a namespace")
    }

    /// Asserts that for `time` nothing is acknowledged, apart from what is on its way when this is called.
    pub fn assert_nothing_acked(&mut self, time: Duration) {
        let started = Instant::now();
        let mut acked = self.acked();
        loop {
            pass(ON_ITS_WAY);
            let before = std::mem::replace(&mut acked, self.acked());
            if before == acked {
                break;
            }
            assert!(started.elapsed() < LIMIT, "the daemon goes on to acknowledge frames");
        }
        pass(time);
        assert_eq!(self.acked(), acked, "frames were acknowledged meanwhile");
        self.assert_running();
    }

    /// Frames that were acknowledged, of all sources.
    pub fn acked(&self) -> u64 {
        self.sources.iter().flat_map(Source::books).map(|book| book.acked).sum()
    }

    /// Frames that were written and are not acknowledged, of all sources.
    pub fn unacked(&self) -> u64 {
        self.sources.iter().flat_map(Source::books).map(|book| book.written - book.acked).sum()
    }

    /// Frames that were acknowledged since the call before.
    pub fn newly_acked(&mut self) -> u64 {
        let acked = self.acked();
        acked - std::mem::replace(&mut self.counted, acked)
    }

    /// Reads what is new in the archive, and compares it with what was acknowledged before this call. The sources pause
    /// meanwhile: on a busy machine the reading could be slower than they are, and would not end.
    pub fn check_archive(&mut self) -> Faults {
        let rate = self.rate.swap(0, Relaxed);
        let acked: Vec<_> = self.sources.iter().map(Source::books).collect();
        let data_dir = self.data_dir();
        self.audit.read_on(&data_dir);
        self.rate.store(rate, Relaxed);
        let mut faults = std::mem::take(&mut self.audit.track.faults);
        for (source, acked) in self.sources.iter().zip(acked) {
            let written = source.books();
            for lane in [EMERGENCY, ROUTINE] {
                let found = self.audit.track.found(source.id, lane);
                faults.compare(source.id, lane, found, acked[lane].acked, written[lane].written);
            }
        }
        for follower in &self.followers {
            faults.add(&std::mem::take(&mut follower.track().faults));
        }
        self.assert_running();
        faults
    }

    /// The books of the running daemon balance at any moment.
    pub fn check_books(&self) {
        let stats = get_json(self.daemon().http(), "/api/v1/stats");
        let number = |name: &str| stats["frames"][name].as_u64().expect("a number of frames");
        let settled = ["archived", "not_stored", "duplicates", "rejected", "in_flight"].map(number);
        assert_eq!(number("received"), settled.iter().sum::<u64>(), "the books do not balance: {stats:#}");
    }
}

impl Drop for Scene {
    /// Keeps what a failed test leaves.
    fn drop(&mut self) {
        if !std::thread::panicking() || self.daemon.is_none() {
            return;
        }
        let kept = tempfile::Builder::new().prefix("chaos-").tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        let kept = kept.expect("no directory for the archive").keep();
        let journal = self.try_shim().map(|shim| shim.journal.path().to_owned());
        let copied = Command::new("cp").arg("-r").arg(self.archive_dir()).args(journal).arg(&kept).status();
        println!("the archive is kept in {} ({copied:?})", kept.display());
    }
}
