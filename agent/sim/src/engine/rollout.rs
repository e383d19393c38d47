// SPDX-License-Identifier: Apache-2.0
//! Servers replaced in batches, and groups that grow and shrink.
//!
//! As a Deployment with `maxSurge` of a batch and `maxUnavailable` of zero: a batch of new servers is created; when they are
//! ready, as many old ones are told to end, and the next batch begins. A server that has crashed is replaced like any other.
//! Always true: at no time are fewer servers ready than before, but for those that crash.

use std::collections::VecDeque;

use super::{Kind, World, server::Server};

/// One group's rollout.
#[derive(Debug)]
pub(super) struct Rollout {
    service: usize,
    group: usize,
    batch: usize,
    ready_after: u64,
    grace: u64,
    /// Still to be replaced, the oldest first.
    old: VecDeque<u32>,
    /// Created, not ready yet.
    new: Vec<u32>,
}

impl World<'_> {
    pub(super) fn roll_out(
        &mut self,
        service: usize,
        group: usize,
        batch: u32,
        ready_after: u64,
        grace: u64,
    ) {
        let old = self.members_of(service, group).collect();
        self.rollouts.push(Rollout {
            service,
            group,
            batch: batch as usize,
            ready_after,
            grace,
            old,
            new: Vec::new(),
        });
        self.next_batch(self.rollouts.len() - 1);
    }

    fn next_batch(&mut self, index: usize) {
        let Rollout { service, group, batch, ready_after, ref old, .. } = self.rollouts[index];
        let count = batch.min(old.len());
        if count == 0 {
            return;
        }
        let new: Vec<u32> = (0..count).map(|_| self.create(service, group)).collect();
        self.rollouts[index].new = new;
        self.queue.push(self.now + ready_after, Kind::Batch.with(0, index as u32));
    }

    /// The batch is ready.
    pub(super) fn batch(&mut self, index: usize) {
        let rollout = &mut self.rollouts[index];
        let (new, grace) = (std::mem::take(&mut rollout.new), rollout.grace);
        let old: Vec<u32> = rollout.old.drain(..new.len()).collect();
        for server in new {
            let life = self.servers[server as usize].life;
            self.ready(Kind::Ready.with(life, server));
        }
        for server in old {
            self.tell_to_end(server as usize, grace);
        }
        self.next_batch(index);
    }

    pub(super) fn scale(&mut self, service: usize, group: usize, to: u32, ready_after: u64, grace: u64) {
        let members: Vec<u32> = self.members_of(service, group).collect();
        for _ in members.len()..to as usize {
            let server = self.create(service, group);
            let life = self.servers[server as usize].life;
            self.queue.push(self.now + ready_after, Kind::Ready.with(life, server));
        }
        for server in members.iter().skip(to as usize) {
            self.tell_to_end(*server as usize, grace);
        }
    }

    /// Servers of a group that are there to stay, or will come back: in order of creation.
    fn members_of(&self, service: usize, group: usize) -> impl Iterator<Item = u32> + '_ {
        let stays = move |s: &Server| s.group as usize == group && !s.draining && !s.gone;
        self.endpoints[service].servers.iter().copied().filter(move |i| stays(&self.servers[*i as usize]))
    }

    /// A new server, which is not ready yet.
    pub(super) fn create(&mut self, service: usize, group: usize) -> u32 {
        let ordinal = self.created[service][group];
        self.created[service][group] += 1;
        let (index, local) = (self.servers.len() as u32, self.endpoints[service].servers.len() as u32);
        let template = &self.scenario.services[service].groups[group];
        let mut server = Server::new(service as u32, group as u32, template, ordinal, local, self.now);
        server.reachable = self.lost[template.zone].is_none();
        self.servers.push(server);
        self.stats.push(super::stats::Stats::default());
        self.endpoints[service].servers.push(index);
        self.next_pause(index as usize, 0);
        index
    }
}
