// SPDX-License-Identifier: Apache-2.0
//! Certificates as Kubernetes objects, and back. Pure.
//!
//! The server's Secret has the type and the keys that Kubernetes and cert-manager use (`kubernetes.io/tls`), so that one can
//! stand in for the other.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;

use super::authority::{Authority, Problem, ServerCertificate};

/// Marks what this command made. Objects without it are somebody else's.
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "evenkeel-certificates");
const TLS_TYPE: &str = "kubernetes.io/tls";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const CA: &str = "ca.crt";
const PREVIOUS: &str = "previous.crt";

/// Whether this command made it.
pub(super) fn is_ours(object: &impl Resource) -> bool {
    let labels = object.meta().labels.as_ref();
    labels.and_then(|labels| labels.get(MANAGED_BY.0)).is_some_and(|by| by == MANAGED_BY.1)
}

/// The Secret of an authority.
pub(super) fn of_authority(name: &str, authority: &Authority) -> Secret {
    let Authority { certificate, key, previous } = authority;
    let previous = previous.as_ref().map(|pem| (PREVIOUS, pem.as_str()));
    secret(name, [(CERTIFICATE, certificate.as_str()), (KEY, key)].into_iter().chain(previous))
}

/// The authority in a Secret.
pub(super) fn authority(secret: &Secret) -> Result<Authority, Problem> {
    let text = |key| text(secret, key);
    let authority = Authority {
        certificate: text(CERTIFICATE).ok_or(Problem::Missing)?,
        key: text(KEY).ok_or(Problem::Missing)?,
        previous: text(PREVIOUS),
    };
    authority.check().map(|()| authority)
}

/// The Secret of a server certificate.
pub(super) fn of_server_certificate(name: &str, server: &ServerCertificate, trusted: &str) -> Secret {
    let ServerCertificate { certificate, key } = server;
    secret(name, [(CERTIFICATE, certificate.as_str()), (KEY, key), (CA, trusted)])
}

/// The server certificate in a Secret, if both parts are there.
pub(super) fn server_certificate(secret: &Secret) -> Option<ServerCertificate> {
    Some(ServerCertificate { certificate: text(secret, CERTIFICATE)?, key: text(secret, KEY)? })
}

/// The ConfigMap of what clients trust.
pub(super) fn of_trusted(name: &str, trusted: &str) -> ConfigMap {
    let data = BTreeMap::from([(CA.to_owned(), trusted.to_owned())]);
    ConfigMap { metadata: metadata(name), data: Some(data), ..ConfigMap::default() }
}

/// What a ConfigMap says is trusted.
pub(super) fn trusted(config_map: &ConfigMap) -> Option<&str> {
    config_map.data.as_ref()?.get(CA).map(String::as_str)
}

fn secret<'a>(name: &str, data: impl IntoIterator<Item = (&'static str, &'a str)>) -> Secret {
    let data = data.into_iter().map(|(key, pem)| (key.to_owned(), ByteString(pem.as_bytes().to_vec())));
    Secret {
        metadata: metadata(name),
        type_: Some(TLS_TYPE.to_owned()),
        data: Some(data.collect()),
        ..Secret::default()
    }
}

fn metadata(name: &str) -> ObjectMeta {
    let labels = [
        ("app.kubernetes.io/name", "evenkeel"),
        ("app.kubernetes.io/component", "certificates"),
        ("app.kubernetes.io/part-of", "evenkeel"),
        MANAGED_BY,
    ];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    ObjectMeta { name: Some(name.to_owned()), labels: Some(labels.into()), ..ObjectMeta::default() }
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok()
}
