// SPDX-License-Identifier: Apache-2.0
//! Two images from the testbed's own binary: one whose containers are its subcommands (servers, clients, probes), and
//! the one that holds a pod's namespaces.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result};

use crate::binaries;
use evenkeel_oci::{Config, Files, Image, Layer};

/// Servers, clients and probes: the arguments of a container are a subcommand and its arguments.
pub const TESTBED: &str = "localhost/evenkeel-testbed:dev";
/// What holds a pod's namespaces.
pub(super) const PAUSE: &str = "localhost/evenkeel-pause:dev";
/// Where the binary is in both.
const PROGRAM: &str = "/usr/bin/evenkeel-testbed";

/// Writes the archive of both.
pub(super) fn write(path: &Path) -> Result<()> {
    let binary = binaries::find(binaries::TESTBED)?;
    let files = Files::new().folder("tmp", 0o1777);
    let files = evenkeel_oci::add_program(files, PROGRAM, &binary)?;
    let layer = Layer::new(files).context("pack the testbed's image")?;
    let image = |reference: &str, entrypoint: &[&str]| Image {
        reference: reference.into(),
        layers: vec![layer.clone()],
        config: Config {
            entrypoint: entrypoint.iter().map(|&word| word.into()).collect(),
            env: vec!["PATH=/usr/bin".into()],
            ..Config::default()
        },
    };
    let images = [image(TESTBED, &[PROGRAM]), image(PAUSE, &[PROGRAM, "pause"])];
    let out = File::create(path).with_context(|| format!("make {}", path.display()))?;
    evenkeel_oci::write(&images, std::env::consts::ARCH, BufWriter::new(out))
        .with_context(|| format!("write {}", path.display()))
}
