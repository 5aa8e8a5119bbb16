//! The doors: protocols that workloads reach the filer by.
//!
//! A door turns its protocol into one of the filer's verbs and the answer back. It holds no policy and
//! no state of its own, and maps the filer's errors in one table.

pub mod connections;
pub mod grpc;
pub mod http;

/// A directory's mode: Go's, whose directory bit is the topmost.
pub const DIRECTORY_MODE: u32 = (1 << 31) | 0o755;
/// A file's mode.
pub const FILE_MODE: u32 = 0o644;
