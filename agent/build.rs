// SPDX-License-Identifier: Apache-2.0
//! Puts the compiled kernel programs where `kernel::loader` embeds them from.
//!
//! They come from `EVENKEEL_EBPF_OBJECT`, else from `target/ebpf/evenkeel.o` of the workspace, wherever cargo's own target
//! directory is: `cargo xtask ebpf` writes them there. Without them the crate builds all the same, so that everything
//! that needs no kernel can be worked on; the loader then says what is missing.

use std::{env, fs, path::PathBuf};

const VARIABLE: &str = "EVENKEEL_EBPF_OBJECT";

fn main() {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let object = match env::var_os(VARIABLE) {
        Some(path) => PathBuf::from(path),
        None => manifest.join("../target/ebpf/evenkeel.o"),
    };
    // A path that does not exist counts as changed, so that the object is picked up once it is built.
    println!("cargo::rerun-if-changed={}", object.display());
    let bytes = fs::read(&object).unwrap_or_else(|error| {
        println!(
            "cargo::warning=no kernel programs at {}: {error}; run `cargo xtask ebpf` (or build all with `cargo xtask build`)",
            object.display()
        );
        Vec::new()
    });
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("evenkeel.o");
    fs::write(&out, bytes).expect("OUT_DIR is writable");
}
