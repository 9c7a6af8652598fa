//! Sets the run path to libtorch: torch-sys links it but leaves the run path to the binary's crate.

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    if let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) {
        // Links are resolved, because libtorch finds its own libraries relative to its real path.
        let lib = fs::canonicalize(&lib).unwrap_or(lib);
        println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
    }
}
