//! Turns `proto/filer.proto` into Rust.
//!
//! The compiler of the proto file is a crate, so a build needs no `protoc` on the machine. Clients are
//! made as well: the tests speak to the door by them.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/filer.proto");
    let described = protox::compile(["proto/filer.proto"], ["proto"])?;
    tonic_prost_build::configure().build_client(true).build_transport(false).compile_fds(described)?;
    Ok(())
}
