// SPDX-License-Identifier: Apache-2.0
//! Tier 1: the checked-in code is what the `.proto` files say.
//!
//! After a change of a `.proto` file: `EVENKEEL_BLESS=1 cargo test -p evenkeel-proto`.

use std::{fs, path::Path};

use prost::Message as _;

const SOURCES: [&str; 3] = ["discovery.proto", "admin.proto", "discovery_admin.proto"];

#[test]
fn the_generated_code_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().unwrap();
    let files = protox::compile(SOURCES.map(|f| root.join(f)), [root]).unwrap();
    let descriptors = out.path().join("descriptors");
    fs::write(&descriptors, files.encode_to_vec()).unwrap();
    tonic_prost_build::configure()
        .out_dir(out.path())
        // The CLI prints these messages as JSON; field names are then those of the `.proto` file.
        .type_attribute(".evenkeel.admin.v1", "#[derive(::serde::Serialize)]")
        .type_attribute(".evenkeel.discovery.admin.v1", "#[derive(::serde::Serialize)]")
        .file_descriptor_set_path(&descriptors)
        .skip_protoc_run()
        .compile_protos(&SOURCES, &["."])
        .unwrap();
    for name in ["evenkeel.discovery.v1.rs", "evenkeel.admin.v1.rs", "evenkeel.discovery.admin.v1.rs"] {
        let fresh = fs::read_to_string(out.path().join(name)).unwrap();
        let checked_in = root.join("src/gen").join(name);
        if std::env::var_os("EVENKEEL_BLESS").is_some() {
            fs::write(&checked_in, &fresh).unwrap();
        }
        let held = fs::read_to_string(&checked_in).unwrap_or_default();
        assert!(held == fresh, "{} is out of date: run with EVENKEEL_BLESS=1", checked_in.display());
    }
}
