//! Compiles the protocol in pure Rust (no `protoc`) and the C and C++ files, and sets the run path
//! to libtorch.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    compile_protocol()?;
    compile_jpeg()?;
    if env::var_os("CARGO_FEATURE_TORCH").is_none() {
        return Ok(());
    }
    let libtorch = libtorch_folder();
    if let Some(lib) = &libtorch {
        compile_kernels(lib);
    }
    compile_cuda_graphs(libtorch.as_deref())?;
    set_run_path(libtorch);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a build script needs no crate for one write")]
fn compile_protocol() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["turret/v1/turret.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("turret_v1.bin"), prost::Message::encode_to_vec(&descriptors))?;
    // `Bytes` fields share the request's buffer, so an incoming picture is never copied.
    let messages = tonic_prost_build::configure().bytes(".").build_server(false);
    messages.compile_fds(descriptors.clone())?;
    // The services read their requests through the codec that checks them before it builds them.
    let services = out.join("services");
    fs::create_dir_all(&services)?;
    let mut server = tonic_prost_build::configure()
        .build_client(false)
        .out_dir(services)
        .codec_path("crate::grpc::Codec")
        .extern_path(".turret.v1", "crate::grpc::proto");
    for request in ["ClassifyRequest", "EmbedRequest", "ListHeadsRequest", "WatchHeadsRequest"] {
        let received = format!("crate::grpc::Received<crate::grpc::proto::{request}>");
        server = server.extern_path(format!(".turret.v1.{request}"), received);
    }
    server.compile_fds(descriptors)?;
    Ok(())
}

/// Compiles the caller of libjpeg-turbo and links the library.
fn compile_jpeg() -> Result<(), Box<dyn std::error::Error>> {
    const SOURCE: &str = "src/image/jpeg/libjpeg.c";
    println!("cargo::rerun-if-changed={SOURCE}");
    cc::Build::new().file(SOURCE).try_compile("turret_jpeg").map_err(|error| {
        format!(
            "cannot compile {SOURCE}; it needs libjpeg-turbo's headers (apt-get install \
             libjpeg-dev, or dnf install libjpeg-turbo-devel): {error}"
        )
    })?;
    println!("cargo::rustc-link-lib=jpeg");
    Ok(())
}

/// Returns the folder of libtorch's libraries, beside that of its headers.
///
/// Links are resolved, because libtorch finds its own libraries relative to its real path.
fn libtorch_folder() -> Option<PathBuf> {
    println!("cargo::rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let lib = PathBuf::from(env::var_os("DEP_TCH_LIBTORCH_LIB")?);
    Some(fs::canonicalize(&lib).unwrap_or(lib))
}

fn compile_kernels(lib: &Path) {
    const SOURCE: &str = "src/torch/kernels/dispatcher.cpp";
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-changed=src/torch/ffi_guard.h");
    against_libtorch(lib).file(SOURCE).compile("turret_kernels");
}

/// Returns a build with torch-sys's flags, because both share libtorch's types.
fn against_libtorch(lib: &Path) -> cc::Build {
    println!("cargo::rerun-if-env-changed=LIBTORCH_CXX11_ABI");
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    let include = lib.with_file_name("include");
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .warnings(false) // libtorch's headers have some
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str());
    build
}

/// Compiles the shared object that the program embeds, or an empty file without CUDA headers.
///
/// It can only be loaded beside libtorch_cuda.so, which is opened at run time. Without it CUDA runs
/// without graphs.
#[expect(clippy::disallowed_methods, reason = "a build script needs no crate for one write")]
fn compile_cuda_graphs(lib: Option<&Path>) -> Result<(), Box<dyn std::error::Error>> {
    const SOURCE: &str = "src/torch/cuda/graphs.cpp";
    println!("cargo::rerun-if-changed={SOURCE}");
    let object = PathBuf::from(env::var("OUT_DIR")?).join("cuda_graphs.so");
    let Some((lib, cuda)) = lib.and_then(|lib| Some((lib, cuda_headers(lib)?))) else {
        return Ok(fs::write(object, [])?);
    };
    let mut compiler =
        against_libtorch(lib).include(cuda).pic(true).debug(false).try_get_compiler()?.to_command();
    let status = compiler.arg("-shared").arg(SOURCE).arg("-o").arg(&object).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{SOURCE} does not compile: {status}").into())
    }
}

/// Finds the headers of the Python packages beside libtorch, of its version, or of a CUDA toolkit.
fn cuda_headers(lib: &Path) -> Option<PathBuf> {
    println!("cargo::rerun-if-env-changed=CUDA_HOME");
    let toolkit =
        env::var_os("CUDA_HOME").map_or_else(|| PathBuf::from("/usr/local/cuda"), PathBuf::from);
    let packages = lib.ancestors().nth(2)?.join("nvidia/cu13");
    let found = [packages, toolkit].map(|root| root.join("include")).into_iter().find(|include| {
        ["cuda_runtime_api.h", "crt/host_config.h"]
            .iter()
            .all(|header| include.join(header).is_file())
    });
    found.inspect(|include| println!("cargo::rerun-if-changed={}", include.display()))
}

/// Sets the run path, which torch-sys leaves to the binary's crate.
fn set_run_path(lib: Option<PathBuf>) {
    if let Some(lib) = lib {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
    }
    // In a container libtorch is beside the binary rather than where it was built.
    println!("cargo::rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib/torch/lib");
}
