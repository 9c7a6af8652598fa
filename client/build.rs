//! Compiles the protocol in pure Rust, without `protoc`.

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=../proto");
    let protocol = protox::compile(["turret/v1/turret.proto"], ["../proto"])?;
    // The client's side. `Bytes` fields share a picture's buffer, so a retry does not copy it.
    tonic_prost_build::configure().bytes(".").build_server(false).compile_fds(protocol.clone())?;
    // The server's side, for the tests only; it uses the library's messages.
    let tests = PathBuf::from(env::var("OUT_DIR")?).join("fake_server");
    fs::create_dir_all(&tests)?;
    tonic_prost_build::configure()
        .build_client(false)
        .extern_path(".turret.v1", "::turret_client::proto")
        .out_dir(tests)
        .compile_fds(protocol)?;
    Ok(())
}
