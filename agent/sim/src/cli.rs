// SPDX-License-Identifier: Apache-2.0
//! The command `evenkeel simulate`: a scenario in, a comparison of its policies out.
//!
//! Always true: everything is read and checked, and the folder of the drawings exists, before anything runs; the report is
//! returned, not printed; progress goes to standard error, and only where somebody looks. Policies run one after
//! the other: each is a function of scenario, policy and seed alone, so that `--policy` changes no figure.

mod progress;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args as ClapArgs;

use crate::{
    engine,
    model::{Invalid, Policy},
    outcome::Outcome,
    report::{self, Comparison},
    scenario::{self, Overrides, ScenarioError, Setup, time},
};
use progress::Progress;

/// Flags of `evenkeel simulate`.
#[derive(Clone, Debug, ClapArgs)]
pub struct Args {
    /// The scenario; agent/sim/scenarios has some, docs/simulation.md says how to write one
    #[arg(value_name = "SCENARIO.toml")]
    pub scenario: PathBuf,
    /// Run only this policy of the scenario; may be given several times
    #[arg(long = "policy", value_name = "NAME")]
    pub policies: Vec<String>,
    /// Another seed than the scenario's
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Simulate for so long instead; the warm-up changes in proportion, later events do not happen
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub json: bool,
    /// Write drawings into this folder: latency.svg, load.svg, zones.svg, utilization.svg
    #[arg(long, value_name = "DIR")]
    pub svg: Option<PathBuf>,
}

/// Why a simulation did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The scenario is wrong.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// A policy was asked for that the scenario does not have.
    #[error("{}: there is no policy `{name}`; it has {known}", file.display())]
    NoSuchPolicy {
        /// The scenario.
        file: PathBuf,
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The engine cannot run a policy.
    #[error("{}: policy `{policy}`: {source}", file.display())]
    Run {
        /// The scenario.
        file: PathBuf,
        /// Which policy.
        policy: String,
        /// Why.
        source: Invalid,
    },
    /// A drawing cannot be written.
    #[error("cannot write {}: {source}", file.display())]
    Write {
        /// Which file or folder.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Runs the command and returns its report. `show_progress`: on standard error, while it runs.
///
/// # Errors
/// What went wrong, for a person.
pub fn execute(args: &Args, show_progress: bool) -> Result<String, SimulateError> {
    let overrides = Overrides { seed: args.seed, duration: args.duration };
    let mut setup = scenario::load(&args.scenario, overrides)?;
    select(&mut setup.policies, args)?;
    if let Some(dir) = &args.svg {
        std::fs::create_dir_all(dir).map_err(|source| SimulateError::Write { file: dir.clone(), source })?;
    }
    let comparison = compare(setup, &args.scenario, show_progress)?;
    if let Some(dir) = &args.svg {
        draw(&comparison, dir)?;
    }
    Ok(if args.json { report::json(&comparison) } else { report::table(&comparison) })
}

/// Leaves the policies that were asked for, in the order of the file.
fn select(policies: &mut Vec<Policy>, args: &Args) -> Result<(), SimulateError> {
    let has = |name: &String| policies.iter().any(|policy| policy.name == *name);
    if let Some(name) = args.policies.iter().find(|name| !has(name)) {
        let known: Vec<_> = policies.iter().map(|policy| policy.name.as_str()).collect();
        let (file, name, known) = (args.scenario.clone(), name.clone(), known.join(", "));
        return Err(SimulateError::NoSuchPolicy { file, name, known });
    }
    if !args.policies.is_empty() {
        policies.retain(|policy| args.policies.contains(&policy.name));
    }
    Ok(())
}

fn compare(setup: Setup, file: &Path, show_progress: bool) -> Result<Comparison, SimulateError> {
    let Setup { scenario, policies, cut_off } = setup;
    let mut progress = Progress::new(show_progress, policies.len());
    if cut_off > 0 {
        progress.say(&format!("{cut_off} events lie after the duration and do not happen"));
    }
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(policies.len());
    for policy in &policies {
        progress.next(&policy.name);
        let outcome = engine::run(&scenario, policy, scenario.seed, &mut |share| progress.at(share));
        outcomes.push(outcome.map_err(|source| {
            progress.clear();
            SimulateError::Run { file: file.to_owned(), policy: policy.name.clone(), source }
        })?);
    }
    progress.clear();
    let seed = scenario.seed;
    Ok(Comparison { scenario, seed, outcomes })
}

fn draw(comparison: &Comparison, dir: &Path) -> Result<(), SimulateError> {
    for drawing in report::drawings(comparison) {
        let file = dir.join(drawing.file);
        std::fs::write(&file, drawing.svg).map_err(|source| SimulateError::Write { file, source })?;
    }
    Ok(())
}

fn duration(text: &str) -> Result<Duration, String> {
    match time::parse(text)? {
        Duration::ZERO => Err("it must be above zero".to_owned()),
        time => Ok(time),
    }
}
