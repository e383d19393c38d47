// SPDX-License-Identifier: Apache-2.0
//! The six phases, in order, each with real traffic.
//!
//! A phase changes something, waits until the change is in force (by asking every agent, never by hoping), lets the
//! clients open new connections where the phase is about them, and measures. What must always be true: one fault at a
//! time; load never pauses between phases.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::blame::{self, Faults};
use super::figures::{Figures, Sum, spread_within_zones};
use super::parameters::{
    BASELINE_DRAWS, BEFORE_FAULT, CHURN, OUTAGE_ZONE, RECONNECT_DEADLINE, REPORT_DEADLINE, SLOW_POD,
    STALE_AFTER, WARM_UP,
};
use super::stage::{Cast, Stage};
use super::view::Screen;
use crate::peer::clock::Clock;
use crate::peer::messages::Command;

/// Runs phases on a stage.
pub(super) struct Run<'a> {
    pub(super) stage: Box<dyn Stage>,
    pub(super) screen: &'a Screen,
    /// How long each phase measures.
    pub(super) length: Duration,
    pub(super) clock: Clock,
}

/// What was measured while something was done.
struct Measured<T> {
    sum: Sum,
    cpu_busy: f64,
    done: T,
}

impl Run<'_> {
    /// Phase 1: the Service is not labelled; kube-proxy's rules, or rules of their shape, choose.
    pub(super) fn kube_proxy(&self) -> Result<Figures> {
        const NAME: &str = "kube-proxy";
        let length = self.length / BASELINE_DRAWS;
        let mut sum = Sum::default();
        let mut cpu_busy = 0.0;
        for draw in 1..=BASELINE_DRAWS {
            let who = self.stage.notes().baseline;
            self.say(NAME, &format!("{who}, a random pod per connection ({draw}/{BASELINE_DRAWS})"));
            self.renew_connections()?;
            let measured = self.measure(|| self.wait(length))?;
            sum.merge(measured.sum);
            cpu_busy += measured.cpu_busy / f64::from(BASELINE_DRAWS);
        }
        let mut figures = sum.figures(NAME, &self.all(), SLOW_POD, false);
        figures.cpu_busy = cpu_busy;
        figures.connection_spread = Some(self.connection_spread());
        Ok(figures)
    }

    /// Phase 2: labelled, balanced per connection in the kernel.
    pub(super) fn connection(&self) -> Result<Figures> {
        const NAME: &str = "connection";
        self.say(NAME, "label the Service: balanced in the kernel, at connect()");
        self.stage.label("connection")?;
        self.stage.in_force("connection", self.all().len())?;
        self.renew_connections()?;
        let measured = self.measure(|| {
            self.wait(self.length)?;
            // While the connections are open: a report ends the interval, not the connections.
            Ok(self.connection_spread())
        })?;
        let mut figures = self.figures(&measured, NAME, &self.all(), false);
        figures.connection_spread = Some(measured.done);
        Ok(figures)
    }

    /// Phase 3: balanced per request.
    pub(super) fn request(&self) -> Result<Figures> {
        const NAME: &str = "request";
        self.say(NAME, "label it `request`: every gRPC request is balanced");
        self.stage.label("request")?;
        self.stage.in_force("request", self.all().len())?;
        self.renew_connections()?;
        let measured = self.measure(|| self.wait(self.length))?;
        Ok(self.figures(&measured, NAME, &self.all(), true))
    }

    /// Phase 4: all endpoints of a zone go at once; afterwards they come back.
    pub(super) fn zone_outage(&self) -> Result<Figures> {
        const NAME: &str = "zone-outage";
        self.say(NAME, &format!("all pods of {OUTAGE_ZONE} die, its clients go on"));
        let left = self.cast().servers_in(|zone| zone != OUTAGE_ZONE);
        let measured = self.measure(|| {
            self.wait(BEFORE_FAULT)?;
            self.stage.end_zone()?;
            let ended = self.now();
            self.stage.publish_end()?;
            self.stage.in_force("request", left.len())?;
            let published = self.now();
            self.say(NAME, &format!("the others serve the clients of {OUTAGE_ZONE}"));
            self.wait(self.length)?;
            Ok((ended, published))
        })?;
        let (ended, published) = measured.done;
        let mut figures = self.figures(&measured, NAME, &left, true);
        let before =
            measured.sum.failures.iter().filter(|(_, failure)| failure.at_us < published).count() as u64;
        figures.errors -= before;
        figures.errors_before_publication = Some(before);
        figures.publication_ms = Some((published - ended) as f64 / 1e3);
        self.say(NAME, &format!("the pods of {OUTAGE_ZONE} come back"));
        self.stage.revive_zone()?;
        self.stage.in_force("request", self.all().len())?;
        Ok(figures)
    }

    /// Phase 5: agents are killed, then one stops.
    pub(super) fn agent_killed(&self) -> Result<Figures> {
        const NAME: &str = "agent-killed";
        let (stage, cast, notes) = (&self.stage, self.cast(), self.stage.notes());
        cast.hub.command(&cast.clients, Command::Churn { rps: CHURN })?;
        self.say(NAME, &format!("{CHURN} new connections a second from every {}", notes.client));
        self.wait(WARM_UP)?;
        let measured = self.measure(|| {
            self.wait(BEFORE_FAULT)?;
            self.say(NAME, notes.kill);
            stage.kill_agents()?;
            let gone_us = self.now();
            self.wait(self.length / 2)?;
            let (hung, stale) = (notes.hung_node, STALE_AFTER.as_secs());
            self.say(NAME, &format!("SIGSTOP the agent of {hung}: stale after {stale} s"));
            stage.hang_agent()?;
            let stopped_us = self.now();
            self.wait(STALE_AFTER)?;
            let stale_us = stopped_us + STALE_AFTER.as_micros() as u64;
            self.say(NAME, &format!("the heartbeat of {hung} is stale: its kernel takes over"));
            self.wait(self.length / 2)?;
            Ok((gone_us, stopped_us, stale_us))
        })?;
        cast.hub.command(&cast.clients, Command::Churn { rps: 0.0 })?;
        let (gone_us, stopped_us, stale_us) = measured.done;
        let faults = Faults { killed: &cast.killed, gone_us, hung: &cast.hung, stopped_us, stale_us };
        let mut figures = self.figures(&measured, NAME, &self.all(), true);
        let (agents, errors, new_connection_errors) = blame::assign(&measured.sum, &faults);
        figures.errors = errors;
        figures.new_connection_errors = new_connection_errors;
        figures.agents = Some(agents);
        Ok(figures)
    }

    /// Phase 6: the agents are back and adopt what is pinned.
    pub(super) fn recovered(&mut self) -> Result<Figures> {
        const NAME: &str = "recovered";
        self.say(NAME, self.stage.notes().recover);
        self.stage.recover_agents()?;
        self.stage.in_force("request", self.all().len())?;
        self.renew_connections()?;
        let measured = self.measure(|| self.wait(self.length))?;
        Ok(self.figures(&measured, NAME, &self.all(), true))
    }

    fn say(&self, phase: &str, note: &str) {
        self.screen.say(phase, note);
    }

    fn wait(&self, duration: Duration) -> Result<()> {
        self.cast().interrupt.sleep(duration)
    }

    fn now(&self) -> u64 {
        self.clock.micros(Instant::now())
    }

    fn all(&self) -> Vec<String> {
        self.cast().servers_in(|_| true)
    }

    fn cast(&self) -> &Cast {
        self.stage.cast()
    }

    /// All clients open new connections, and what the old ones left behind is given time to end.
    fn renew_connections(&self) -> Result<()> {
        let Cast { hub, clients, .. } = self.cast();
        hub.reconnect(clients, RECONNECT_DEADLINE)?;
        self.wait(WARM_UP)
    }

    /// Measures all clients while `during` runs.
    fn measure<T>(&self, during: impl FnOnce() -> Result<T>) -> Result<Measured<T>> {
        let Cast { hub, clients, .. } = self.cast();
        hub.command(clients, Command::Reset)?;
        let before = CpuTime::read()?;
        let done = during()?;
        let cpu_busy = CpuTime::read()?.busy_since(&before);
        let reports = hub.reports(clients, REPORT_DEADLINE)?;
        Ok(Measured { sum: Sum::of(&reports), cpu_busy, done })
    }

    fn figures<T>(
        &self,
        measured: &Measured<T>,
        name: &str,
        serving: &[String],
        per_request: bool,
    ) -> Figures {
        let mut figures = measured.sum.figures(name, serving, SLOW_POD, per_request);
        figures.cpu_busy = measured.cpu_busy;
        figures
    }

    /// By the servers' own count.
    fn connection_spread(&self) -> u64 {
        let Cast { hub, servers, .. } = self.cast();
        let live = hub.servers();
        let count = |name: &String| live.get(name).map_or(0, |server| server.open_connections);
        spread_within_zones(servers.iter().map(|(zone, name)| (zone.as_str(), count(name))))
    }
}

/// CPU time of the whole machine since its start, in ticks.
struct CpuTime {
    busy: u64,
    all: u64,
}

impl CpuTime {
    fn read() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        Self::parse(&stat).context("/proc/stat has no line `cpu`")
    }

    /// The columns of proc_stat(5): user nice system idle iowait irq softirq steal.
    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> =
            line.split_whitespace().take(8).filter_map(|ticks| ticks.parse().ok()).collect();
        let all = ticks.iter().sum();
        Some(Self { busy: all - (ticks.get(3)? + ticks.get(4)?), all })
    }

    fn busy_since(&self, before: &Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        self.busy.saturating_sub(before.busy) as f64 / all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spent_idle_or_waiting_for_disks_is_not_busy() {
        let before = CpuTime::parse("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 1 1\n").expect("a line");
        let after = CpuTime::parse("cpu  150 0 120 920 10 0 0 0 0 0\n").expect("a line");
        assert_eq!(after.busy_since(&before), 70.0 / 200.0);
        assert!(CpuTime::parse("intr 1 2 3\n").is_none());
    }
}
