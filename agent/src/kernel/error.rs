// SPDX-License-Identifier: Apache-2.0
//! What can go wrong between the agent and the kernel, each with the operation and what to do about it.

use std::{io, path::PathBuf};

use super::{cgroup::CgroupError, probe::ProbeError};

/// An operation on the kernel failed. What was in force before is still in force.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The crate was compiled before the kernel programs were.
    #[error("this evenkeel was built without its kernel programs: build it with `cargo xtask build`")]
    NoObject,
    /// The node lacks something.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// No cgroup to attach to.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A file operation on the pins' folder or on the cgroup failed.
    #[error("cannot {operation} {path}: {source}", path = path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A bpf(2) call failed.
    #[error("cannot {operation} {object}: {source}")]
    Bpf {
        /// What was tried.
        operation: &'static str,
        /// On which program, link or map.
        object: String,
        /// Why not.
        source: io::Error,
    },
    /// The embedded object cannot be read.
    #[error(
        "the kernel programs in this evenkeel are damaged ({reason}): build it again with `cargo xtask build`"
    )]
    Object {
        /// What the parser says.
        reason: String,
    },
    /// The object was refused, or a map could not be made.
    #[error("cannot load the kernel programs: {}", chain(source))]
    Load {
        /// Why not.
        source: aya::EbpfError,
    },
    /// The verifier or the kernel refused a program.
    #[error("the kernel refuses program {program}: {}", chain(source))]
    Program {
        /// Its name.
        program: &'static str,
        /// Why not.
        source: aya::programs::ProgramError,
    },
    /// The object lacks a program or a map that this agent needs.
    #[error(
        "the kernel programs in this evenkeel lack {what} {name}: build it again with `cargo xtask build`"
    )]
    Lacks {
        /// "program" or "map".
        what: &'static str,
        /// Which.
        name: &'static str,
    },
    /// A pinned map has another shape than this agent's.
    #[error(
        "map {map} pinned in {pins} has {field} {pinned}, this evenkeel needs {wanted}: nothing was changed and what is \
         pinned stays in force; run `evenkeel detach` first, then start this version",
        pins = pins.display()
    )]
    Shape {
        /// Name of the map.
        map: String,
        /// Which property differs.
        field: &'static str,
        /// What is pinned.
        pinned: u64,
        /// What this agent needs.
        wanted: u64,
        /// Folder of the pins.
        pins: PathBuf,
    },
    /// The pinned maps were made for another version of the ABI.
    #[error(
        "the maps pinned in {pins} have ABI version {pinned} (map CONTROL, entry AbiVersion), this evenkeel needs {wanted}: \
         nothing was changed and what is pinned stays in force; run `evenkeel detach` first, then start this version",
        pins = pins.display()
    )]
    Abi {
        /// What is pinned.
        pinned: u64,
        /// What this agent needs.
        wanted: u64,
        /// Folder of the pins.
        pins: PathBuf,
    },
    /// An operation on a map failed.
    #[error("cannot {operation} map {map}: {}", chain(source))]
    Map {
        /// What was tried.
        operation: &'static str,
        /// Which map.
        map: &'static str,
        /// Why not.
        source: aya::maps::MapError,
    },
}

impl KernelError {
    /// For `map_err` on aya's map calls.
    pub(super) fn map(
        operation: &'static str,
        map: &'static str,
    ) -> impl FnOnce(aya::maps::MapError) -> Self {
        move |source| Self::Map { operation, map, source }
    }
}

/// aya's errors keep the reason in their sources; a user needs it in the line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
