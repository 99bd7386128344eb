//! TLS 1.3 on every listener, certificates of clients, and their renewal.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod commands;
mod expiry;
mod handshake;
mod links;
mod openssl;
mod recipe;
mod renewal;
mod scene;
