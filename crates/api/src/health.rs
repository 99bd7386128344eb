//! `/healthz` and `/readyz`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Service;

/// The answer of a daemon that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// The name of this daemon.
    pub service: Service,
    /// Always `ok`.
    pub status: HealthStatus,
}

/// The state of a daemon that answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// The daemon answers.
    #[default]
    Ok,
}

/// Whether the daemon accepts all data that clients offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// Whether it accepts everything.
    pub ready: bool,
    /// The reasons why it does not. Empty when it does.
    pub reasons: Vec<String>,
    /// What is late without hindering the intake: outputs that are further behind than their `lag_max`. It leaves `ready`
    /// and the status alone.
    #[serde(default)]
    #[schema(required)]
    pub degraded: Vec<String>,
    /// The name of this daemon.
    pub service: Service,
}
