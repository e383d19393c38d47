// SPDX-License-Identifier: Apache-2.0
//! `evenkeel-testbed demo`: the whole path on one machine, with real traffic and real faults.
//!
//! Three zones, each node with its agent; twelve gRPC server pods, one of them slow; six client pods with long-lived
//! connections and open-loop load. Six phases: the baseline of kube-proxy, balanced per connection, balanced per
//! request, a zone gone, agents killed and hung, everything back. Shown live, then as a table. On one of two stages:
//! six nodes made of namespaces, or with `--cluster` a real Kubernetes cluster.
//!
//! What must always be true: every number is measured in this run; the run says which promises it did not keep and
//! fails for it; nothing is left behind, also when interrupted.
//!
//! Where things are: [`parameters`] the numbers and their reasons, [`stage`] where it runs ([`namespaces`] or
//! [`kubernetes`]) and [`peers`] who plays, [`phases`] what happens, [`figures`], [`blame`] and [`verdict`] the pure
//! arithmetic, [`hub`] the line to the peers, [`view`] and [`table`] what is shown. Deliberately not here: building
//! binaries; `cargo xtask demo` does that first.

mod blame;
mod figures;
mod hub;
mod interrupt;
mod kubernetes;
mod namespaces;
mod parameters;
mod peers;
mod phases;
mod plan;
mod stage;
mod table;
mod verdict;
mod view;

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use serde_json::json;

pub use self::hub::Hub;

use self::figures::Figures;
use self::interrupt::Interrupt;
use self::kubernetes::Kubernetes;
use self::namespaces::Namespaces;
use self::phases::Run;
use self::stage::Stage;
use self::verdict::Promise;
use self::view::Screen;
use crate::peer::clock::Clock;

/// The whole path on one machine, with real traffic and real faults
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Args {
    /// Print one JSON object as the last line of standard output; the table goes to standard error
    #[arg(long)]
    json: bool,
    /// Seconds that each phase measures
    #[arg(long, default_value_t = parameters::PHASE.as_secs_f64(), value_parser = seconds)]
    seconds_per_phase: f64,
    /// On a real Kubernetes cluster instead of nodes made of namespaces
    #[arg(long)]
    cluster: bool,
    /// Leave the cluster running at the end, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Run only the phases up to this one
    #[arg(long, value_enum, hide = true, default_value_t = Phase::Recovered)]
    only: Phase,
}

/// In order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Phase {
    KubeProxy,
    Connection,
    Request,
    ZoneOutage,
    AgentKilled,
    Recovered,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        // Below a second there is nothing to see, beyond ten minutes nobody looks.
        Ok(seconds) if (1.0..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("not a number of seconds between 1 and 600".to_owned()),
    }
}

/// Runs the demo.
///
/// # Errors
/// It could not run, was interrupted, or a promise was not kept; the error names which.
pub fn main(args: Vec<OsString>) -> Result<()> {
    let args = Args::try_parse_from(std::iter::once("demo".into()).chain(args))?;
    let interrupt = Interrupt::install()?;
    let clock = Clock::start();
    let stage = stage(&args, &interrupt)?;
    let screen = Screen::open(&stage.cast().hub, stage.cast().servers.clone());
    let length = Duration::from_secs_f64(args.seconds_per_phase);
    let mut run = Run { stage, screen: &screen, length, clock };
    let phases = phases(&mut run, args.only);
    let stage = run.stage;
    drop(screen);
    // On an error the stage is dropped, and with it everything.
    let phases = phases?;
    let promises = verdict::promises(&phases);
    let summary = table::summary(&phases, &promises);
    if args.json {
        eprintln!("{summary}");
    } else {
        println!("{summary}");
    }
    if args.keep {
        eprintln!("everything runs on{}; Ctrl-C removes it", stage.hint());
        while interrupt.sleep(Duration::from_secs(3600)).is_ok() {}
    }
    stage.close()?;
    if args.json {
        println!("{}", result(&phases, &promises));
    }
    judge(&promises)
}

fn stage(args: &Args, interrupt: &Interrupt) -> Result<Box<dyn Stage>> {
    let with_agents = args.only > Phase::KubeProxy;
    Ok(match args.cluster {
        true => Box::new(Kubernetes::build(interrupt.clone(), with_agents)?),
        false => Box::new(Namespaces::build(interrupt.clone(), with_agents)?),
    })
}

fn phases(run: &mut Run<'_>, last: Phase) -> Result<Vec<Figures>> {
    let mut phases = vec![run.kube_proxy()?];
    if last >= Phase::Connection {
        phases.push(run.connection()?);
    }
    if last >= Phase::Request {
        phases.push(run.request()?);
    }
    if last >= Phase::ZoneOutage {
        phases.push(run.zone_outage()?);
    }
    if last >= Phase::AgentKilled {
        phases.push(run.agent_killed()?);
    }
    if last >= Phase::Recovered {
        phases.push(run.recovered()?);
    }
    Ok(phases)
}

fn result(phases: &[Figures], promises: &[Promise]) -> serde_json::Value {
    let promises: Vec<_> = promises
        .iter()
        .map(|promise| {
            json!({ "phase": promise.phase, "text": promise.text, "measured": promise.measured, "kept": promise.kept })
        })
        .collect();
    json!({ "phases": phases, "promises": promises })
}

fn judge(promises: &[Promise]) -> Result<()> {
    let broken = promises.iter().filter(|promise| !promise.kept);
    let broken: Vec<String> =
        broken.map(|promise| format!("{}: {}: {}", promise.phase, promise.text, promise.measured)).collect();
    if broken.is_empty() { Ok(()) } else { bail!("promises not kept: {}", broken.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_has_the_documented_fields_of_every_phase() {
        let phase = Figures { name: "request".into(), ..Figures::default() };
        let result = result(&[phase], &[]);
        for field in
            ["name", "requests", "errors", "new_connection_errors", "skew", "zone_local", "p50_us", "p99_us"]
        {
            assert!(result["phases"][0].get(field).is_some(), "{field}");
        }
        assert!(result["phases"][0].get("agents").is_none(), "what a phase does not measure is left out");
    }

    #[test]
    fn what_stages_say_fits_a_small_terminal() {
        let scene = |note: &str| view::Scene {
            phase: "agent-killed".into(),
            note: note.into(),
            elapsed: Duration::ZERO,
            servers: Vec::new(),
            clients: Default::default(),
        };
        for notes in [namespaces::NOTES, kubernetes::NOTES] {
            let baseline = format!("{}, a random pod per connection (1/2)", notes.baseline);
            for note in [notes.kill, notes.recover, &baseline] {
                let line = &view::render(&scene(note))[0];
                assert!(line.contains(note), "{note} is cut off: {line}");
            }
        }
    }

    #[test]
    fn a_broken_promise_fails_the_run_and_is_named() {
        let promise =
            |kept| Promise { phase: "request", text: "no errors".into(), measured: "3".into(), kept };
        judge(&[promise(true)]).expect("all kept");
        let error = judge(&[promise(true), promise(false)]).expect_err("one is broken");
        assert_eq!(error.to_string(), "promises not kept: request: no errors: 3");
    }
}
