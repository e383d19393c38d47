// SPDX-License-Identifier: Apache-2.0
//! Container images as archives, written without a container engine. Used by `cargo xtask image` for the project's own
//! images and by the testbed for those that only tests need.
//!
//! | file | what it is |
//! |---|---|
//! | `archive` | files → layers → images → one archive; pure |
//! | `libraries` | the shared libraries that a program of this machine needs |
//! | `unpack` | the same files as a folder tree, for a Dockerfile |
//! | `project` | the project's own images |
//!
//! Deliberately not here: the images that only tests need.
#![forbid(unsafe_code)]

mod archive;
mod libraries;
pub mod project;
mod unpack;

pub use archive::{Config, Files, Image, Layer, write};
pub use libraries::{add_program, needed};
pub use unpack::unpack;
