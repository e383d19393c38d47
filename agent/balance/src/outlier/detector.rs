// SPDX-License-Identifier: Apache-2.0
//! The detector: one record per endpoint, the cap over all of them, and the sweep.
//!
//! What must always be true, and when it fails, is told in [`super`].

use std::time::Duration;

use super::config::{Config, Consecutive};
use super::entry::{Entry, Status};
use super::event::{Cause, Change, Event, Outcome, Restored, Spared, State};
use super::statistics;
use crate::invalid::Invalid;
use crate::rng::Rng;

/// Given with a request, to be handed back with its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an outcome is recorded with the ticket of its request"]
pub struct Ticket {
    epoch: u64,
    probe: bool,
}

impl Ticket {
    /// Whether the request is the probe of a half-open endpoint.
    #[must_use]
    pub const fn is_probe(self) -> bool {
        self.probe
    }
}

/// The detector of one list of endpoints (A50: of one priority), which it knows by a stable `Id`: an address, not an index.
#[derive(Clone, Debug)]
pub struct Detector<Id> {
    config: Config,
    /// Ascending. Apart from the entries, so that a look-up walks through little memory.
    ids: Vec<Id>,
    /// In the same order.
    entries: Vec<Entry>,
    /// How many entries are not healthy.
    out: usize,
    /// The last epoch given. Zero is nobody's.
    epoch: u64,
}

impl<Id: Ord + Copy> Detector<Id> {
    /// Without endpoints yet.
    ///
    /// # Errors
    /// The first field of `config` that is out of its range.
    pub fn new(config: Config) -> Result<Self, Invalid> {
        config.validate()?;
        Ok(Self { config, ids: Vec::new(), entries: Vec::new(), out: 0, epoch: 0 })
    }

    /// The list is this now. Who stays keeps its state, who is new starts healthy, who is gone is forgotten. What a shorter
    /// list does not allow to be out comes back, what would have been back first.
    pub fn set_endpoints(&mut self, ids: impl IntoIterator<Item = Id>) -> Vec<Change<Id>> {
        let mut ids: Vec<Id> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        let mut old =
            std::mem::take(&mut self.ids).into_iter().zip(std::mem::take(&mut self.entries)).peekable();
        for id in &ids {
            while old.next_if(|(known, _)| known < id).is_some() {}
            let known = old.next_if(|(known, _)| known == id).map(|(_, entry)| entry);
            self.entries.push(known.unwrap_or_else(|| Entry::new(next(&mut self.epoch))));
        }
        self.ids = ids;
        let is_out = |i: &usize| !self.entries[*i].is_healthy();
        let mut out: Vec<usize> = (0..self.entries.len()).filter(is_out).collect();
        out.sort_by_key(|i| self.entries[*i].until());
        self.out = out.len();
        let surplus = self.out.saturating_sub(self.cap());
        out.into_iter().take(surplus).map(|i| self.restore(i, Restored::ListShrank)).collect()
    }

    /// What `id` is good for at `now`. Unknown endpoints are healthy: nothing is known against them.
    #[must_use]
    pub fn state(&self, id: Id, now: Duration) -> State {
        self.index(id).map_or(State::Healthy, |i| self.entries[i].state(now))
    }

    /// Whether a picker may choose `id`: healthy, or half-open without a probe in flight.
    #[must_use]
    pub fn available(&self, id: Id, now: Duration) -> bool {
        matches!(self.state(id, now), State::Healthy | State::HalfOpen { probing: false })
    }

    /// A request goes to `id`. If the endpoint waits for a probe, this is it. Also for requests that go to endpoints which
    /// are out, as panic makes them do: they change nothing.
    pub fn admit(&mut self, id: Id, now: Duration) -> Ticket {
        let Some(i) = self.index(id) else { return Ticket { epoch: 0, probe: false } };
        let entry = &mut self.entries[i];
        let probe = entry.state(now) == State::HalfOpen { probing: false };
        if let (true, Status::BackOff { probing, .. }) = (probe, &mut entry.status) {
            let timeout = self.config.consecutive.map_or(Duration::ZERO, |c| c.probe_timeout);
            *probing = Some(now.saturating_add(timeout));
            entry.epoch = next(&mut self.epoch);
        }
        Ticket { epoch: entry.epoch, probe }
    }

    /// A request that was admitted with `ticket` has ended. `rng` jitters a back-off.
    pub fn record(
        &mut self,
        id: Id,
        ticket: Ticket,
        outcome: Outcome,
        now: Duration,
        rng: &mut dyn Rng,
    ) -> Option<Change<Id>> {
        let i = self.index(id).filter(|i| self.entries[*i].epoch == ticket.epoch)?;
        if ticket.probe {
            return self.probed(i, outcome, now, rng);
        }
        let entry = &mut self.entries[i];
        match outcome {
            _ if !entry.is_healthy() => return None,
            Outcome::Unknown => return None,
            Outcome::Success => entry.count(true),
            Outcome::Failure => entry.count(false),
        }
        let failures = entry.consecutive;
        let limit = self.config.consecutive.filter(|c| failures >= c.failures)?;
        let cause = Cause::Consecutive { failures };
        if self.out < self.cap() {
            self.out += 1;
            return Some(self.back_off(i, &limit, cause, now, rng));
        }
        // Told once: it goes on failing.
        (failures == limit.failures)
            .then_some(Change { id, event: Event::Spared { cause, because: Spared::Cap } })
    }

    /// To be called every [`Config::interval`]: judges what was counted since the last time, and lets back in.
    pub fn sweep(&mut self, now: Duration, rng: &mut dyn Rng) -> Vec<Change<Id>> {
        let counts: Vec<_> = self.entries.iter_mut().map(|e| std::mem::take(&mut e.counts)).collect();
        let mut changes = Vec::new();
        if let Some(config) = self.config.success_rate {
            for (i, rate, threshold) in statistics::by_success_rate(&counts, &config) {
                let cause = Cause::SuccessRate { rate, threshold };
                changes.extend(self.found(i, cause, config.enforcement_percentage, now, rng));
            }
        }
        if let Some(config) = self.config.failure_percentage {
            for (i, rate, threshold) in statistics::by_failure_percentage(&counts, &config) {
                let cause = Cause::FailurePercentage { rate, threshold };
                changes.extend(self.found(i, cause, config.enforcement_percentage, now, rng));
            }
        }
        changes.extend((0..self.entries.len()).filter_map(|i| self.served(i, now)));
        changes
    }

    /// How many endpoints the list has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether the list is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// How many of them are out or half-open.
    #[must_use]
    pub fn out(&self) -> usize {
        self.out
    }

    /// How many may be out at once.
    #[must_use]
    pub fn cap(&self) -> usize {
        match self.ids.len() {
            0 | 1 => 0,
            n => (n * self.config.max_ejection_percent as usize / 100).max(1),
        }
    }

    fn index(&self, id: Id) -> Option<usize> {
        self.ids.binary_search(&id).ok()
    }

    /// The outcome of a probe.
    fn probed(&mut self, i: usize, outcome: Outcome, now: Duration, rng: &mut dyn Rng) -> Option<Change<Id>> {
        let config = self.config.consecutive?;
        match outcome {
            Outcome::Success => Some(self.restore(i, Restored::ProbeSucceeded)),
            Outcome::Failure => Some(self.back_off(i, &config, Cause::ProbeFailed, now, rng)),
            Outcome::Unknown => {
                self.entries[i].give_up_probe();
                None
            }
        }
    }

    fn back_off(
        &mut self,
        i: usize,
        config: &Consecutive,
        cause: Cause,
        now: Duration,
        rng: &mut dyn Rng,
    ) -> Change<Id> {
        let until = self.entries[i].back_off(next(&mut self.epoch), config, cause, now, rng);
        Change { id: self.ids[i], event: Event::Ejected { cause, until } }
    }

    /// A finding of a sweep: leads to an ejection if the endpoint is in, the cap allows it, and the draw says so.
    fn found(
        &mut self,
        i: usize,
        cause: Cause,
        enforcement_percentage: u32,
        now: Duration,
        rng: &mut dyn Rng,
    ) -> Option<Change<Id>> {
        if !self.entries[i].is_healthy() {
            return None;
        }
        let id = self.ids[i];
        let spared = |because| Some(Change { id, event: Event::Spared { cause, because } });
        if self.out >= self.cap() {
            return spared(Spared::Cap);
        }
        if rng.below(100) >= enforcement_percentage as usize {
            return spared(Spared::NotEnforced);
        }
        self.out += 1;
        let until = self.entries[i].eject(next(&mut self.epoch), &self.config, cause, now);
        Some(Change { id, event: Event::Ejected { cause, until } })
    }

    /// The last step of a sweep: who is in is forgiven one ejection, whose time is over is back.
    fn served(&mut self, i: usize, now: Duration) -> Option<Change<Id>> {
        let entry = &mut self.entries[i];
        match entry.status {
            Status::Healthy => entry.multiplier = entry.multiplier.saturating_sub(1),
            Status::Ejected { until, .. } if now > until => {
                return Some(self.restore(i, Restored::TimeServed));
            }
            Status::Ejected { .. } | Status::BackOff { .. } => {}
        }
        None
    }

    fn restore(&mut self, i: usize, why: Restored) -> Change<Id> {
        self.entries[i].restore(next(&mut self.epoch));
        self.out -= 1;
        Change { id: self.ids[i], event: Event::Restored(why) }
    }
}

fn next(epoch: &mut u64) -> u64 {
    *epoch += 1;
    *epoch
}
