// SPDX-License-Identifier: Apache-2.0
//! What the API server sends, parsed leniently: lines of a watch, pages of a list, answers that are errors.
//!
//! Source: <https://kubernetes.io/docs/reference/using-api/api-concepts/> (watch events, bookmarks, streaming lists).
//! What must always be true: an object that cannot be read costs that object, named as far as it can be, and nothing
//! else. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::kinds::{Kind, Meta};
use crate::source::ObjectKey;

/// The annotation of the bookmark that ends a streaming list (KEP-3157).
const END_OF_LIST: &str = "k8s.io/initial-events-end";
/// How much of an error's text is kept.
const MAX_REASON: usize = 300;

/// One line of a watch.
pub(super) enum Line<K: Kind> {
    /// An object is there.
    Object(Object<K>),
    /// An object is gone.
    Deleted(ObjectKey, String),
    /// Nothing happened up to this version.
    Bookmark {
        /// From where to go on.
        version: String,
        /// All that existed has been sent.
        end_of_list: bool,
    },
    /// The server ends the watch with an error.
    Error(Refusal),
    /// Not a watch event at all.
    Garbage(String),
}

/// An object, if it can be read.
pub(super) enum Object<K: Kind> {
    /// As it should be.
    Good(K::Wire),
    /// It has a name, but the rest cannot be read.
    Bad {
        /// What could be read.
        meta: Box<Meta>,
        /// What is wrong.
        reason: String,
    },
}

/// A page of a list.
pub(super) struct Page<K: Kind> {
    /// Its objects; `Err`: not even a name.
    pub(super) objects: Vec<Result<Object<K>, String>>,
    /// From where to watch afterwards.
    pub(super) version: String,
    /// For the next page; empty: this was the last.
    pub(super) next: String,
}

/// An error that the server has told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// HTTP status.
    pub(super) code: u16,
    /// Its words.
    pub(super) message: String,
    /// When to ask again.
    pub(super) retry_after: Option<Duration>,
}

#[derive(Deserialize)]
struct WireLine<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct UsualLine<'a, W> {
    #[serde(rename = "type")]
    kind: &'a str,
    object: W,
}

#[derive(Deserialize)]
struct Envelope {
    metadata: Meta,
}

#[derive(Deserialize)]
struct WireBookmark {
    metadata: WireBookmarkMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireBookmarkMeta {
    resource_version: String,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct WireList<'a> {
    metadata: WireListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    next: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireStatus {
    code: u16,
    message: String,
    reason: String,
    details: Option<WireStatusDetails>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireStatusDetails {
    retry_after_seconds: u64,
}

/// Parses a line of a watch.
pub(super) fn line<K: Kind>(text: &[u8]) -> Line<K> {
    if let Some(wire) = read_usual::<K>(text) {
        return Line::Object(Object::Good(wire));
    }
    match read_line(text) {
        Ok(line) => line,
        Err(error) => Line::Garbage(error.to_string()),
    }
}

/// What nearly every line is: an object that is there and can be read. It is read in one go, where [`read_line`] first
/// looks for its end. `None`: anything else. What both can read they read alike.
fn read_usual<K: Kind>(text: &[u8]) -> Option<K::Wire> {
    let UsualLine { kind, object } = serde_json::from_str(str::from_utf8(text).ok()?).ok()?;
    let is_there = matches!(kind, "ADDED" | "MODIFIED") && !K::meta(&object).name.is_empty();
    is_there.then_some(object)
}

fn read_line<K: Kind>(text: &[u8]) -> Result<Line<K>, serde_json::Error> {
    let WireLine { kind, object } = serde_json::from_slice(text)?;
    Ok(match &*kind {
        "ADDED" | "MODIFIED" => match read_object::<K>(object) {
            Ok(object) => Line::Object(object),
            Err(reason) => Line::Garbage(reason),
        },
        "DELETED" => {
            let Envelope { metadata } = serde_json::from_str(object.get())?;
            Line::Deleted(metadata.key(), metadata.resource_version)
        }
        "BOOKMARK" => {
            let WireBookmark { metadata } = serde_json::from_str(object.get())?;
            let annotations = metadata.annotations.unwrap_or_default();
            Line::Bookmark {
                version: metadata.resource_version,
                end_of_list: annotations.get(END_OF_LIST).is_some_and(|value| value == "true"),
            }
        }
        "ERROR" => Line::Error(Refusal::of(&serde_json::from_str(object.get())?, 0)),
        other => Line::Garbage(format!("there is no watch event {:?}", cut(other))),
    })
}

fn read_object<K: Kind>(text: &RawValue) -> Result<Object<K>, String> {
    let error = match serde_json::from_str::<K::Wire>(text.get()) {
        Ok(wire) if !K::meta(&wire).name.is_empty() => return Ok(Object::Good(wire)),
        Ok(_) => return Err(format!("a {} without metadata.name", K::NAME)),
        Err(error) => error,
    };
    match serde_json::from_str::<Envelope>(text.get()) {
        Ok(Envelope { metadata }) if !metadata.name.is_empty() => {
            Ok(Object::Bad { meta: Box::new(metadata), reason: error.to_string() })
        }
        _ => Err(error.to_string()),
    }
}

/// Parses a page of a list.
///
/// # Errors
/// It is not a list.
pub(super) fn page<K: Kind>(text: &[u8]) -> Result<Page<K>, String> {
    let WireList { metadata, items } = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let objects = items.unwrap_or_default().into_iter().map(read_object::<K>).collect();
    Ok(Page { objects, version: metadata.resource_version, next: metadata.next })
}

// === impl Refusal ===

impl Refusal {
    /// An answer with an error status. Priority and fairness answers 429 with plain text and a header; everything else
    /// sends a `Status`.
    pub(super) fn read(code: u16, retry_after: Option<&str>, body: &[u8]) -> Self {
        let mut refusal = match serde_json::from_slice::<WireStatus>(body) {
            Ok(status) => Self::of(&status, code),
            Err(_) => Self { code, message: cut(String::from_utf8_lossy(body).trim()), retry_after: None },
        };
        let header = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        refusal.retry_after = header.or(refusal.retry_after);
        refusal
    }

    fn of(status: &WireStatus, code: u16) -> Self {
        let message = if status.message.is_empty() { &status.reason } else { &status.message };
        let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        Self {
            code: if status.code == 0 { code } else { status.code },
            message: cut(message),
            retry_after: (seconds > 0).then(|| Duration::from_secs(seconds)),
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests;
