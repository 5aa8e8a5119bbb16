//! The protocol's messages, clients and servers, made from `proto/filer.proto` by the build.
//!
//! What each means is said there, and so is what the reference has and we do not. Names and numbers
//! are the reference's; whoever speaks to the door from Rust, as the tests do, takes the client from
//! here. Nothing is written here by hand, so nothing is checked here either.
#![allow(missing_docs, rust_2018_idioms, clippy::all, clippy::pedantic)]

tonic::include_proto!("filer_pb");
