// SPDX-License-Identifier: Apache-2.0
//! What is wrong with a scenario, for a person: file, line, key, problem.

use std::{ops::Range, path::PathBuf};

use crate::trace::TraceError;

/// A scenario that cannot be run. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something in the file is wrong.
    #[error("{}:{line}: {}{problem}", file.display(), if key.is_empty() { String::new() } else { format!("{key}: ") })]
    Invalid {
        /// Which file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Path of the key, as `services[0].groups[1].speed`, counted from 0; empty for the file as a whole.
        key: String,
        /// What is wrong there, and where it helps what is possible instead.
        problem: String,
    },
    /// The trace that it names is wrong.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

/// A fault with its place, before file and line are known.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) span: Range<usize>,
    pub(super) problem: String,
}

impl Fault {
    pub(super) fn at(span: Range<usize>, problem: impl Into<String>) -> Self {
        Self { span, problem: problem.into() }
    }
}
