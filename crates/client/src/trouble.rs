//! Why a source has no connection.

use std::fmt;

/// The newest reason why a source lost its connection or got none, and the number of such events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    newest: String,
    count: u64,
}

impl Trouble {
    /// The newest reason; `None` without any.
    pub fn newest(&self) -> Option<&str> {
        (self.count > 0).then_some(&*self.newest)
    }

    /// Keeps `trouble` as the newest and counts it.
    pub fn note(&mut self, trouble: String) {
        self.newest = trouble;
        self.count += 1;
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            0 => f.write_str("no attempt"),
            1 => f.write_str(&self.newest),
            count => write!(f, "{}; {count} times in all", self.newest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_trouble_is_printed_with_the_count() {
        let mut trouble = Trouble::default();
        assert_eq!((trouble.newest(), trouble.to_string()), (None, "no attempt".to_owned()));
        trouble.note("busy".to_owned());
        assert_eq!(trouble.to_string(), "busy");
        trouble.note("refused".to_owned());
        assert_eq!(
            (trouble.newest(), trouble.to_string()),
            (Some("refused"), "refused; 2 times in all".to_owned())
        );
    }
}
