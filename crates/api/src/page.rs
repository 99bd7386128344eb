//! Which page of a list is asked for.

use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

/// Which links or outputs are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// How many of them come before this page.
    #[param(nullable = false)]
    pub offset: Option<usize>,
    /// At most this many on the page.
    #[param(nullable = false, minimum = 1, maximum = 64, default = 64)]
    pub limit: Option<usize>,
}

/// Which channels of a link, or which readers of an output, are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct PartsQuery {
    /// How many of them come before this page.
    #[param(nullable = false)]
    pub offset: Option<usize>,
    /// At most this many on the page.
    #[param(nullable = false, minimum = 1, maximum = 1000, default = 1000)]
    pub limit: Option<usize>,
}
