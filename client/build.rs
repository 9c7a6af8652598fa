//! Compiles the protocol in pure Rust, without `protoc`.

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=../proto");
    let protocol = protox::compile(["turret/v1/turret.proto"], ["../proto"])?;
    // The client's side. `Bytes` fields keep a picture's buffer: a retry does not copy it.
    tonic_prost_build::configure().bytes(".").build_server(false).compile_fds(protocol.clone())?;
    // The server's side. Only the tests include this file; its messages are those of the library.
    let tests = PathBuf::from(env::var("OUT_DIR")?).join("fake_server");
    fs::create_dir_all(&tests)?;
    tonic_prost_build::configure()
        .build_client(false)
        .extern_path(".turret.v1", "::turret_client::proto")
        .out_dir(tests)
        .compile_fds(protocol)?;
    Ok(())
}
