// SPDX-License-Identifier: Apache-2.0
//! Discovery's resources into the model, strictly.
//!
//! What must always be true: what comes out can be used without a further check (addresses parse, ports and weights are not
//! zero, endpoints are distinct, priorities are contiguous), and an error names the resource, the path of the field, its
//! value and the rule that it breaks. The rules for endpoints are those that gRPC clients enforce (gRFC A27), so that an
//! assignment that is good here is good everywhere.
//! Deliberately not here: weights of localities, which only matter to clients that choose a locality first; discovery gives
//! every endpoint of a priority its own weight.

mod assignment;
mod service;

use std::fmt::Display;

pub use assignment::{METADATA_NAMESPACE, assignment};
pub use service::service;

/// Why a resource was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {name}: {path}: {value}; {rule}")]
pub struct DecodeError {
    /// Short name of the resource's type.
    pub kind: &'static str,
    /// The resource's name.
    pub name: String,
    /// Path of the field, as in the proto file, with indices.
    pub path: String,
    /// The field's value.
    pub value: String,
    /// The rule that it breaks.
    pub rule: String,
}

/// Names the resource in errors.
#[derive(Clone, Copy)]
struct Subject<'a> {
    kind: &'static str,
    name: &'a str,
}

impl Subject<'_> {
    fn error(&self, path: impl Into<String>, value: impl Display, rule: impl Into<String>) -> DecodeError {
        DecodeError {
            kind: self.kind,
            name: self.name.to_owned(),
            path: path.into(),
            value: value.to_string(),
            rule: rule.into(),
        }
    }

    fn decode<M: prost::Message + Default>(&self, body: &[u8]) -> Result<M, DecodeError> {
        M::decode(body)
            .map_err(|error| self.error("(message)", format!("{} bytes", body.len()), error.to_string()))
    }

    fn port(&self, path: &str, port: u32) -> Result<u16, DecodeError> {
        let number = u16::try_from(port).ok().filter(|port| *port != 0);
        number.ok_or_else(|| self.error(path, port, "must be from 1 to 65535"))
    }
}

#[cfg(test)]
mod tests;
