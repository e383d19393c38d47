// SPDX-License-Identifier: Apache-2.0
//! The labels and annotations by which a Service opts in and is tuned, parsed once and strictly.
//!
//! An absent key means its default; a key with a value it may not have is a fault and the last good value stays, or the
//! default where there never was one. A Service whose `evenkeel.io/balance` was never good is not opted in. A key under
//! `evenkeel.io/` that does not exist is a fault as well: a typing error would otherwise be silently without effect.
//!
//! Deliberately not here: the meaning of the values. Annotations that no part of this version acts on are checked for
//! form and reported as having no effect, so that nobody believes otherwise.

use std::collections::BTreeMap;
use std::sync::Arc;

use evenkeel_proto::discovery::{Balance, Strategy, ZonePolicy};

use crate::fault::{Fault, FaultKind};

/// The prefix that all our keys share.
pub const PREFIX: &str = "evenkeel.io/";
/// The label that opts a Service in.
pub const BALANCE: &str = "evenkeel.io/balance";
/// The annotation of an EndpointSlice that weighs its endpoints.
pub const WEIGHT: &str = "evenkeel.io/weight";
/// The largest weight. Small enough that the sum of 10 000 endpoints' weights stays far from 32 bits (gRFC A27 demands
/// that the weights of a priority fit), large enough for shares of 0.1 %.
pub const MAX_WEIGHT: u32 = 1000;

const STRATEGY: &str = "evenkeel.io/strategy";
const ZONE: &str = "evenkeel.io/zone";
/// The annotation that names the pod label by which endpoints are told apart.
pub const SUBSET_LABEL: &str = "evenkeel.io/subset-label";
/// The annotation that names the cluster whose endpoints serve when there are none here.
pub const FALLBACK: &str = "evenkeel.io/fallback";

/// Annotations that are defined, but on which this version does not act.
const LATER: [&str; 4] =
    ["evenkeel.io/hash-on", "evenkeel.io/outlier", "evenkeel.io/retry", "evenkeel.io/slow-start"];

const BALANCES: [(&str, Balance); 2] = [("connection", Balance::Connection), ("request", Balance::Request)];
const STRATEGIES: [(&str, Strategy); 7] = [
    ("least-request", Strategy::LeastRequest),
    ("peak-ewma", Strategy::PeakEwma),
    ("weighted-round-robin", Strategy::WeightedRoundRobin),
    ("round-robin", Strategy::RoundRobin),
    ("random", Strategy::Random),
    ("ring-hash", Strategy::RingHash),
    ("maglev", Strategy::Maglev),
];
const ZONES: [(&str, ZonePolicy); 3] =
    [("prefer", ZonePolicy::Prefer), ("strict", ZonePolicy::Strict), ("ignore", ZonePolicy::Ignore)];

/// How an opted-in Service is balanced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Per connection or per request.
    pub balance: Balance,
    /// How one endpoint is chosen.
    pub strategy: Strategy,
    /// What the client's zone means.
    pub zone: ZonePolicy,
    /// Key of the pod label whose value is an endpoint's subset.
    pub subset_label: Option<Arc<str>>,
    /// Name of the cluster whose endpoints come behind all of ours.
    pub fallback: Option<Arc<str>>,
}

/// Keys and values as Kubernetes keeps labels and annotations.
pub type Pairs = BTreeMap<String, String>;

/// Parses a Service's labels and annotations.
///
/// `object` is how messages name the Service; `last` are the options in force until now. `None` means: not opted in.
pub fn parse(
    object: &str,
    labels: &Pairs,
    annotations: &Pairs,
    last: Option<&Options>,
) -> (Option<Options>, Vec<Fault>) {
    let mut faults = unknown_keys(object, labels, annotations);
    let annotation = |key| annotations.get(key).map(|value| (key, value.as_str()));
    let strategy = choose(object, "annotation", annotation(STRATEGY), &STRATEGIES, &mut faults);
    let zone = choose(object, "annotation", annotation(ZONE), &ZONES, &mut faults);
    let label = labels.get(BALANCE).map(|value| (BALANCE, value.as_str()));
    let balance = choose(object, "label", label, &BALANCES, &mut faults);
    let subset = word(object, annotation(SUBSET_LABEL), &mut faults);
    let fallback = word(object, annotation(FALLBACK), &mut faults);

    let balance = match balance {
        Field::Absent => None,
        Field::Good(balance) => Some(balance),
        Field::Bad => last.map(|last| last.balance),
    };
    let options = balance.map(|balance| Options {
        balance,
        strategy: strategy.or(last.map(|last| last.strategy), Strategy::LeastRequest),
        zone: zone.or(last.map(|last| last.zone), ZonePolicy::Prefer),
        subset_label: subset.or(last.map(|last| last.subset_label.clone()), None),
        fallback: fallback.or(last.map(|last| last.fallback.clone()), None),
    });
    if options.is_some() {
        faults.extend(without_effect(object, annotations));
    }
    (options, faults)
}

/// Parses an EndpointSlice's weight. `last` is the weight in force until now.
pub fn parse_weight(object: &str, annotations: &Pairs, last: Option<u32>) -> (u32, Vec<Fault>) {
    let mut faults = Vec::new();
    for key in annotations.keys().filter(|key| key.starts_with(PREFIX) && *key != WEIGHT) {
        faults.push(Fault::new(
            FaultKind::UnknownKey,
            format!("{object}: annotation {key} does not exist; an EndpointSlice has {WEIGHT}"),
        ));
    }
    let Some(value) = annotations.get(WEIGHT) else { return (1, faults) };
    match value.parse::<u32>() {
        Ok(weight @ 1..=MAX_WEIGHT) => (weight, faults),
        _ => {
            let stays = last.unwrap_or(1);
            faults.push(Fault::new(
                FaultKind::Option,
                format!(
                    "{object}: annotation {WEIGHT} is {value:?}; allowed: a whole number from 1 to {MAX_WEIGHT} \
                     (weight {stays} stays in force; to take endpoints out, make them not ready)"
                ),
            ));
            (stays, faults)
        }
    }
}

/// What a key said.
enum Field<T> {
    Absent,
    Good(T),
    Bad,
}

impl<T> Field<T> {
    fn or(self, last: Option<T>, default: T) -> T {
        match self {
            Self::Absent => default,
            Self::Good(value) => value,
            Self::Bad => last.unwrap_or(default),
        }
    }
}

fn choose<T: Copy>(
    object: &str,
    what: &str,
    pair: Option<(&str, &str)>,
    allowed: &[(&str, T)],
    faults: &mut Vec<Fault>,
) -> Field<T> {
    let Some((key, value)) = pair else { return Field::Absent };
    if let Some((_, chosen)) = allowed.iter().find(|(name, _)| *name == value) {
        return Field::Good(*chosen);
    }
    let names: Vec<&str> = allowed.iter().map(|(name, _)| *name).collect();
    faults.push(Fault::new(
        FaultKind::Option,
        format!("{object}: {what} {key} is {value:?}; allowed: {}", names.join(", ")),
    ));
    Field::Bad
}

/// A value that is a name of the user's, checked for form.
fn word(object: &str, pair: Option<(&str, &str)>, faults: &mut Vec<Fault>) -> Field<Option<Arc<str>>> {
    let Some((key, value)) = pair else { return Field::Absent };
    match check_form(key, value) {
        Ok(()) => Field::Good(Some(value.into())),
        Err(allowed) => {
            let what = format!("{object}: annotation {key} is {value:?}; allowed: {allowed}");
            faults.push(Fault::new(FaultKind::Option, what));
            Field::Bad
        }
    }
}

fn unknown_keys(object: &str, labels: &Pairs, annotations: &Pairs) -> Vec<Fault> {
    let known: Vec<&str> = [STRATEGY, ZONE, SUBSET_LABEL, FALLBACK].into_iter().chain(LATER).collect();
    let mut faults = Vec::new();
    let mut unknown = |text: String| faults.push(Fault::new(FaultKind::UnknownKey, text));
    for key in labels.keys().filter(|key| key.starts_with(PREFIX) && *key != BALANCE) {
        if known.contains(&key.as_str()) {
            unknown(format!(
                "{object}: {key} is a label here, but it must be an annotation; it has no effect"
            ));
        } else {
            unknown(format!("{object}: label {key} does not exist; the only label is {BALANCE}"));
        }
    }
    for key in annotations.keys().filter(|key| key.starts_with(PREFIX) && !known.contains(&key.as_str())) {
        if key == BALANCE {
            unknown(format!(
                "{object}: {key} is an annotation here, but it must be a label; it has no effect"
            ));
        } else {
            unknown(format!("{object}: annotation {key} does not exist; there are: {}", known.join(", ")));
        }
    }
    faults
}

fn without_effect(object: &str, annotations: &Pairs) -> Vec<Fault> {
    LATER
        .iter()
        .filter_map(|key| Some((*key, annotations.get(*key)?)))
        .map(|(key, value)| match check_form(key, value) {
            Ok(()) => Fault::new(
                FaultKind::NoEffect,
                format!("{object}: annotation {key} is {value:?}, on which this version does not act yet"),
            ),
            Err(allowed) => Fault::new(
                FaultKind::Option,
                format!("{object}: annotation {key} is {value:?}; allowed: {allowed}"),
            ),
        })
        .collect()
}

/// Form only: what the values mean is up to those who will act on them.
fn check_form(key: &str, value: &str) -> Result<(), &'static str> {
    let good = |ok: bool, allowed| if ok { Ok(()) } else { Err(allowed) };
    let word = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte))
    };
    match key {
        SUBSET_LABEL => {
            good(is_label_key(value), "the key of a pod label, such as shard or example.com/shard")
        }
        FALLBACK => good(word(value), "the name of a cluster given by --fallback"),
        "evenkeel.io/hash-on" => good(
            value == "source-ip" || value.strip_prefix("header:").is_some_and(word),
            "header:NAME, source-ip",
        ),
        _ => good(
            value.split(',').all(|pair| {
                pair.trim().split_once('=').is_some_and(|(key, value)| word(key.trim()) && word(value.trim()))
            }),
            "a list such as key=value,key=value",
        ),
    }
}

/// The syntax of label keys: an optional DNS prefix with a slash, then a name of up to 63 characters.
fn is_label_key(key: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let formed = |text: &str, longest: usize, marks: &[u8]| {
        let bytes = text.as_bytes();
        bytes.len() <= longest
            && alphanumeric(bytes.first())
            && alphanumeric(bytes.last())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || marks.contains(byte))
    };
    match key.split_once('/') {
        Some((prefix, name)) => formed(prefix, 253, b"-.") && formed(name, 63, b"-_."),
        None => formed(key, 63, b"-_."),
    }
}

#[cfg(test)]
mod tests;
