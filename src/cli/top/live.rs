//! The loop of the screen: events update the model, and the model is drawn on the terminal.

use std::io;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::terminal::{Keys, Screen};
use top::fetch::Question;
use top::model::{Input, Model, Next, Snapshot};

/// The screen is updated at this interval even without new responses, because it shows ages in seconds.
const CLOCK: Duration = Duration::from_secs(1);

/// Shows the daemon until the user or a signal ends it.
pub(super) async fn show(question: Question, every: Duration) -> anyhow::Result<()> {
    let mut signals = Signals::catch().context("cannot catch signals")?;
    let mut screen = Screen::open().context("cannot use the terminal")?;
    let mut keys = Keys::listen().context("cannot read keys")?;
    let started = Instant::now();
    let mut clock = interval(CLOCK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut model = Model::new(question.url.to_string(), every, screen.size()?);
    let mut answer = pin!(ask(&question, Duration::ZERO));
    loop {
        model.step(Input::Now(started.elapsed()));
        model.step(Input::Size(screen.size()?));
        screen.draw(&model).context("cannot draw on the terminal")?;
        let input = tokio::select! {
            () = signals.next() => return Ok(()),
            key = keys.next() => match key.context("cannot read keys")? {
                Some(key) => Input::Key(key),
                None => continue,
            },
            answered = &mut answer => {
                answer.set(ask(&question, every));
                match answered {
                    Ok(snapshot) => Input::Known(Box::new(snapshot)),
                    Err(why) => Input::Trouble(why),
                }
            }
            _ = clock.tick() => continue,
        };
        model.step(Input::Now(started.elapsed()));
        if model.step(input) == Next::Quit {
            return Ok(());
        }
    }
}

async fn ask(question: &Question, after: Duration) -> Result<Snapshot, String> {
    sleep(after).await;
    question.ask().await
}

/// The signals that end the command. If they were not caught, the terminal would stay in screen mode.
struct Signals([Signal; 3]);

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self([
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    /// Waits for one of the signals. Cancel safe.
    async fn next(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
