//! Compiles the protocol in pure Rust (no `protoc`) and tells the binaries where libtorch lies.

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    compile_protocol()?;
    set_run_path();
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a build script needs no crate for one write")]
fn compile_protocol() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["turret/v1/turret.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("turret_v1.bin"), prost::Message::encode_to_vec(&descriptors))?;
    // `Bytes` fields share the request's buffer: a picture is never copied on its way in.
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}

/// torch-sys links libtorch but leaves the run path to the crate that makes the binary.
/// The path is resolved here because libtorch finds its own libraries relative to its real place.
fn set_run_path() {
    println!("cargo::rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    if let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB") {
        let lib = PathBuf::from(lib);
        let lib = fs::canonicalize(&lib).unwrap_or(lib);
        println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
    }
    // A container has libtorch beside the binary rather than where it was built.
    println!("cargo::rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib/torch/lib");
}
