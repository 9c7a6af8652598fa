//! Tells the program where libtorch lies: torch-sys links it but leaves the run path to the crate of the binary.

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    if let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) {
        // libtorch finds its own libraries relative to its real place, so links are resolved.
        let lib = fs::canonicalize(&lib).unwrap_or(lib);
        println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
    }
}
