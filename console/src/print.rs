// SPDX-License-Identifier: Apache-2.0
//! Answers onto standard output.

use std::io::{Write as _, stdout};

use serde::Serialize;

/// A message as JSON, with its field names, for people and for `jq`.
pub fn json(message: &impl Serialize) -> String {
    // Our messages are plain structs of numbers, strings and lists: nothing in them can fail to serialise.
    let mut text = serde_json::to_string_pretty(message).unwrap_or_default();
    text.push('\n');
    text
}

/// Prints. A reader that closed its end (`evenkeel services | head`) is no error.
pub fn print(text: &str) {
    let _ = stdout().lock().write_all(text.as_bytes());
}
