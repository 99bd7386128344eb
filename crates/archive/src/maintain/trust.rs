//! Decides whether the wall clock is safe for removing data by age. A state machine; the caller passes in the time.
//!
//! The boot-time clock never steps. While the wall clock agrees with it, the wall clock was not set. If the wall clock
//! is ahead of the newest time in the archive, an outage and a wrong clock look the same. Then agreement must last
//! longer.

use std::time::Duration;

use super::clock::Reading;

/// 2025-01-01T00:00:00Z. No archive existed before this moment. An earlier time comes from a clock that was not set.
pub(crate) const EPOCH_NS: i64 = 1_735_689_600 * NS_PER_S;
/// Maximum time in the future of a plausible receive time. A frame received later than that has the time of a wrong
/// clock.
const AHEAD_MAX_NS: i64 = 3_600 * NS_PER_S;
/// A difference above this limit counts as a step of the wall clock.
const STEP_MAX_NS: i128 = 60 * NS_PER_S as i128;
/// The wall clock leads the archive if it is ahead of the newest time by more than this limit.
const LEAD_MAX_NS: i128 = 3_600 * NS_PER_S as i128;
/// How long the clocks must agree before segments expire by age.
const AGREE_FOR: Duration = Duration::from_secs(3_600);
/// How long the clocks must agree if the wall clock leads the archive.
const AGREE_FOR_AHEAD: Duration = Duration::from_secs(24 * 3_600);
const NS_PER_S: i64 = 1_000_000_000;
/// Placeholder for the newest time of an archive whose newest time cannot be read. It is the lowest one, so that any
/// wall clock leads the archive, and the agreement must last longer.
pub(super) const UNREADABLE: i64 = i64::MIN;

/// Why no segment expires by age.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgeHold {
    /// Reason for operators, including what to do.
    pub reason: String,
    /// End of the hold in unix nanoseconds by the wall clock. `None` if it ends only when an operator sets the clock.
    pub until_ns: Option<i64>,
}

/// What maintenance knows about the wall clock.
pub(super) struct Trust {
    /// Wall clock minus boot-time clock since [`Self::since`], in nanoseconds.
    ahead_ns: i128,
    /// When the agreement of the clocks began, in boot-time clock time.
    since: Duration,
    /// Newest time of the archive at the start, in unix nanoseconds. `None` until it is found.
    newest_ns: Option<i64>,
    /// The last clock step: the expected wall time in unix nanoseconds, and the size of the step in nanoseconds.
    step: Option<(i64, i128)>,
    /// Whether an operator confirmed the clock.
    is_confirmed: bool,
}

impl Trust {
    pub(super) fn new(now: Reading) -> Self {
        Self { ahead_ns: ahead_ns(now), since: now.boot, newest_ns: None, step: None, is_confirmed: false }
    }

    /// Sets the newest time that the archive held at the start.
    pub(super) fn set_newest(&mut self, newest_ns: Option<i64>) {
        self.newest_ns = newest_ns;
    }

    /// Compares the clocks. If the wall clock was stepped, restarts the agreement and returns the step in nanoseconds.
    pub(super) fn compare(&mut self, now: Reading) -> Option<i128> {
        let step_ns = ahead_ns(now) - self.ahead_ns;
        if step_ns.abs() <= STEP_MAX_NS {
            return None;
        }
        let expected_ns = i64::try_from(i128::from(now.wall_ns) - step_ns).unwrap_or(i64::MIN);
        self.step = Some((expected_ns, step_ns));
        (self.ahead_ns, self.since, self.is_confirmed) = (ahead_ns(now), now.boot, false);
        Some(step_ns)
    }

    /// Records that an operator confirms the clock. This holds until the next clock step.
    pub(super) fn confirm(&mut self, now: Reading) {
        self.compare(now);
        self.is_confirmed = true;
    }

    /// Returns why the wall clock cannot be trusted for ages, or `None` if it can.
    pub(super) fn hold(&self, now: Reading) -> Option<AgeHold> {
        if let Err(hold) = check_confirmable(now.wall_ns) {
            return Some(hold);
        }
        let lead_ns = self.lead_ns();
        let agree_for = if lead_ns > LEAD_MAX_NS { AGREE_FOR_AHEAD } else { AGREE_FOR };
        let until = self.since + agree_for;
        if self.is_confirmed || now.boot >= until {
            return None;
        }
        let until_ns = i64::try_from(until.as_nanos() as i128 + self.ahead_ns).ok();
        Some(AgeHold { reason: self.reason(lead_ns), until_ns })
    }

    /// Returns how far the wall clock was ahead of the newest known time when the agreement began, in nanoseconds.
    fn lead_ns(&self) -> i128 {
        let expected_ns = self.step.map(|(expected_ns, _)| expected_ns).filter(|time| *time >= EPOCH_NS);
        let known_ns = expected_ns.max(self.newest_ns);
        let wall_ns = self.since.as_nanos() as i128 + self.ahead_ns;
        known_ns.map_or(0, |known_ns| wall_ns - i128::from(known_ns))
    }

    fn reason(&self, lead_ns: i128) -> String {
        let cause = match self.step {
            None => "the daemon has started".to_owned(),
            Some((_, step_ns)) => {
                format!("the wall clock was stepped by {} s", step_ns / i128::from(NS_PER_S))
            }
        };
        if lead_ns <= LEAD_MAX_NS {
            return format!("{cause}: the wall clock must agree with the boot-time clock for an hour");
        }
        let lead = if self.newest_ns == Some(UNREADABLE) && self.step.is_none() {
            "the newest frame of the archive cannot be read, so nothing says what time it was".to_owned()
        } else {
            let hours = lead_ns / (3_600 * i128::from(NS_PER_S));
            format!(
                "the wall clock is {hours} h ahead of the newest time known, after an outage or by a wrong setting"
            )
        };
        format!(
            "{cause}, and {lead}: it must agree with the boot-time clock for 24 h, or an operator confirms it \
             (POST /api/v1/archive/trust-clock)"
        )
    }
}

/// Checks whether an operator may confirm a clock that reads `wall_ns`.
///
/// # Errors
/// [`AgeHold`] if the clock was never set.
pub(crate) fn check_confirmable(wall_ns: i64) -> Result<(), AgeHold> {
    if wall_ns >= EPOCH_NS {
        return Ok(());
    }
    let reason = "the wall clock is before the year 2025, so it was never set: set it".to_owned();
    Err(AgeHold { reason, until_ns: None })
}

/// Whether `received_ns` is a possible receive time for a clock that reads `now_ns`.
pub(super) fn is_plausible(received_ns: i64, now_ns: i64) -> bool {
    (EPOCH_NS..=now_ns.saturating_add(AHEAD_MAX_NS)).contains(&received_ns)
}

fn ahead_ns(now: Reading) -> i128 {
    // The uptime of a host is far below the range of `i128`.
    i128::from(now.wall_ns) - now.boot.as_nanos() as i128
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// A reading `boot` after the start, with a wall clock that is off by `off_s` seconds.
    fn at(boot: Duration, off_s: i64) -> Reading {
        let right_ns = EPOCH_NS + 10_000_000 * NS_PER_S + boot.as_nanos() as i64;
        Reading { wall_ns: right_ns + off_s * NS_PER_S, boot: boot + HOUR }
    }

    /// Returns the first whole hour at which there is no hold.
    fn hours(trust: &mut Trust, from: u32, off_s: i64) -> u32 {
        let is_free = |hour: &u32| {
            let now = at(HOUR * *hour, off_s);
            trust.compare(now).is_none() && trust.hold(now).is_none()
        };
        (from..from + 100).find(is_free).unwrap()
    }

    #[test]
    fn agreement_takes_an_hour_and_a_day_where_the_clock_leads_the_archive() {
        let newest = at(Duration::ZERO, 0).wall_ns;
        for (off_s, expected) in [(0, 1), (3_600, 1), (3_601, 24), (60 * 86_400, 24), (-60 * 86_400, 1)] {
            let mut trust = Trust::new(at(Duration::ZERO, off_s));
            trust.set_newest(Some(newest));
            assert_eq!(hours(&mut trust, 0, off_s), expected, "off by {off_s} s");
            let now = at(HOUR, off_s);
            assert_eq!(trust.hold(now).is_some(), expected == 24);
        }
        let mut empty = Trust::new(at(Duration::ZERO, 60 * 86_400));
        assert_eq!(hours(&mut empty, 0, 60 * 86_400), 1, "nothing is there to be ahead of");
    }

    #[test]
    fn a_hold_says_until_when() {
        let start = at(Duration::ZERO, 0);
        let mut trust = Trust::new(start);
        assert_eq!(trust.hold(start).unwrap().until_ns, Some(at(HOUR, 0).wall_ns));
        trust.set_newest(Some(EPOCH_NS));
        let hold = trust.hold(start).unwrap();
        assert_eq!(hold.until_ns, Some(at(24 * HOUR, 0).wall_ns));
        assert!(hold.reason.contains("is 2777 h ahead of the newest time known"), "{}", hold.reason);
    }

    #[test]
    fn a_clock_step_restarts_the_agreement_and_a_large_one_takes_a_day() {
        for (off_s, expected) in [(61, 1), (-61, 1), (-86_400, 1), (3_601, 24), (60 * 86_400, 24)] {
            let mut trust = Trust::new(at(Duration::ZERO, 0));
            trust.set_newest(Some(at(Duration::ZERO, 0).wall_ns));
            assert_eq!(hours(&mut trust, 0, 0), 1);
            assert_eq!(trust.compare(at(10 * HOUR, 60)), None, "a minute is no step");
            let step = trust.compare(at(10 * HOUR, off_s)).unwrap();
            assert_eq!(step, i128::from(off_s * NS_PER_S));
            assert_eq!(hours(&mut trust, 10, off_s), 10 + expected, "off by {off_s} s");
        }
    }

    #[test]
    fn a_clock_that_was_never_set_holds_for_ever_and_is_trusted_an_hour_after_it_was_set() {
        let unset = |boot: Duration| Reading { wall_ns: boot.as_nanos() as i64, boot: boot + HOUR };
        let mut trust = Trust::new(unset(Duration::ZERO));
        trust.set_newest(Some(at(Duration::ZERO, 0).wall_ns));
        let now = unset(1_000 * HOUR);
        assert_eq!(trust.compare(now), None);
        assert_eq!(trust.hold(now).unwrap().until_ns, None);
        trust.confirm(now);
        assert!(trust.hold(now).is_some(), "no word makes 1970 right");
        let set = Reading { boot: now.boot, ..at(HOUR, 0) };
        assert!(trust.compare(set).is_some());
        let later =
            Reading { wall_ns: set.wall_ns + AGREE_FOR.as_nanos() as i64, boot: set.boot + AGREE_FOR };
        assert!(trust.hold(set).is_some());
        assert_eq!(trust.hold(later), None, "the archive's newest time says that it is right");
    }

    #[test]
    fn a_confirmation_holds_until_the_next_clock_step() {
        let start = at(Duration::ZERO, 60 * 86_400);
        let mut trust = Trust::new(start);
        trust.set_newest(Some(EPOCH_NS));
        trust.confirm(start);
        assert_eq!(trust.hold(start), None);
        trust.compare(at(HOUR, 0)).unwrap();
        assert!(trust.hold(at(HOUR, 0)).is_some());
        assert_eq!(hours(&mut trust, 1, 0), 2);
    }

    #[test]
    fn times_before_the_epoch_and_far_beyond_now_are_implausible() {
        let now_ns = at(Duration::ZERO, 0).wall_ns;
        for (time, expected) in [
            (0, false),
            (EPOCH_NS - 1, false),
            (EPOCH_NS, true),
            (now_ns + AHEAD_MAX_NS, true),
            (now_ns + AHEAD_MAX_NS + 1, false),
            (i64::MAX, false),
        ] {
            assert_eq!(is_plausible(time, now_ns), expected, "{time}");
        }
    }
}
