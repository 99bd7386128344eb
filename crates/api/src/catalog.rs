//! `/api/v1/catalog`: the orbital elements.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// In which form the catalog is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct CatalogQuery {
    /// `json` for the positions, `tle` for the text.
    #[param(value_type = CatalogFormat, required = false, inline)]
    pub format: Option<String>,
}

/// The form of a catalog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(default = "json")]
pub enum CatalogFormat {
    /// The positions.
    #[default]
    Json,
    /// The TLE text.
    Tle,
}

/// Where the satellites are at this moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Catalog {
    /// Version of the text. 0 without a catalog.
    pub version: u64,
    /// Satellites in the text.
    pub count: usize,
    /// Time of the positions. They are computed once in 5 s. Unix milliseconds.
    pub time_ms: i64,
    /// The positions, in the order of the text. Satellites whose positions cannot be computed are left out.
    pub sets: Vec<SubPoint>,
}

/// The point of the earth below a satellite (WGS 84).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SubPoint {
    /// Catalog number.
    pub norad_id: u64,
    /// Its name.
    pub name: String,
    /// Geodetic latitude. North is positive.
    #[schema(minimum = -90, maximum = 90)]
    pub latitude_deg: f64,
    /// Longitude. East is positive.
    #[schema(minimum = -180, maximum = 180)]
    pub longitude_deg: f64,
    /// Altitude above the ellipsoid.
    pub altitude_km: f64,
    /// Age of the elements. Negative before their epoch.
    pub elements_age_days: f64,
}

/// The catalog that a request has put in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CatalogPut {
    /// Satellites in the text.
    pub count: usize,
    /// Version of the text.
    pub version: u64,
}
