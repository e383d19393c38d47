// SPDX-License-Identifier: Apache-2.0
//! What happens to the world: servers slow down, fail, crash, come and go; zones are lost and regained.
//!
//! Each change of a server is seen at once by the requests in it and by connections to it, and by everybody else only when
//! discovery has noticed and published. Always true: a server's life number goes up when it falls, so that what was scheduled
//! for an earlier life (its end, its being noticed) is dropped.

use super::{
    Kind, World, ns,
    serve::Fate,
    server::{Server, State},
};
use crate::model::{Action, LostClients, Pods};

impl World<'_> {
    /// An event of the scenario.
    pub(super) fn action(&mut self, index: usize) {
        let scenario = self.scenario;
        match &scenario.events[index].action {
            Action::Speed { pods, factor } => self.each(pods, |server| server.set_speed(*factor)),
            Action::Fail { pods, failures } => self.each(pods, |server| server.fail(failures)),
            Action::Weight { pods, weight } => {
                self.each(pods, |server| server.weight = *weight);
                self.changed(pods.service as u32);
            }
            Action::Crash { pods, restart_after } => self.crash(pods, restart_after.map(ns)),
            Action::ZoneLost { zone, clients } => self.lose(*zone, *clients),
            Action::ZoneRegained { zone } => self.regain(*zone),
            Action::Rollout { service, group, batch, ready_after, grace } => {
                let all = 0..self.scenario.services[*service].groups.len();
                for group in group.map_or(all, |g| g..g + 1) {
                    self.roll_out(*service, group, *batch, ns(*ready_after), ns(*grace));
                }
            }
            Action::Scale { service, group, to, ready_after, grace } => {
                self.scale(*service, *group, *to, ns(*ready_after), ns(*grace));
            }
            Action::Rate { arrivals, factor } => {
                self.streams[*arrivals].set_factor(*factor);
                self.next_arrival(*arrivals as u32);
            }
        }
    }

    fn each(&mut self, pods: &Pods, change: impl Fn(&mut Server)) {
        self.servers.iter_mut().filter(|s| named(pods, s)).for_each(change);
    }

    fn crash(&mut self, pods: &Pods, restart_after: Option<u64>) {
        let dies = |s: &Server| named(pods, s) && s.state == State::Serving;
        let dying: Vec<usize> = (0..self.servers.len()).filter(|i| dies(&self.servers[*i])).collect();
        // A process that dies where nobody can see it resets nobody's connection.
        self.empty(Fate::Reset, |s| dies(s) && s.reachable);
        self.empty(Fate::Hang, |s| dies(s) && !s.reachable);
        for index in &dying {
            self.servers[*index].state = State::Dead;
        }
        self.reset_connections(|s| named(pods, s) && s.state == State::Dead && s.reachable);
        for index in dying {
            self.notice(index);
            let server = &mut self.servers[index];
            let life = server.life;
            // One that was to end anyway has no reason to come back.
            server.gone = restart_after.is_none() || server.draining;
            if let Some(after) = restart_after {
                self.queue.push(self.now + after, Kind::Ready.with(life, index as u32));
            }
        }
    }

    /// Discovery will notice that the server does not answer.
    fn notice(&mut self, index: usize) {
        let at = self.now + ns(self.scenario.discovery.detect_after);
        let life = self.servers[index].life;
        self.queue.push(at, Kind::Detect.with(life, index as u32));
    }

    pub(super) fn detect(&mut self, what: u64) {
        let server = &mut self.servers[what as u32 as usize];
        let away = server.state == State::Dead || !server.reachable;
        if server.is_in_life(what) && away && std::mem::replace(&mut server.listed, false) {
            let service = server.service;
            self.changed(service);
        }
    }

    /// A server that was created, or has restarted, serves.
    pub(super) fn ready(&mut self, what: u64) {
        let index = what as u32 as usize;
        let server = &mut self.servers[index];
        if !server.is_in_life(what) || server.state == State::Serving || server.gone {
            return;
        }
        server.rise(true, self.now);
        let (service, reachable) = (server.service, server.reachable);
        server.newcomer = true;
        server.listed = reachable;
        let busy = self.servers[index].busy_ns(self.now);
        self.stats[index].reset(self.now, busy);
        self.record.draw_line(index as u32, &self.servers[index], self.scenario);
        self.changed(service);
    }

    /// A server is told to end: it serves on, but nothing new shall come.
    pub(super) fn tell_to_end(&mut self, index: usize, grace: u64) {
        let server = &mut self.servers[index];
        server.draining = true;
        let (service, life) = (server.service, server.life);
        self.queue.push(self.now + grace, Kind::End.with(life, index as u32));
        self.changed(service);
    }

    /// The grace of a server that was told to end is over.
    pub(super) fn ended(&mut self, what: u64) {
        let index = what as u32;
        // One that has crashed meanwhile ends all the same, whatever life it is in.
        let server = &self.servers[index as usize];
        let (service, local) = (server.service, server.local);
        let this = |s: &Server| s.service == service && s.local == local;
        let fate = if server.reachable { Fate::Reset } else { Fate::Hang };
        self.empty(fate, this);
        let server = &mut self.servers[index as usize];
        server.state = State::Dead;
        (server.gone, server.listed) = (true, false);
        self.reset_connections(this);
        self.changed(service);
    }

    fn lose(&mut self, zone: usize, clients: LostClients) {
        if self.lost[zone].replace(clients).is_some() {
            return;
        }
        let here = |s: &Server| s.zone as usize == zone;
        self.empty(Fate::Hang, |s| here(s) && s.state == State::Serving);
        for index in 0..self.servers.len() {
            if here(&self.servers[index]) {
                self.servers[index].reachable = false;
                self.notice(index);
            }
        }
    }

    fn regain(&mut self, zone: usize) {
        if self.lost[zone].take().is_none() {
            return;
        }
        for index in 0..self.servers.len() {
            let server = &mut self.servers[index];
            if server.zone as usize != zone {
                continue;
            }
            server.reachable = true;
            if server.state == State::Serving {
                let draining = server.draining;
                server.rise(true, self.now);
                (server.draining, server.newcomer) = (draining, true);
            }
            let service = server.service;
            self.changed(service);
        }
    }
}

impl Server {
    /// Whether an event that was scheduled for one of its lives is for this one.
    fn is_in_life(&self, what: u64) -> bool {
        (what >> 32) as u32 % super::request::GENERATIONS == self.life % super::request::GENERATIONS
    }
}

pub(super) fn named(pods: &Pods, server: &Server) -> bool {
    server.service as usize == pods.service
        && pods.group.is_none_or(|g| g == server.group as usize)
        && server.ordinal >= pods.first
        && server.ordinal - pods.first < pods.count
}
