// SPDX-License-Identifier: Apache-2.0
//! How a rejection is put into `error_detail`, and read from it.
//!
//! The protocol acknowledges or rejects a whole response, but a good client rejects per resource. The standard
//! `google.rpc.Status` has room for both: the message is for people and names every rejected resource, the details
//! carry one `envoy.service.discovery.v3.ResourceError` each for programs. A server that does not know the details
//! ignores them; a client that sends none (Envoy) is understood to have rejected the response as a whole.
//!
//! What must always be true: reasons are cut to [`REASON_MAX`] bytes on both ends, so that a peer cannot make the other
//! remember arbitrary amounts of text.
//! Deliberately not here: who remembers what was rejected.

use envoy_types::pb::{
    envoy::service::discovery::v3::{ResourceError, ResourceName},
    google::{
        protobuf::Any,
        rpc::{Code, Status},
    },
};
use prost::{Message, Name};

/// Longest reason that is kept or sent, in bytes.
pub const REASON_MAX: usize = 1024;

/// A status that names every rejected resource and why.
pub fn status<'a>(rejected: impl IntoIterator<Item = (&'a str, &'a str)>) -> Status {
    let mut details = Vec::new();
    let mut lines = Vec::new();
    for (name, reason) in rejected {
        let reason = cut(reason);
        lines.push(format!("{name}: {reason}"));
        details.push(detail(name, reason));
    }
    Status { code: Code::InvalidArgument.into(), message: lines.join("; "), details }
}

/// A status about a response as a whole.
pub fn whole(reason: &str) -> Status {
    Status { code: Code::InvalidArgument.into(), message: cut(reason).to_owned(), details: Vec::new() }
}

/// The per-resource part of a rejection: (name, reason). Empty if the client gave none.
pub fn per_resource(status: &Status) -> Vec<(String, String)> {
    let of_type = |any: &&Any| any.type_url == ResourceError::type_url();
    let read = |any: &Any| {
        let error = ResourceError::decode(&any.value[..]).ok()?;
        let reason = error.error_detail.map(|s| s.message).unwrap_or_default();
        Some((error.resource_name?.name, cut(&reason).to_owned()))
    };
    status.details.iter().filter(of_type).filter_map(read).collect()
}

/// At most [`REASON_MAX`] bytes of a text, cut at a character boundary.
pub fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(REASON_MAX)]
}

fn detail(name: &str, reason: &str) -> Any {
    let error = ResourceError {
        resource_name: Some(ResourceName { name: name.to_owned(), ..ResourceName::default() }),
        error_detail: Some(whole(reason)),
    };
    Any { type_url: ResourceError::type_url(), value: error.encode_to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_names_every_resource_and_reads_back() {
        let status = status([("demo/a", "no ports"), ("demo/b", "weight 0")]);
        assert_eq!(status.message, "demo/a: no ports; demo/b: weight 0");
        let expected =
            [("demo/a", "no ports"), ("demo/b", "weight 0")].map(|(n, r)| (n.to_owned(), r.to_owned()));
        assert_eq!(per_resource(&status), expected);
    }

    #[test]
    fn details_that_are_not_ours_are_ignored() {
        let mut status = whole("bad");
        status.details.push(Any { type_url: "type.googleapis.com/other".into(), value: vec![1, 2, 3] });
        status.details.push(Any { type_url: ResourceError::type_url(), value: vec![0xff; 9] });
        assert!(per_resource(&status).is_empty());
    }

    #[test]
    fn long_reasons_are_cut_between_characters() {
        let long = "é".repeat(REASON_MAX);
        assert_eq!(cut(&long).len(), REASON_MAX);
        assert!(cut(&format!("x{long}")).len() < REASON_MAX);
    }
}
