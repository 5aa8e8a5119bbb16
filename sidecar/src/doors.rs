//! The doors: protocols that workloads reach the filer by.
//!
//! A door turns its protocol into one of the filer's verbs and the answer back. It holds no policy and
//! no state of its own, and maps the filer's errors in one table.

pub mod http;
