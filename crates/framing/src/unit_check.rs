//! Recognises a unit without its neighbours.

use std::fmt;

/// What recognises a unit that stands alone between other bytes. A framing that searches its units asks it while it has
/// no lock.
pub struct UnitCheck {
    /// Whether a block, without its marker, looks like a unit.
    accepts: Box<Accepts>,
    /// Whether what it accepts is a unit by that alone, as with a checksum.
    is_proof: bool,
}

type Accepts = dyn Fn(&[u8]) -> bool + Send;

impl UnitCheck {
    /// A check of a checksum. What it accepts is a unit.
    #[must_use]
    pub fn checksum(accepts: impl Fn(&[u8]) -> bool + Send + 'static) -> Self {
        Self { accepts: Box::new(accepts), is_proof: true }
    }

    /// A check of a header. What it accepts is a unit if another marker follows soon.
    #[must_use]
    pub fn header(accepts: impl Fn(&[u8]) -> bool + Send + 'static) -> Self {
        Self { accepts: Box::new(accepts), is_proof: false }
    }

    /// Whether `unit` is accepted. It comes without marker and check symbols, and is not randomised.
    pub(crate) fn accepts(&self, unit: &[u8]) -> bool {
        (self.accepts)(unit)
    }

    /// Whether the check alone decides.
    pub(crate) const fn is_proof(&self) -> bool {
        self.is_proof
    }
}

impl fmt::Debug for UnitCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnitCheck").field("is_proof", &self.is_proof).finish_non_exhaustive()
    }
}
