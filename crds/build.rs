//! Turns `proto/control.proto` into Rust, where the feature `control` asks for it.
//!
//! The compiler of the proto file is a crate, so a build needs no `protoc` on the machine. What is made
//! opens no connection of its own: each end brings its transport.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/control.proto");
    #[cfg(feature = "control")]
    {
        let described = protox::compile(["proto/control.proto"], ["proto"])?;
        tonic_prost_build::configure()
            .build_client(true)
            .build_transport(false)
            .codec_path("crate::control::codec::SmallBuffers")
            .compile_fds(described)?;
    }
    Ok(())
}
