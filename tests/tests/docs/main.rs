//! What is written for users is true: links lead somewhere, fields, reasons, metrics and flags are those of the code.
//!
//! Reads the pages and the crates; starts nothing.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod chart;
mod flags;
mod guide;
mod links;
mod metrics;
mod pages;
