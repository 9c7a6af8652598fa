//! Compiles the protocol in pure Rust (no `protoc`) and the one C++ file, and tells the binaries where libtorch lies.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    compile_protocol()?;
    let libtorch = libtorch_folder();
    if let Some(lib) = &libtorch {
        compile_kernels(lib);
    }
    set_run_path(libtorch);
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

/// Where libtorch's libraries lie; its headers lie beside them. Without links, because libtorch finds its own libraries
/// relative to its real place.
fn libtorch_folder() -> Option<PathBuf> {
    println!("cargo::rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let lib = PathBuf::from(env::var_os("DEP_TCH_LIBTORCH_LIB")?);
    Some(fs::canonicalize(&lib).unwrap_or(lib))
}

/// With torch-sys's flags, because both share libtorch's types.
fn compile_kernels(lib: &Path) {
    const SOURCE: &str = "src/base/kernels/dispatcher.cpp";
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-env-changed=LIBTORCH_CXX11_ABI");
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    let include = lib.with_file_name("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false) // of libtorch's headers
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .file(SOURCE)
        .compile("turret_kernels");
}

/// torch-sys links libtorch but leaves the run path to the crate that makes the binary.
fn set_run_path(lib: Option<PathBuf>) {
    if let Some(lib) = lib {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
    }
    // A container has libtorch beside the binary rather than where it was built.
    println!("cargo::rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib/torch/lib");
}
