// SPDX-License-Identifier: Apache-2.0
//! A server: places that are busy, and a queue in order of arrival.
//!
//! Always true: nobody waits while a place is free; `busy` is at most `concurrency`. A stop-the-world pause does not touch
//! pending completions: it is added to `pause_total`, and a completion that finds more pause than it has seen moves back by the
//! difference. Deliberately not here: events and clients (see `serve`).

use super::{draw::Times, request::NONE};
use crate::model::{Failures, Group};

/// What a server is to the world (what discovery says of it is in `listed` and `draining`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Being created.
    Starting,
    Serving,
    /// Crashed or ended: what comes is refused.
    Dead,
}

/// Laid out by use: every request touches the first two cache lines, and nothing else while places are free. The hundred
/// servers of a plain scenario then stay in the processor's nearest cache; spread out as they come, they do not.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Server {
    /// Busy places times nanoseconds, up to `changed_at`.
    busy_ns: u128,
    changed_at: u64,
    /// Requests that kept a place busy to their end.
    pub(crate) served: u64,
    pub(crate) busy: u32,
    pub(crate) concurrency: u32,
    pub(crate) waiting: u32,
    cold_left: u32,
    pub(crate) zone: u32,
    pub(crate) service: u32,
    /// Number in its service, in order of creation.
    pub(crate) local: u32,
    pub(crate) state: State,
    /// Whether its zone is there.
    pub(crate) reachable: bool,
    /// Some requests fail here.
    pub(crate) fails: bool,

    pub(crate) paused_until: u64,
    pub(crate) pause_total: u64,
    /// Time that a unit of work takes.
    pace: f64,
    times: Times,
    pub(crate) head: u32,
    pub(crate) tail: u32,

    pub(crate) queue: u32,
    cold_span: u32,
    cold_slowdown: f64,
    group_speed: f64,
    pub(crate) fast: f64,
    pub(crate) fast_after: u64,
    pub(crate) slow: f64,
    pub(crate) slow_after: u64,
    pub(crate) group: u32,
    /// Number in its group, in order of creation.
    pub(crate) ordinal: u32,
    pub(crate) weight: u32,
    /// Counts its lives, so that news of an earlier one is known as such.
    pub(crate) life: u32,
    /// Since when it is ready.
    pub(crate) ready_at: u64,
    /// What `busy_ns` was when the measurement began.
    unmeasured_ns: u128,
    /// Since when it counts as there, and until when if it has ended.
    counted_from: u64,
    ended_at: Option<u64>,
    /// Whether discovery lists it, and how.
    pub(crate) listed: bool,
    pub(crate) draining: bool,
    /// Ended, or crashed never to return.
    pub(crate) gone: bool,
    /// Was not there at the start.
    pub(crate) newcomer: bool,
}

const _: () =
    assert!(std::mem::offset_of!(Server, paused_until) == 64 && std::mem::offset_of!(Server, queue) == 128);

impl Server {
    pub(crate) fn new(
        service: u32,
        group_index: u32,
        group: &Group,
        ordinal: u32,
        local: u32,
        now: u64,
    ) -> Self {
        let mut server = Self {
            service,
            group: group_index,
            ordinal,
            local,
            zone: group.zone as u32,
            state: State::Starting,
            reachable: true,
            listed: false,
            draining: false,
            gone: false,
            weight: group.weight,
            ready_at: now,
            newcomer: true,
            life: 0,
            busy: 0,
            concurrency: group.concurrency,
            waiting: 0,
            queue: group.queue.unwrap_or(u32::MAX),
            head: NONE,
            tail: NONE,
            times: Times::new(&group.service_time),
            group_speed: group.speed,
            pace: 1.0 / group.speed,
            fails: false,
            fast: 0.0,
            fast_after: 0,
            slow: 0.0,
            slow_after: 0,
            cold_slowdown: group.cold.map_or(1.0, |c| c.slowdown),
            cold_span: group.cold.map_or(0, |c| c.requests),
            cold_left: 0,
            paused_until: 0,
            pause_total: 0,
            served: 0,
            busy_ns: 0,
            changed_at: now,
            unmeasured_ns: 0,
            counted_from: now,
            ended_at: Some(now),
        };
        server.fail(&group.failures);
        server
    }

    /// Requests in it, waiting or served.
    pub(crate) fn load(&self) -> u32 {
        self.busy + self.waiting
    }

    pub(crate) fn set_speed(&mut self, factor: f64) {
        self.pace = 1.0 / (self.group_speed * factor);
    }

    pub(crate) fn fail(&mut self, failures: &Failures) {
        self.fast = failures.fast;
        self.fast_after = super::ns(failures.fast_after);
        self.slow = failures.slow;
        self.slow_after = super::ns(failures.slow_after);
        self.fails = failures.fast > 0.0 || failures.slow > 0.0;
    }

    /// Serves from now on.
    pub(crate) fn rise(&mut self, cold: bool, now: u64) {
        self.state = State::Serving;
        self.listed = true;
        self.draining = false;
        self.ready_at = now;
        self.cold_left = if cold { self.cold_span } else { 0 };
        self.changed_at = now;
        if let Some(ended) = self.ended_at.take() {
            // The time between is not time in which it could have been busy.
            self.counted_from += now - ended;
        }
    }

    /// Serves no longer, and has nothing any more.
    pub(crate) fn fall(&mut self, now: u64) {
        self.account(now);
        (self.busy, self.waiting, self.head, self.tail) = (0, 0, NONE, NONE);
        self.ended_at.get_or_insert(now);
        self.life += 1;
    }

    /// Nanoseconds that a request needs here, by its own randomness.
    #[inline]
    pub(crate) fn work(&mut self, cost: f64, rng: &mut impl evenkeel_balance::rng::Rng) -> u64 {
        let mut time = self.times.draw(rng) * cost * self.pace;
        if self.cold_left > 0 {
            let warmth = f64::from(self.cold_left) / f64::from(self.cold_span);
            time *= 1.0 + (self.cold_slowdown - 1.0) * warmth;
            self.cold_left -= 1;
        }
        // The conversion saturates; nobody waits for a hundred years.
        (time as i64 as u64).min(1 << 61)
    }

    /// Brings the integral of busy places up to `now`. To be called before `busy` changes.
    #[inline]
    pub(crate) fn account(&mut self, now: u64) {
        self.busy_ns += u128::from(self.busy) * u128::from(now - self.changed_at);
        self.changed_at = now;
    }

    /// Busy place-nanoseconds so far.
    pub(crate) fn busy_ns(&mut self, now: u64) -> u128 {
        self.account(now);
        self.busy_ns
    }

    /// Forgets what was counted so far: the measurement begins.
    pub(crate) fn start_measuring(&mut self, now: u64) {
        self.unmeasured_ns = self.busy_ns(now);
        self.counted_from = now;
        self.ended_at = self.ended_at.map(|_| now);
    }

    /// Busy place-nanoseconds and place-nanoseconds that there were, since the measurement began and up to `now`.
    pub(crate) fn measured(&mut self, now: u64) -> (u128, u128) {
        let busy = self.busy_ns(now) - self.unmeasured_ns;
        let there = self.ended_at.unwrap_or(now) - self.counted_from;
        (busy, u128::from(there) * u128::from(self.concurrency))
    }
}
