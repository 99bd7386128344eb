//! A value for each lane.

use std::ops::{Index, IndexMut};

use serde::{Deserialize, Serialize};

use super::FramePriority;

/// A value for each lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lanes<T> {
    /// Of the emergency lane: SAFE_MODE, ABORT.
    pub emergency: T,
    /// Of the routine lane: everything else.
    pub routine: T,
}

impl<T> Lanes<T> {
    /// Both values, the emergency lane's first.
    #[must_use]
    pub const fn new(emergency: T, routine: T) -> Self {
        Self { emergency, routine }
    }

    /// Calls `make` for each lane, the emergency lane first, and keeps the values.
    #[must_use]
    pub fn from_fn(mut make: impl FnMut(FramePriority) -> T) -> Self {
        Self { emergency: make(FramePriority::Emergency), routine: make(FramePriority::Routine) }
    }

    /// Applies `convert` to each value.
    #[must_use]
    pub fn map<U>(self, mut convert: impl FnMut(T) -> U) -> Lanes<U> {
        Lanes { emergency: convert(self.emergency), routine: convert(self.routine) }
    }

    /// References to both values.
    #[must_use]
    pub const fn each_ref(&self) -> Lanes<&T> {
        Lanes { emergency: &self.emergency, routine: &self.routine }
    }

    /// Each lane with its value, the emergency lane first.
    pub fn iter(&self) -> impl Iterator<Item = (FramePriority, &T)> {
        self.each_ref().into_iter()
    }

    /// Both values, the emergency lane's first.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        [&self.emergency, &self.routine].into_iter()
    }

    /// Both values, the emergency lane's first.
    pub fn into_values(self) -> impl Iterator<Item = T> {
        [self.emergency, self.routine].into_iter()
    }

    /// Both values, the emergency lane's first, to change.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        [&mut self.emergency, &mut self.routine].into_iter()
    }
}

impl<T: Clone> Lanes<T> {
    /// The same value for both lanes.
    #[must_use]
    pub fn both(value: T) -> Self {
        Self { emergency: value.clone(), routine: value }
    }
}

impl<T> Index<FramePriority> for Lanes<T> {
    type Output = T;

    #[inline]
    fn index(&self, priority: FramePriority) -> &T {
        match priority {
            FramePriority::Emergency => &self.emergency,
            FramePriority::Routine => &self.routine,
        }
    }
}

impl<T> IndexMut<FramePriority> for Lanes<T> {
    #[inline]
    fn index_mut(&mut self, priority: FramePriority) -> &mut T {
        match priority {
            FramePriority::Emergency => &mut self.emergency,
            FramePriority::Routine => &mut self.routine,
        }
    }
}

impl<T> From<[T; 2]> for Lanes<T> {
    /// The values in the order of [`FramePriority::ALL`].
    fn from([emergency, routine]: [T; 2]) -> Self {
        Self { emergency, routine }
    }
}

impl<T> From<Lanes<T>> for [T; 2] {
    /// The values in the order of [`FramePriority::ALL`].
    fn from(lanes: Lanes<T>) -> Self {
        [lanes.emergency, lanes.routine]
    }
}

impl<T> IntoIterator for Lanes<T> {
    type Item = (FramePriority, T);
    type IntoIter = std::array::IntoIter<(FramePriority, T), 2>;

    /// Each lane with its value, the emergency lane first.
    fn into_iter(self) -> Self::IntoIter {
        [(FramePriority::Emergency, self.emergency), (FramePriority::Routine, self.routine)].into_iter()
    }
}
