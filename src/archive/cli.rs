//! The commands `archive ls`, `archive verify` and `archive cat`. They take no lock and work while the daemon runs.
