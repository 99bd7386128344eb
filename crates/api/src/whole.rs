//! Whole numbers in requests.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// The smallest number that is too large for a u64.
const U64_BOUND: f64 = 18_446_744_073_709_551_616.0;

/// A whole number. It may be written with a point, as in `7.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Whole<T>(pub T);

impl<'de, T: TryFrom<u64>> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        whole(deserializer).map(Self)
    }
}

/// Reads a whole number. `7.0` counts as 7, because JSON has only one kind of number.
pub(crate) fn whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<T, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let is_whole = |float: &f64| float.fract() == 0.0 && (0.0..U64_BOUND).contains(float);
    let float = number.as_f64().filter(is_whole);
    let found = number.as_u64().or(float.map(|float| float as u64));
    let found = found.and_then(|found| T::try_from(found).ok());
    found.ok_or_else(|| D::Error::custom(format_args!("{number} is not a whole number in its range")))
}
