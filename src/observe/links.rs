//! Makes the answers of `/api/v1/links` and `/api/v1/outputs`.

use super::Handles;
use crate::api::{Links, Outputs};

impl Handles {
    /// The input links now.
    #[must_use]
    pub fn links(&self) -> Links {
        let rates = self.rates.borrow().clone();
        let mut links = self.link_list.reports();
        for link in &mut links {
            let rate = rates.links.get(&link.name).copied().unwrap_or_default();
            (link.units_per_s, link.bytes_per_s) = (rate.units_per_s, rate.bytes_per_s);
        }
        Links { links }
    }

    /// The output links now.
    #[must_use]
    pub fn outputs(&self) -> Outputs {
        Outputs { outputs: self.output_list.reports() }
    }
}
