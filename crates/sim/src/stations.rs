//! Ground stations with plausible names.

/// Sites of real ground station networks.
const SITES: [&str; 12] = [
    "SVALBARD",
    "TROLL",
    "KIRUNA",
    "INUVIK",
    "FAIRBANKS",
    "PUNTA-ARENAS",
    "HARTEBEESTHOEK",
    "DONGARA",
    "AWARUA",
    "SINGAPORE",
    "MASPALOMAS",
    "WALLOPS",
];

/// Name of station `index`; beyond the known sites `STATION-13` and so on.
#[must_use]
pub fn station_name(index: u32) -> String {
    usize::try_from(index)
        .ok()
        .and_then(|index| SITES.get(index))
        .map_or_else(|| format!("STATION-{:02}", u64::from(index) + 1), |site| (*site).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stations_have_distinct_names() {
        let names: std::collections::HashSet<_> = (0..30).map(station_name).collect();
        assert_eq!(names.len(), 30);
        assert_eq!(station_name(12), "STATION-13");
    }
}
