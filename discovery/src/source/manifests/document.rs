// SPDX-License-Identifier: Apache-2.0
//! The text of a manifest → objects, or what is wrong with it: file, document, line, object, field.
//!
//! A file is good as a whole or not at all. Required fields are checked by name, because the Kubernetes types fill what
//! is missing with empty values. Kinds that are not ours are ignored in silence; an apiVersion that is not ours on a kind
//! that is, is a fault, because the author expects it to be read.
//!
//! Deliberately not here: what the values mean ([`crate::objects`]).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::catalog::{Kind, Object, ObjectId, Objects};
use crate::fault::{Fault, FaultKind};
use crate::objects::key_of;
use crate::source::{ObjectKey, PodLabels};

mod locate;
mod split;

use self::locate::{Path, line_of};
use self::split::{Document, split};

/// Reads a file's bytes. `file` is its name, for messages.
pub(super) fn read(file: &str, bytes: &[u8]) -> Result<Objects, Vec<Fault>> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let what = format!("file {file}: byte {} is not UTF-8; it is not a text file", error.valid_up_to());
        vec![Fault::new(FaultKind::Syntax, what)]
    })?;
    let mut found = Found { file, objects: Objects::new(), faults: Vec::new() };
    let mut documents = 0;
    for document in split(text) {
        match parse(&document) {
            Ok(Value::Null) => {}
            Ok(value) => {
                documents += 1;
                found.object(&document, value, &Path::default());
            }
            Err((line, reason)) => {
                documents += 1;
                let what = format!("file {file}, document {}, line {line}: {reason}", document.number);
                found.faults.push(Fault::new(FaultKind::Syntax, what));
            }
        }
    }
    if documents == 0 {
        let what = format!("file {file}: holds no object; remove the file to remove the objects it held");
        found.faults.push(Fault::new(FaultKind::Syntax, what));
    }
    if found.faults.is_empty() { Ok(found.objects) } else { Err(found.faults) }
}

/// YAML, of which JSON is a part. The error has the line in the file.
fn parse(document: &Document<'_>) -> Result<Value, (u64, String)> {
    serde_saphyr::from_str_with_options(document.text, locate::options()).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        (document.line + line.saturating_sub(1), format!("not YAML: {}", locate::reason(&error)))
    })
}

struct Found<'a> {
    file: &'a str,
    objects: Objects,
    faults: Vec<Fault>,
}

impl Found<'_> {
    fn object(&mut self, document: &Document<'_>, value: Value, at: &Path) {
        let Some(kind) = value.get("kind").and_then(Value::as_str).filter(|kind| !kind.is_empty()) else {
            return self.fault(document, "object", &at.field("kind"), "is missing or not a string");
        };
        let Some(version) = value.get("apiVersion").and_then(Value::as_str).map(str::to_owned) else {
            return self.fault(document, kind, &at.field("apiVersion"), "is missing or not a string");
        };
        let ours = match kind {
            "List" | "ServiceList" | "EndpointSliceList" | "NodeList" | "PodList" => {
                return self.list(document, value, at);
            }
            "Service" => (Kind::Service, "v1"),
            "Node" => (Kind::Node, "v1"),
            "Pod" => (Kind::Pod, "v1"),
            "EndpointSlice" => (Kind::Slice, "discovery.k8s.io/v1"),
            _ => return,
        };
        if version != ours.1 {
            let name = title(ours.0, &value);
            let what = format!("{version:?} is not known for this kind; allowed: {}", ours.1);
            return self.fault(document, &name, &at.field("apiVersion"), &what);
        }
        self.known(document, ours.0, value, at);
    }

    fn list(&mut self, document: &Document<'_>, mut value: Value, at: &Path) {
        let items_at = at.field("items");
        match value.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => {
                for (index, item) in items.into_iter().enumerate() {
                    self.object(document, item, &items_at.index(index));
                }
            }
            Some(Value::Null) => {}
            _ => self.fault(document, "List", &items_at, "is missing or not a list"),
        }
    }

    fn known(&mut self, document: &Document<'_>, kind: Kind, value: Value, at: &Path) {
        let name = title(kind, &value);
        let missing = missing_fields(kind, &value, at);
        if !missing.is_empty() {
            for (field, what) in missing {
                self.fault(document, &name, &field, what);
            }
            return;
        }
        let object = match kind {
            Kind::Node => typed(value, at).map(|node| Object::Node(Box::new(node))),
            Kind::Pod => pod(value, at).map(|pod| Object::Pod(Box::new(pod))),
            Kind::Slice => typed(value, at).map(|slice| Object::Slice(Box::new(slice))),
            Kind::Service => typed(value, at).map(|service| Object::Service(Box::new(service))),
        };
        match object {
            Err((field, reason)) => self.fault(document, &name, &field, &reason),
            Ok(object) => {
                let id = ObjectId { kind, key: key(&object) };
                if self.objects.insert(id, object).is_some() {
                    let what = "is in this file twice; remove one";
                    self.fault(document, &name, &at.field("metadata").field("name"), what);
                }
            }
        }
    }

    fn fault(&mut self, document: &Document<'_>, object: &str, field: &Path, what: &str) {
        let line = document.line + line_of(document.text, field) - 1;
        let (file, number) = (self.file, document.number);
        let message = format!("file {file}, document {number}, line {line}: {object}: {field}: {what}");
        self.faults.push(Fault::new(FaultKind::Field, message));
    }
}

/// Kind, namespace and name as far as they can be told.
fn title(kind: Kind, value: &Value) -> String {
    let text = |field: &str| value.pointer(field).and_then(Value::as_str).unwrap_or_default();
    let name = match text("/metadata/name") {
        "" => "without name",
        name => name,
    };
    let namespace = match (kind, text("/metadata/namespace")) {
        (Kind::Node, _) => "",
        (_, "") => "default",
        (_, namespace) => namespace,
    };
    format!("{} {}", kind.as_str(), ObjectKey::new(namespace, name))
}

fn key(object: &Object) -> ObjectKey {
    match object {
        Object::Node(node) => ObjectKey::new("", node.metadata.name.clone().unwrap_or_default()),
        Object::Pod(pod) => pod.key.clone(),
        Object::Slice(slice) => key_of(&slice.metadata),
        Object::Service(service) => key_of(&service.metadata),
    }
}

/// What the API server would refuse and the Kubernetes types would silently fill in.
fn missing_fields(kind: Kind, value: &Value, at: &Path) -> Vec<(Path, &'static str)> {
    const MISSING: &str = "is missing";
    let mut missing = Vec::new();
    if value.pointer("/metadata/name").and_then(Value::as_str).is_none_or(str::is_empty) {
        missing.push((at.field("metadata").field("name"), MISSING));
    }
    let list =
        |pointer: &str| value.pointer(pointer).and_then(Value::as_array).into_iter().flatten().enumerate();
    match kind {
        Kind::Node | Kind::Pod => {}
        Kind::Service => {
            if value.get("spec").is_none_or(Value::is_null) {
                missing.push((at.field("spec"), MISSING));
            }
            for (index, port) in list("/spec/ports") {
                if port.get("port").is_none_or(Value::is_null) {
                    missing.push((at.field("spec").field("ports").index(index).field("port"), MISSING));
                }
            }
        }
        Kind::Slice => {
            if value.get("addressType").is_none_or(Value::is_null) {
                missing.push((at.field("addressType"), "is missing; allowed: IPv4, IPv6"));
            }
            for (index, endpoint) in list("/endpoints") {
                let field = || at.field("endpoints").index(index).field("addresses");
                match endpoint.get("addresses") {
                    None | Some(Value::Null) => missing.push((field(), MISSING)),
                    Some(Value::Array(addresses)) if addresses.is_empty() => {
                        missing.push((field(), "is empty; an endpoint needs an address"));
                    }
                    Some(_) => {}
                }
            }
        }
    }
    missing
}

/// Of a Pod only the labels matter, so nothing else of it can be at fault.
fn pod(mut value: Value, at: &Path) -> Result<PodLabels, (Path, String)> {
    let metadata = value.get_mut("metadata").map(Value::take).unwrap_or_default();
    let metadata: ObjectMeta = typed(metadata, &at.field("metadata"))?;
    Ok(PodLabels { key: key_of(&metadata), labels: metadata.labels.unwrap_or_default() })
}

fn typed<T: DeserializeOwned>(value: Value, at: &Path) -> Result<T, (Path, String)> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| (at.join(error.path()), error.inner().to_string()))
}

#[cfg(test)]
mod tests;
