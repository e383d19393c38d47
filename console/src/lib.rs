// SPDX-License-Identifier: Apache-2.0
//! What the agent and discovery share of being asked by people.
//!
//! | file | what it is |
//! |---|---|
//! | `socket` | unix sockets for their owner only |
//! | `ask` | the client of an admin API, and what to say when it does not answer |
//! | `resolve` | what a person means by a name |
//! | `table` | what tables for people are made of |
//! | `bar` | bars and courses in one line of text |
//! | `print` | answers onto standard output |
//!
//! Always true: nothing here knows what is asked or answered; both processes speak to people in the same words.
//!
//! Deliberately not here: the questions and their messages (`evenkeel-proto` and each process' own `admin` and `cli`).
#![forbid(unsafe_code)]

pub mod ask;
mod bar;
mod print;
pub mod resolve;
pub mod socket;
pub mod table;

pub use bar::{bar, spark};
pub use print::{json, print};
