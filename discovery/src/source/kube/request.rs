// SPDX-License-Identifier: Apache-2.0
//! The paths and queries by which objects are listed and watched. Pure.
//!
//! Source: <https://kubernetes.io/docs/reference/using-api/api-concepts/>. An initial list is asked for without a
//! version, which means a consistent read: after a restart nothing older than what was served before may come back.

use std::fmt::Write;
use std::time::Duration;

use super::kinds::Kind;

/// Asks for the metadata of each object and nothing else.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST_ONLY: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
/// Objects per page of a list, where lists cannot be streamed: a page of full slices is then some 10 MB.
const PAGE: u32 = 250;

/// Where a watch begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// With everything there is: a streaming list (KEP-3157).
    Everything,
    /// After this version.
    After(String),
}

/// The path of all objects of a kind, or of those in one namespace.
pub(super) fn path<K: Kind>(namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("{}/namespaces/{}/{}", K::API, escape(namespace), K::RESOURCE),
        None => format!("{}/{}", K::API, K::RESOURCE),
    }
}

/// What a list of this kind accepts.
pub(super) fn accept_list<K: Kind>() -> &'static str {
    if K::METADATA_ONLY { METADATA_LIST_ONLY } else { "application/json" }
}

/// What a watch of this kind accepts.
pub(super) fn accept_watch<K: Kind>() -> &'static str {
    if K::METADATA_ONLY { METADATA_ONLY } else { "application/json" }
}

/// A watch that the server is to end after `lifetime`.
pub(super) fn watch<K: Kind>(path: &str, start: &Start, lifetime: Duration) -> String {
    let seconds = lifetime.as_secs().max(1);
    let mut uri = format!("{path}?watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}");
    select::<K>(&mut uri);
    match start {
        Start::Everything => uri.push_str("&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"),
        Start::After(version) => pair(&mut uri, "resourceVersion", version),
    }
    uri
}

/// A page of a list; `next` is empty for the first one.
pub(super) fn list<K: Kind>(path: &str, next: &str) -> String {
    let mut uri = format!("{path}?limit={PAGE}");
    select::<K>(&mut uri);
    if !next.is_empty() {
        pair(&mut uri, "continue", next);
    }
    uri
}

fn select<K: Kind>(uri: &mut String) {
    if !K::SELECTOR.is_empty() {
        pair(uri, "labelSelector", K::SELECTOR);
    }
}

fn pair(uri: &mut String, key: &str, value: &str) {
    uri.push('&');
    uri.push_str(key);
    uri.push('=');
    uri.push_str(&escape(value));
}

/// Percent-encodes all but the unreserved characters (RFC 3986, section 2.3).
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::kinds::{Pods, Services, Slices};
    use super::*;

    #[test]
    fn a_streaming_list_has_no_version_and_a_watch_goes_on_after_one() {
        let minute = Duration::from_secs(60);
        assert_eq!(
            watch::<Services>(&path::<Services>(None), &Start::Everything, minute),
            "/api/v1/services?watch=true&allowWatchBookmarks=true&timeoutSeconds=60&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        );
        let uri = watch::<Slices>("/x", &Start::After("17".into()), minute);
        assert!(uri.ends_with("&labelSelector=kubernetes.io%2Fservice-name%2C%21service.kubernetes.io%2Fheadless&resourceVersion=17"), "{uri}");
    }

    #[test]
    fn a_namespace_and_a_continue_token_cannot_leave_their_place() {
        assert_eq!(path::<Pods>(Some("a/b")), "/api/v1/namespaces/a%2Fb/pods");
        assert_eq!(list::<Pods>("/x", "a&b="), "/x?limit=250&continue=a%26b%3D");
    }
}
