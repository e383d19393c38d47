// SPDX-License-Identifier: Apache-2.0
//! Policies of the file: what they start from ([`BASES`]), and what they change of it.
//!
//! `base` names what the real thing does: `plain` (per request, everything else off), `evenkeel-request` and
//! `evenkeel-connection` (the product's defaults on its two paths), `kube-proxy` (random per connection). So that scenarios
//! say what they change, and that "our defaults" is one place.

use std::time::Duration;

use evenkeel_balance::picker::Strategy;

use super::{
    error::Fault,
    file::{self, OutlierTable},
    names::{list, valid},
};
use crate::model::{Chooser, Knowledge, Outlier, Per, Policy, ZonePolicy};

/// What a policy may start from.
const BASES: [&str; 4] = ["plain", "evenkeel-request", "evenkeel-connection", "kube-proxy"];

/// What users write for the kernel's own rule of choice, beside the strategies of the library.
const KERNEL: &str = "kernel";

fn base(name: &str) -> Option<Policy> {
    let plain = |strategy| Policy::plain("", strategy);
    Some(match name {
        "plain" => plain(Strategy::LeastRequest),
        "evenkeel-request" => Policy {
            zones: ZonePolicy::Prefer,
            outlier: Some(Outlier::default()),
            panic_below: 0.5,
            slow_start: Duration::ZERO,
            retries: 1,
            ..plain(Strategy::LeastRequest)
        },
        "evenkeel-connection" => Policy {
            per: Per::Connection,
            chooser: Chooser::Kernel,
            zones: ZonePolicy::Prefer,
            ..plain(Strategy::LeastRequest)
        },
        "kube-proxy" => Policy { per: Per::Connection, ..plain(Strategy::Random) },
        _ => return None,
    })
}

/// A policy of the file as the model has it; its ranges are not yet checked.
pub(super) fn policy(file: &file::Policy) -> Result<Policy, Fault> {
    valid(&file.name)?;
    let mut policy = match &file.base {
        None => Policy::plain("", Strategy::LeastRequest),
        Some(name) => base(name.get_ref()).ok_or_else(|| {
            let problem = format!("`{}` is not among the bases: {}", name.get_ref(), list(&BASES));
            Fault::at(name.span(), problem)
        })?,
    };
    file.name.get_ref().clone_into(&mut policy.name);
    if let Some(name) = &file.strategy {
        policy.chooser = chooser(name)?;
    }
    if let Some(per) = file.per {
        policy.per = match per {
            file::Per::Request => Per::Request,
            file::Per::Connection => Per::Connection,
        };
    }
    if let Some(zones) = file.zones {
        policy.zones = match zones {
            file::ZonePolicy::Ignore => ZonePolicy::Ignore,
            file::ZonePolicy::Prefer => ZonePolicy::Prefer,
            file::ZonePolicy::Strict => ZonePolicy::Strict,
        };
    }
    if let Some(knowledge) = file.knowledge {
        policy.knowledge = match knowledge {
            file::Knowledge::Node => Knowledge::Node,
            file::Knowledge::Client => Knowledge::Client,
            file::Knowledge::Global => Knowledge::Global,
        };
    }
    match file.outlier {
        None => {}
        Some(file::Outlier::Switch(on)) => policy.outlier = on.then(Outlier::default),
        Some(file::Outlier::Table(table)) => policy.outlier = Some(outlier(table)),
    }
    policy.choices = file.choices.unwrap_or(policy.choices);
    policy.panic_below = file.panic_below.unwrap_or(policy.panic_below);
    policy.slow_start = file.slow_start.map_or(policy.slow_start, |t| t.0);
    policy.aperture = file.aperture.unwrap_or(policy.aperture);
    policy.retries = file.retries.unwrap_or(policy.retries);
    policy.update_every = file.update_every.map_or(policy.update_every, |t| t.0);
    policy.probes = file.probes.unwrap_or(policy.probes);
    Ok(policy)
}

fn chooser(name: &file::Name) -> Result<Chooser, Fault> {
    if name.get_ref() == KERNEL {
        return Ok(Chooser::Kernel);
    }
    Strategy::by_name(name.get_ref()).map(Chooser::Picker).ok_or_else(|| {
        let known: Vec<_> = Strategy::ALL.iter().map(|(_, name)| *name).chain([KERNEL]).collect();
        let problem = format!("`{}` is not among the strategies: {}", name.get_ref(), known.join(", "));
        Fault::at(name.span(), problem)
    })
}

fn outlier(table: OutlierTable) -> Outlier {
    Outlier {
        consecutive: table.consecutive,
        interval: table.interval.map(|t| t.0),
        base_ejection: table.base_ejection.map(|t| t.0),
        max_ejection: table.max_ejection.map(|t| t.0),
        max_ejected: table.max_ejected,
    }
}
