//! The switchboard with links that only wait.

use std::time::Duration;

use super::*;
use actor::Received;
use config::{Link, RecordingOptions};

/// Links that run until they are ordered to end or the daemon drains. A link with `max_gap` fails.
struct Waiting {
    draining: watch::Receiver<bool>,
}

#[derive(Default)]
struct Counted(Mutex<Report>);

#[derive(Clone, Debug, Default, PartialEq)]
struct Report {
    name: String,
    starts: usize,
    /// The configurations so far.
    configs: usize,
    is_running: bool,
    failure: Option<String>,
}

impl Counted {
    fn change(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.0.lock().unwrap());
    }
}

impl Status<Link, Report> for Counted {
    fn reconfigured(&self) {
        self.change(|report| report.configs += 1);
    }

    fn stopped(&self, failure: Option<String>) {
        self.change(|report| (report.is_running, report.failure) = (false, failure));
    }

    fn report(&self, config: &Link, _: Range<usize>) -> Report {
        Report { name: config.name.clone(), ..self.0.lock().unwrap().clone() }
    }
}

impl Kind for Waiting {
    const NAME: &'static str = "link";
    type Config = Link;
    type Status = Counted;
    type Report = Report;

    /// A change of the data directory restarts all links.
    fn configured<'a>(before: &Config, after: &'a Config) -> Vec<Configured<'a, Link>> {
        let configured = |config: &'a Link| Configured {
            name: &config.name,
            config,
            is_enabled: config.enabled,
            must_restart: before.data_dir != after.data_dir,
        };
        after.links.iter().map(configured).collect()
    }

    async fn run(self: Arc<Self>, config: Arc<Link>, status: Arc<Counted>, mut mailbox: Mailbox<End>) {
        status.change(|report| {
            report.starts += 1;
            report.is_running = true;
        });
        assert_eq!(config.max_gap, None, "broken");
        let mut draining = self.draining.clone();
        tokio::select! {
            received = mailbox.recv() => assert_eq!(received, Some(Received::Message(End))),
            _ = draining.wait_for(|is_draining| *is_draining) => {}
        }
    }
}

fn link(name: &str) -> Link {
    let link = RecordingOptions::default().kind("framing", "packet").value("source", "1").read().unwrap();
    Link { name: name.to_owned(), ..link }
}

/// A switchboard and the daemon around it.
struct Daemon {
    config_tx: watch::Sender<Arc<Config>>,
    draining_tx: watch::Sender<bool>,
    links: Switchboard<Report>,
    _manager: ActorHandle,
}

impl Daemon {
    fn start(links: impl Into<Vec<Link>>) -> Self {
        let config = Config { links: links.into(), ..Config::default() };
        let (config_tx, config) = watch::channel(Arc::new(config));
        let (draining_tx, draining) = watch::channel(false);
        let (links, _manager) = Switchboard::start(Waiting { draining: draining.clone() }, config, draining);
        Self { config_tx, draining_tx, links, _manager }
    }

    fn reload(&self, links: impl Into<Vec<Link>>) {
        self.change(|config| config.links = links.into());
    }

    fn change(&self, change: impl FnOnce(&mut Config)) {
        self.config_tx.send_modify(|config| change(Arc::make_mut(config)));
    }

    fn reports(&self) -> Vec<Report> {
        self.links.list().reporters().iter().map(|link| link.report(0..0)).collect()
    }

    /// Waits until the links are as in `expected`: name, starts, and whether the link runs.
    async fn wait_for(&self, expected: &[(&str, usize, bool)]) {
        for _ in 0..1_000 {
            let reports = self.reports();
            let found = reports.iter().map(|report| (&*report.name, report.starts, report.is_running));
            if found.eq(expected.iter().copied()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("expected {expected:?}, found {:#?}", self.reports());
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_starts_new_links_ends_those_that_are_gone_and_restarts_those_that_changed() {
    let disabled = Link { enabled: false, ..link("off") };
    let daemon = Daemon::start([link("gone"), link("same"), disabled.clone(), link("changed")]);
    daemon.wait_for(&[("changed", 1, true), ("gone", 1, true), ("off", 0, false), ("same", 1, true)]).await;
    let changed = Link { drop_idle: true, ..link("changed") };
    daemon.reload([disabled.clone(), link("same"), link("new"), changed.clone()]);
    daemon.wait_for(&[("changed", 2, true), ("new", 1, true), ("off", 0, false), ("same", 1, true)]).await;
    let configs: Vec<_> = daemon.reports().iter().map(|report| report.configs).collect();
    assert_eq!(configs, [2, 1, 1, 1]);
    daemon.reload([link("same")]);
    daemon.wait_for(&[("same", 1, true)]).await;
    daemon.reload([link("same"), changed]);
    daemon.wait_for(&[("changed", 1, true), ("same", 1, true)]).await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_switches_links_until_their_configuration_changes() {
    let daemon = Daemon::start([link("a"), link("b")]);
    assert!(daemon.links.switch("a", false).await.unwrap());
    daemon.wait_for(&[("a", 1, false), ("b", 1, true)]).await;
    // A restart of all links leaves those alone that are off.
    daemon.change(|config| config.data_dir = "elsewhere".into());
    daemon.wait_for(&[("a", 1, false), ("b", 2, true)]).await;
    assert!(daemon.links.switch("a", true).await.unwrap());
    daemon.wait_for(&[("a", 2, true), ("b", 2, true)]).await;
    // One that is switched on while it ends starts again.
    assert!(daemon.links.switch("b", false).await.unwrap());
    assert!(daemon.links.switch("b", true).await.unwrap());
    daemon.wait_for(&[("a", 2, true), ("b", 3, true)]).await;
    assert!(daemon.links.switch("b", false).await.unwrap());
    daemon.reload([Link { drop_idle: true, ..link("b") }]);
    daemon.wait_for(&[("b", 4, true)]).await;
    assert!(!daemon.links.switch("a", true).await.unwrap(), "it is gone");
}

#[tokio::test(start_paused = true)]
async fn a_link_that_keeps_failing_stays_down_until_it_is_switched_on() {
    let broken = Link { max_gap: Some(1), ..link("broken") };
    let daemon = Daemon::start([broken.clone()]);
    daemon.wait_for(&[("broken", 11, false)]).await;
    // A reload of other links does not hide the failure.
    daemon.reload([broken, link("new")]);
    daemon.wait_for(&[("broken", 11, false), ("new", 1, true)]).await;
    let failure = daemon.reports()[0].failure.clone().unwrap();
    assert!(
        failure.contains("broken") && failure.ends_with("; switch the link on to try again"),
        "{failure}"
    );
    assert!(daemon.links.switch("broken", true).await.unwrap());
    daemon.wait_for(&[("broken", 22, false), ("new", 1, true)]).await;
}

#[tokio::test(start_paused = true)]
async fn in_a_drain_links_end_by_themselves_and_none_is_started() {
    let daemon = Daemon::start([link("a"), link("b")]);
    assert!(daemon.links.switch("b", false).await.unwrap());
    daemon.wait_for(&[("a", 1, true), ("b", 1, false)]).await;
    daemon.draining_tx.send_replace(true);
    daemon.reload([link("a"), link("b"), link("c")]);
    daemon.links.drain(Duration::from_secs(1)).await.unwrap();
    let starts: Vec<_> = daemon.reports().iter().map(|report| report.starts).collect();
    assert_eq!(starts.iter().sum::<usize>(), 2, "none was started");
    let error = daemon.links.switch("a", true).await.unwrap_err().to_string();
    assert!(error.starts_with("the links do not answer: "), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_all_links_at_once() {
    let daemon = Daemon::start([link("a"), link("b")]);
    daemon.wait_for(&[("a", 1, true), ("b", 1, true)]).await;
    daemon.links.stop().await;
    daemon.wait_for(&[("a", 1, false), ("b", 1, false)]).await;
}
