//! Tests of whole streams, over all framings and formats.

mod cadus;
mod kiss;
mod lone_units;
mod recordings;
mod streams;

use bytes::Bytes;

use crate::{Counts, Deframer, Fault, Framing, Unit, UnitCheck};

/// Everything that a deframer makes of a stream that comes in `parts`.
#[derive(Debug, PartialEq)]
struct Cut {
    units: Vec<Unit>,
    /// What is wrong, and at which byte.
    error: Option<(Fault, u64)>,
    counts: Counts,
}

impl Cut {
    fn data(&self) -> Vec<Bytes> {
        self.units.iter().map(|unit| unit.data.clone()).collect()
    }
}

/// Cuts a stream that comes in `parts`, and checks the balance of the counts after each.
fn cut<'a>(framing: &Framing, parts: impl IntoIterator<Item = &'a [u8]>) -> Cut {
    cut_with(framing, None, parts)
}

/// As [`cut`], with a check that recognises units.
fn cut_with<'a>(
    framing: &Framing,
    check: Option<UnitCheck>,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Cut {
    let mut deframer = Deframer::with_check(framing, check);
    let (mut units, mut pushed) = (Vec::new(), 0);
    let balance = |deframer: &Deframer, pushed: usize| {
        let counts = deframer.counts();
        assert_eq!(counts.bytes + counts.skipped + deframer.pending() as u64, pushed as u64, "{counts:?}");
    };
    for part in parts {
        deframer.push(part);
        pushed += part.len();
        loop {
            match deframer.next_unit() {
                Ok(Some(unit)) => units.push(unit),
                Ok(None) => break,
                Err(error) => {
                    balance(&deframer, pushed);
                    return Cut {
                        units,
                        error: Some((error.fault, error.offset)),
                        counts: deframer.counts(),
                    };
                }
            }
        }
        balance(&deframer, pushed);
    }
    units.extend(std::iter::from_fn(|| deframer.finish()));
    balance(&deframer, pushed);
    assert_eq!(deframer.pending(), 0);
    let counts = deframer.counts();
    assert_eq!(counts.units, units.len() as u64);
    Cut { units, error: None, counts }
}
