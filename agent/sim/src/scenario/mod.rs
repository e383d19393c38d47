// SPDX-License-Identifier: Apache-2.0
//! Scenarios as files: strict TOML to the [`crate::model`].
//!
//! | file | what it is |
//! |---|---|
//! | `file` | the keys, as serde reads them |
//! | `time` | `"5ms"` |
//! | `names` | which names are allowed, where they lead |
//! | `world`, `events`, `policies` | the file's tables as the model's |
//! | `keys` | which key is at a place, which line has a key |
//! | `error` | what a person reads |
//!
//! Always true: a scenario is returned whole and runnable or not at all; every error names file, line and key; an unknown
//! key is an error, so that a slip of the pen never simulates something else. Ranges are checked by the model, once, and told
//! at the place in the file. Cost: the file is read whole, its trace row by row. When it fails: the first fault is told, not
//! all of them. Deliberately not here: includes, variables, units of anything but time.

mod error;
mod events;
mod file;
mod keys;
mod names;
mod policies;
pub(crate) mod time;
mod world;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use error::Fault;
pub use error::ScenarioError;

use crate::{
    model::{Policy, Scenario, Zone},
    trace,
};
use events::Events;
use keys::Keys;
use world::World;

/// What a command line changes of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Another seed.
    pub seed: Option<u64>,
    /// Another duration, e.g. a short one to try a scenario. The warm-up changes in proportion; events and rows of a trace
    /// that it cuts off do not happen.
    pub duration: Option<Duration>,
}

/// A scenario with the policies that it compares.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// The world.
    pub scenario: Scenario,
    /// At least one.
    pub policies: Vec<Policy>,
    /// How many events were cut off by [`Overrides::duration`].
    pub cut_off: usize,
}

/// Reads a scenario.
///
/// # Errors
/// The file cannot be read, or something in it or in its trace is wrong.
pub fn load(path: &Path, overrides: Overrides) -> Result<Setup, ScenarioError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ScenarioError::Read { file: path.to_owned(), source })?;
    parse(&text, path, overrides)
}

/// Reads a scenario from a text. `path` is what errors name it by; a trace is looked for beside it.
///
/// # Errors
/// Something in it or in its trace is wrong.
pub fn parse(text: &str, path: &Path, overrides: Overrides) -> Result<Setup, ScenarioError> {
    let places = Places { text, path };
    let file: file::File = toml::from_str(text).map_err(|error| {
        places.error(Fault::at(error.span().unwrap_or(0..0), error.message().trim_end().to_owned()))
    })?;
    let world = World::of(&file).map_err(|fault| places.error(fault))?;
    let mut scenario = scenario(&file, &world, path, overrides).map_err(|fault| places.error(fault))?;
    let before = scenario.events.len();
    if overrides.duration.is_some() {
        scenario.events.retain(|event| event.at <= scenario.duration);
    }
    let cut_off = before - scenario.events.len();
    scenario
        .check()
        .map_err(|invalid| places.invalid(&of_the_file(&invalid.path, &world), &invalid.problem))?;
    let policies = self::policies(&file, &places)?;
    if let Some(name) = &file.trace {
        let source =
            path.parent().map_or_else(|| PathBuf::from(name.get_ref()), |dir| dir.join(name.get_ref()));
        scenario.trace = Arc::from(trace::read(&source, &scenario)?);
        scenario.check().map_err(|invalid| places.invalid(&invalid.path, &invalid.problem))?;
    }
    Ok(Setup { scenario, policies, cut_off })
}

fn scenario(
    file: &file::File,
    world: &World<'_>,
    path: &Path,
    overrides: Overrides,
) -> Result<Scenario, Fault> {
    if let Some(name) = &file.name {
        names::valid(name)?;
    }
    let zones: Vec<_> =
        file.zones.iter().map(|zone| Zone { name: zone.name.get_ref().clone(), nodes: zone.nodes }).collect();
    let services =
        file.services.iter().map(|service| world.service(service, &zones)).collect::<Result<Vec<_>, _>>()?;
    let arrivals = file.arrivals.iter().map(|entry| world.arrivals(entry)).collect::<Result<Vec<_>, _>>()?;
    let events = Events { world, services: &services, streams: arrivals.iter().map(|a| a.clients).collect() };
    let events = file.events.iter().map(|entry| events.event(entry)).collect::<Result<Vec<_>, _>>()?;
    let written = (file.duration.0, file.warm_up.map_or(file.duration.0 / 10, |t| t.0));
    let (duration, warm_up) =
        overrides.duration.map_or(written, |other| (other, in_proportion(written, other)));
    Ok(Scenario {
        name: file.name.as_ref().map_or_else(|| stem(path), |name| name.get_ref().clone()),
        question: one_line(&file.question),
        answer: one_line(&file.answer),
        seed: overrides.seed.unwrap_or(file.seed),
        duration,
        warm_up,
        network: world.network(&file.network, zones.len())?,
        zones,
        services,
        clients: file.clients.iter().map(|clients| world.clients(clients)).collect::<Result<_, _>>()?,
        arrivals,
        trace: Arc::from([]),
        events,
        discovery: world::discovery(&file.discovery),
    })
}

/// The warm-up of a run that takes `other` instead of the duration that is written beside it.
fn in_proportion((duration, warm_up): (Duration, Duration), other: Duration) -> Duration {
    let ns = warm_up.as_nanos().saturating_mul(other.as_nanos()) / duration.as_nanos().max(1);
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

fn policies(file: &file::File, places: &Places<'_>) -> Result<Vec<Policy>, ScenarioError> {
    if file.policies.is_empty() {
        return Err(places.invalid("policies", "there must be at least one"));
    }
    names::Names::of("policies", file.policies.iter().map(|p| &p.name))
        .map_err(|fault| places.error(fault))?;
    let mut policies = Vec::with_capacity(file.policies.len());
    for (i, entry) in file.policies.iter().enumerate() {
        let policy = policies::policy(entry).map_err(|fault| places.error(fault))?;
        let here = |path: &str| format!("policies[{i}].{path}");
        policy.check().map_err(|invalid| places.invalid(&here(&invalid.path), &invalid.problem))?;
        policies.push(policy);
    }
    Ok(policies)
}

/// A path of the model with the index that the group has in the file.
fn of_the_file(path: &str, world: &World<'_>) -> String {
    let index = |key: &str| -> Option<(usize, usize)> {
        let start = path.find(key)? + key.len();
        let end = start + path[start..].find(']')?;
        Some((path[start..end].parse().ok()?, end))
    };
    let (Some((service, _)), Some((group, end))) = (index("services["), index(".groups[")) else {
        return path.to_owned();
    };
    let written = world.groups.get(service).and_then(|groups| groups.get(group)).copied().unwrap_or(group);
    format!("services[{service}].groups[{written}{}", &path[end..])
}

/// A text with its name: turns faults into errors.
struct Places<'a> {
    text: &'a str,
    path: &'a Path,
}

impl Places<'_> {
    fn error(&self, fault: Fault) -> ScenarioError {
        let keys = Keys::of(self.text);
        ScenarioError::Invalid {
            file: self.path.to_owned(),
            line: keys.line(fault.span.start),
            key: keys.at(&fault.span).to_owned(),
            problem: fault.problem,
        }
    }

    /// A fault that the model found, told at the place of the file that it is about.
    fn invalid(&self, path: &str, problem: &str) -> ScenarioError {
        let keys = Keys::of(self.text);
        let (place, rest) = keys.find(path);
        let (key, problem) = match rest.is_empty() {
            true => (keys.at(&place).to_owned(), problem.to_owned()),
            false => (keys.at(&place).to_owned(), format!("{rest} {problem}")),
        };
        ScenarioError::Invalid { file: self.path.to_owned(), line: keys.line(place.start), key, problem }
    }
}

/// The file's name without its ending: a scenario that names itself otherwise would be hard to find.
fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "scenario".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// Text of several lines as one, without control characters.
fn one_line(text: &str) -> String {
    let words: Vec<_> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests;
