// SPDX-License-Identifier: Apache-2.0
//! Whether a scenario or a policy can be run: every index leads somewhere, every number is finite and in its range.
//!
//! The first fault is reported by its path in the model (`services[0].groups[1].speed`). Whoever parses a file knows better
//! names and lines and checks what it can before; this is the last line, so that the engine need not doubt its input.
//! Cost: linear in the scenario, the trace included. Deliberately not here: whether the numbers make sense together (a
//! service that is overloaded is a fair question).

use std::time::Duration;

use super::{
    Action, Arrivals, Clients, Cold, Failures, Group, Network, Pods, Policy, Process, Scenario, Service,
    ServiceTime, TraceRequest,
};

/// Why a scenario or a policy cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct Invalid {
    /// Where in the model.
    pub path: String,
    /// What is wrong there.
    pub problem: String,
}

/// The longest time that a scenario may name. A hundred days: far from where nanoseconds in 64 bits end, whatever is added.
const LONGEST: Duration = Duration::from_secs(100 * 86_400);

/// How many servers, clients or nodes there may be.
const MOST: u32 = 1_000_000;

/// The highest rate, in requests per second: one per nanosecond.
const FASTEST: f64 = 1e9;

type Checked = Result<(), Invalid>;

fn require(holds: bool, path: impl FnOnce() -> String, problem: &str) -> Checked {
    if holds { Ok(()) } else { Err(Invalid { path: path(), problem: problem.to_owned() }) }
}

fn within(value: f64, low: f64, high: f64, path: impl FnOnce() -> String) -> Checked {
    if value.is_finite() && (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Invalid { path: path(), problem: format!("must be between {low} and {high}, is {value}") })
}

fn above_zero(value: f64, high: f64, path: impl FnOnce() -> String) -> Checked {
    if value.is_finite() && value > 0.0 && value <= high {
        return Ok(());
    }
    Err(Invalid { path: path(), problem: format!("must be above 0 and at most {high}, is {value}") })
}

fn bounded(time: Duration, path: impl FnOnce() -> String) -> Checked {
    require(time <= LONGEST, path, "must be at most 100 days")
}

fn counted(count: u32, least: u32, path: impl FnOnce() -> String) -> Checked {
    if (least..=MOST).contains(&count) {
        return Ok(());
    }
    Err(Invalid { path: path(), problem: format!("must be between {least} and {MOST}, is {count}") })
}

impl Scenario {
    /// Whether it can be run.
    ///
    /// # Errors
    /// The first fault that was found.
    pub fn check(&self) -> Result<(), Invalid> {
        require(!self.duration.is_zero(), || "duration".into(), "must be above zero")?;
        bounded(self.duration, || "duration".into())?;
        require(self.warm_up < self.duration, || "warm_up".into(), "must be shorter than the duration")?;
        require(!self.zones.is_empty(), || "zones".into(), "there must be at least one")?;
        require(self.zones.len() <= 256, || "zones".into(), "there may be at most 256")?;
        for (i, zone) in self.zones.iter().enumerate() {
            counted(zone.nodes, 1, || format!("zones[{i}].nodes"))?;
        }
        self.network.check(self.zones.len())?;
        require(!self.services.is_empty(), || "services".into(), "there must be at least one")?;
        require(self.services.len() <= 4_096, || "services".into(), "there may be at most 4096")?;
        for (i, service) in self.services.iter().enumerate() {
            service.check(self.zones.len(), &format!("services[{i}]"))?;
        }
        for (i, clients) in self.clients.iter().enumerate() {
            clients.check(self, &format!("clients[{i}]"))?;
        }
        for (i, arrivals) in self.arrivals.iter().enumerate() {
            arrivals.check(self.clients.len(), &format!("arrivals[{i}]"))?;
        }
        self.check_trace()?;
        for (i, event) in self.events.iter().enumerate() {
            let path = format!("events[{i}]");
            require(event.at <= self.duration, || format!("{path}.at"), "must not be after the duration")?;
            event.action.check(self, &path)?;
        }
        for (name, time) in [
            ("debounce", self.discovery.debounce),
            ("delay", self.discovery.delay),
            ("jitter", self.discovery.jitter),
            ("detect_after", self.discovery.detect_after),
        ] {
            bounded(time, || format!("discovery.{name}"))?;
        }
        Ok(())
    }

    fn check_trace(&self) -> Checked {
        let mut last = Duration::ZERO;
        for (i, TraceRequest { at, zone, service, cost }) in self.trace.iter().enumerate() {
            require(*at >= last, || format!("trace[{i}].at"), "must not be before the one before it")?;
            require(*at < self.duration, || format!("trace[{i}].at"), "must be before the duration")?;
            require(*zone < self.zones.len(), || format!("trace[{i}].zone"), "there is no such zone")?;
            require(
                *service < self.services.len(),
                || format!("trace[{i}].service"),
                "there is no such service",
            )?;
            above_zero(*cost, 1e6, || format!("trace[{i}].cost"))?;
            last = *at;
        }
        Ok(())
    }
}

impl Network {
    fn check(&self, zones: usize) -> Checked {
        let square = |rows: &[usize]| rows.len() == zones && rows.iter().all(|columns| *columns == zones);
        let (latency, price): (Vec<_>, Vec<_>) =
            (self.latency.iter().map(Vec::len).collect(), self.price_per_gib.iter().map(Vec::len).collect());
        require(
            square(&latency),
            || "network.latency".into(),
            "must have one row and one column for each zone",
        )?;
        require(
            square(&price),
            || "network.price_per_gib".into(),
            "must have one row and one column for each zone",
        )?;
        for (a, row) in self.latency.iter().enumerate() {
            for (b, latency) in row.iter().enumerate() {
                bounded(*latency, || format!("network.latency[{a}][{b}]"))?;
            }
        }
        for (a, row) in self.price_per_gib.iter().enumerate() {
            for (b, price) in row.iter().enumerate() {
                within(*price, 0.0, 1e9, || format!("network.price_per_gib[{a}][{b}]"))?;
            }
        }
        bounded(self.jitter, || "network.jitter".into())?;
        bounded(self.unreachable_after, || "network.unreachable_after".into())
    }
}

impl Service {
    fn check(&self, zones: usize, path: &str) -> Checked {
        require(self.groups.len() <= 4_096, || format!("{path}.groups"), "there may be at most 4096")?;
        for (i, group) in self.groups.iter().enumerate() {
            group.check(zones, &format!("{path}.groups[{i}]"))?;
        }
        if let Some(timeout) = self.timeout {
            require(!timeout.is_zero(), || format!("{path}.timeout"), "must be above zero")?;
            bounded(timeout, || format!("{path}.timeout"))?;
        }
        let most_bytes = 1 << 40;
        require(
            self.request_bytes <= most_bytes,
            || format!("{path}.request_bytes"),
            "must be at most 1 TiB",
        )?;
        require(
            self.response_bytes <= most_bytes,
            || format!("{path}.response_bytes"),
            "must be at most 1 TiB",
        )?;
        counted(self.keys, 0, || format!("{path}.keys"))
    }
}

impl Group {
    fn check(&self, zones: usize, path: &str) -> Checked {
        require(self.zone < zones, || format!("{path}.zone"), "there is no such zone")?;
        counted(self.count, 0, || format!("{path}.count"))?;
        counted(self.concurrency, 1, || format!("{path}.concurrency"))?;
        self.service_time.check(&format!("{path}.service_time"))?;
        above_zero(self.speed, 1e6, || format!("{path}.speed"))?;
        if let Some(pauses) = self.pauses {
            require(!pauses.every.is_zero(), || format!("{path}.pauses.every"), "must be above zero")?;
            bounded(pauses.every, || format!("{path}.pauses.every"))?;
            bounded(pauses.length, || format!("{path}.pauses.length"))?;
        }
        self.failures.check(&format!("{path}.failures"))?;
        if let Some(Cold { slowdown, .. }) = self.cold {
            within(slowdown, 1.0, 1e6, || format!("{path}.cold.slowdown"))?;
        }
        Ok(())
    }
}

impl ServiceTime {
    fn check(&self, path: &str) -> Checked {
        let positive = |time: Duration, name: &str| {
            require(!time.is_zero(), || format!("{path}.{name}"), "must be above zero")?;
            bounded(time, || format!("{path}.{name}"))
        };
        match *self {
            Self::Fixed(time) => positive(time, "fixed"),
            Self::Exponential { mean } => positive(mean, "mean"),
            Self::Lognormal { mean, sigma } => {
                positive(mean, "mean")?;
                within(sigma, 0.0, 5.0, || format!("{path}.sigma"))
            }
            Self::Bimodal { short, long, long_share } => {
                positive(short, "short")?;
                positive(long, "long")?;
                within(long_share, 0.0, 1.0, || format!("{path}.long_share"))
            }
        }
    }
}

impl Failures {
    fn check(&self, path: &str) -> Checked {
        within(self.fast, 0.0, 1.0, || format!("{path}.fast"))?;
        within(self.slow, 0.0, 1.0, || format!("{path}.slow"))?;
        within(self.fast + self.slow, 0.0, 1.0, || format!("{path}.fast + slow"))?;
        bounded(self.fast_after, || format!("{path}.fast_after"))?;
        bounded(self.slow_after, || format!("{path}.slow_after"))
    }
}

impl Clients {
    fn check(&self, scenario: &Scenario, path: &str) -> Checked {
        require(
            self.zone.is_none_or(|z| z < scenario.zones.len()),
            || format!("{path}.zone"),
            "there is no such zone",
        )?;
        counted(self.count, 1, || format!("{path}.count"))?;
        require(
            self.service < scenario.services.len(),
            || format!("{path}.service"),
            "there is no such service",
        )?;
        counted(self.connections, 1, || format!("{path}.connections"))?;
        let all = u64::from(self.count) * u64::from(self.connections);
        require(
            all <= 10 * u64::from(MOST),
            || format!("{path}.connections"),
            "all clients together may have at most 10 million",
        )?;
        if let Some(age) = self.connection_age {
            require(!age.is_zero(), || format!("{path}.connection_age"), "must be above zero")?;
            bounded(age, || format!("{path}.connection_age"))?;
        }
        Ok(())
    }
}

impl Arrivals {
    fn check(&self, clients: usize, path: &str) -> Checked {
        require(self.clients < clients, || format!("{path}.clients"), "there are no such clients")?;
        above_zero(self.cost, 1e6, || format!("{path}.cost"))?;
        match self.process {
            Process::Poisson { rate } => above_zero(rate, FASTEST, || format!("{path}.rate")),
            Process::Burst { rate, burst_rate, every, length } => {
                within(rate, 0.0, FASTEST, || format!("{path}.rate"))?;
                above_zero(burst_rate, FASTEST, || format!("{path}.burst_rate"))?;
                bounded(every, || format!("{path}.every"))?;
                let fits = !length.is_zero() && length < every;
                require(fits, || format!("{path}.length"), "must be above zero and shorter than `every`")
            }
            Process::Diurnal { rate, amplitude, period } => {
                above_zero(rate, FASTEST, || format!("{path}.rate"))?;
                within(amplitude, 0.0, 1.0, || format!("{path}.amplitude"))?;
                require(!period.is_zero(), || format!("{path}.period"), "must be above zero")?;
                bounded(period, || format!("{path}.period"))
            }
        }
    }
}

impl Action {
    fn check(&self, scenario: &Scenario, path: &str) -> Checked {
        let pods = |pods: &Pods| place(scenario, pods.service, pods.group, path);
        let zone = |zone: usize| {
            require(zone < scenario.zones.len(), || format!("{path}.zone"), "there is no such zone")
        };
        let times = |ready_after: Duration, grace: Duration| {
            bounded(ready_after, || format!("{path}.ready_after"))?;
            bounded(grace, || format!("{path}.grace"))
        };
        match self {
            Self::Speed { pods: p, factor } => {
                pods(p)?;
                above_zero(*factor, 1e6, || format!("{path}.factor"))
            }
            Self::Fail { pods: p, failures } => {
                pods(p)?;
                failures.check(&format!("{path}.failures"))
            }
            Self::Crash { pods: p, restart_after } => {
                pods(p)?;
                bounded(restart_after.unwrap_or_default(), || format!("{path}.restart_after"))
            }
            Self::Weight { pods: p, .. } => pods(p),
            Self::ZoneLost { zone: z, .. } | Self::ZoneRegained { zone: z } => zone(*z),
            Self::Rollout { service, group, batch, ready_after, grace } => {
                place(scenario, *service, *group, path)?;
                counted(*batch, 1, || format!("{path}.batch"))?;
                times(*ready_after, *grace)
            }
            Self::Scale { service, group, to, ready_after, grace } => {
                place(scenario, *service, Some(*group), path)?;
                counted(*to, 0, || format!("{path}.to"))?;
                times(*ready_after, *grace)
            }
            Self::Rate { arrivals, factor } => {
                require(
                    *arrivals < scenario.arrivals.len(),
                    || format!("{path}.arrivals"),
                    "there are no such arrivals",
                )?;
                within(*factor, 0.0, 1_000.0, || format!("{path}.factor"))
            }
        }
    }
}

fn place(scenario: &Scenario, service: usize, group: Option<usize>, path: &str) -> Checked {
    let Some(s) = scenario.services.get(service) else {
        return Err(Invalid {
            path: format!("{path}.service"),
            problem: "there is no such service".to_owned(),
        });
    };
    require(group.is_none_or(|g| g < s.groups.len()), || format!("{path}.group"), "there is no such group")
}

impl Policy {
    /// Whether it can be run.
    ///
    /// # Errors
    /// The first fault that was found.
    pub fn check(&self) -> Result<(), Invalid> {
        require((2..=10).contains(&self.choices), || "choices".into(), "must be between 2 and 10")?;
        within(self.panic_below, 0.0, 1.0, || "panic_below".into())?;
        bounded(self.slow_start, || "slow_start".into())?;
        counted(self.aperture, 0, || "aperture".into())?;
        require(self.retries <= 10, || "retries".into(), "must be at most 10")?;
        require(!self.update_every.is_zero(), || "update_every".into(), "must be above zero")?;
        bounded(self.update_every, || "update_every".into())?;
        require(self.probes <= 10, || "probes".into(), "must be at most 10")?;
        let Some(outlier) = self.outlier else { return Ok(()) };
        for (name, time) in [
            ("interval", outlier.interval),
            ("base_ejection", outlier.base_ejection),
            ("max_ejection", outlier.max_ejection),
        ] {
            let Some(time) = time else { continue };
            require(!time.is_zero(), || format!("outlier.{name}"), "must be above zero")?;
            bounded(time, || format!("outlier.{name}"))?;
        }
        within(outlier.max_ejected.unwrap_or_default(), 0.0, 1.0, || "outlier.max_ejected".into())
    }
}
