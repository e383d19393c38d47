// SPDX-License-Identifier: Apache-2.0
//! One run: a cluster, a server, its clients, changes.
//!
//! A change's clock starts right before the API server writes the watch event; it stops when a client has the whole
//! message, so it counts both transports and the clients' own work as well, on the same cores. CPU time is the server
//! process's alone.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    apiserver::ApiServer,
    client::monotonic,
    crew::Crew,
    plan::{Interest, Mode, Purpose, ROLLOUT_RATE, Run},
    progress::Progress,
    server::{Memory, Server},
    world::{World, ZONES},
};

/// Between changes: longer than any batching, so that each change is measured alone.
const PAUSE: Duration = Duration::from_millis(150);
/// Before memory is read: a client that was served a moment ago is not idle yet.
const REST: Duration = Duration::from_millis(1500);

/// What one run has shown.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    pub(super) run: Run,
    /// From the start of the process until it is ready, reading of the lists included.
    pub(super) ready_s: f64,
    /// From the last byte of the lists until it is ready.
    pub(super) ready_after_lists_s: f64,
    /// CPU time until it is ready.
    pub(super) start_cpu_s: f64,
    /// From the first connect until the last client has everything, encoding included.
    pub(super) sync_s: f64,
    pub(super) sync_cpu_ms_per_client: f64,
    pub(super) push_p50_ms: f64,
    pub(super) push_p99_ms: f64,
    pub(super) cpu_ms_per_change: f64,
    /// Without clients, with everything encoded.
    pub(super) empty_mb: f64,
    /// With all of them idle, in sync or after all changes, whichever is more.
    pub(super) rss_mb: f64,
    /// The most at any time.
    pub(super) peak_mb: f64,
    pub(super) idle_kb_per_client: f64,
    pub(super) rollouts: Vec<Rollout>,
}

/// Pods replaced one after the other, at a steady rate.
#[derive(Clone, Debug)]
pub(super) struct Rollout {
    pub(super) services: usize,
    pub(super) pods: usize,
    pub(super) seconds: f64,
    /// The most messages that a client got.
    pub(super) messages: u64,
    /// The most that reached one within 100 ms. Two that were sent 100 ms apart can arrive closer, if the client had to wait
    /// for a core with the first: on a busy machine this says more about the machine.
    pub(super) densest: u64,
    pub(super) cpu_ms_per_change: f64,
    /// How long after the last pod everybody knew of it.
    pub(super) last_ms: f64,
}

impl Figures {
    /// From the last byte of the lists until every client has everything. Clients connect once the server is ready.
    pub(super) fn first_sync_s(&self) -> f64 {
        self.ready_after_lists_s + self.sync_s
    }
}

impl Rollout {
    /// Messages to a client for each 100 ms that the rolling update took, until everybody knew. The first message begins
    /// the first 100 ms.
    pub(super) fn messages_per_100_ms(&self) -> f64 {
        self.messages.saturating_sub(1) as f64 / (self.seconds * 10.0 + self.last_ms / 100.0)
    }
}

/// Runs it.
pub(super) fn measure(run: &Run, progress: &mut Progress) -> Result<Figures> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    progress.say("making a cluster");
    let large = (run.purpose == Purpose::Rollout).then_some(run.rollout_pods());
    let (mut world, lists) = World::new(run, large);
    let api = ApiServer::start(lists)?;
    let kubeconfig = folder.path().join("kubeconfig");
    fs::write(&kubeconfig, api.kubeconfig()).context("cannot write a kubeconfig")?;
    progress.say("starting the server");
    let mut server = Server::start(&kubeconfig, folder.path(), run.clients)?;
    let ready = server.ready()?;
    let (started, listed) = (server.started(), api.listed()?);
    let start = Start {
        ready: ready - started,
        after_lists: ready.saturating_duration_since(listed),
        cpu: server.settled()?,
    };
    let services = run.services + usize::from(large.is_some());
    progress.say("encoding everything once");
    let scouted = scout(run, &server, services)?;
    let crew = Crew::start(run, services, server.ads)?;
    let mut subject = Subject { run, crew, server, api, progress };
    let figures = subject.measure(&start, &scouted, &mut world, large.is_some());
    figures.map_err(|error| match subject.server.said() {
        said if said.is_empty() => error,
        said => error.context(format!("the server said: {said}")),
    })
}

/// What all clients share is made for the first that asks. A client of each zone asks for everything and leaves again, so
/// that this memory is not taken for that of clients; the time counts as part of the first sync, and all of the CPU time.
fn scout(run: &Run, server: &Server, services: usize) -> Result<Sync> {
    let before = server.cpu()?;
    let scouts = Run { clients: ZONES.len(), mode: Mode::Delta, interest: Interest::Everything, ..*run };
    let took = Crew::start(&scouts, services, server.ads)?.sync(|_| {})?;
    Ok(Sync { took, cpu: server.settled()? - before })
}

/// What the server's start took: see [`Figures`].
struct Start {
    ready: Duration,
    after_lists: Duration,
    cpu: Duration,
}

/// A server with its clients.
struct Subject<'a> {
    run: &'a Run,
    /// Dropped first: clients that lose their server say so.
    crew: Crew,
    server: Server,
    api: ApiServer,
    progress: &'a mut Progress,
}

struct Sync {
    took: Duration,
    cpu: Duration,
}

struct Push {
    /// Nanoseconds, sorted: one per change and client.
    delays: Vec<u64>,
    cpu: Duration,
}

impl Subject<'_> {
    fn measure(
        &mut self,
        start: &Start,
        scouted: &Sync,
        world: &mut World,
        rollouts: bool,
    ) -> Result<Figures> {
        let run = self.run;
        let (empty, sync) = self.sync()?;
        thread::sleep(REST);
        let synced = self.server.memory()?;
        let push = self.push(world)?;
        let Memory { now, peak } = self.server.memory()?;
        let rollouts = if rollouts { self.rollouts(world)? } else { Vec::new() };
        Ok(Figures {
            run: *run,
            ready_s: start.ready.as_secs_f64(),
            ready_after_lists_s: start.after_lists.as_secs_f64(),
            start_cpu_s: start.cpu.as_secs_f64(),
            sync_s: (scouted.took + sync.took).as_secs_f64(),
            sync_cpu_ms_per_client: ms(scouted.cpu + sync.cpu) / run.clients as f64,
            push_p50_ms: quantile(&push.delays, 0.5) / 1e6,
            push_p99_ms: quantile(&push.delays, 0.99) / 1e6,
            cpu_ms_per_change: ms(push.cpu) / run.changes as f64,
            empty_mb: empty.now,
            rss_mb: synced.now.max(now),
            peak_mb: peak,
            idle_kb_per_client: (synced.now - empty.now).max(0.0) * 1024.0 / run.clients as f64,
            rollouts,
        })
    }

    /// The first sync of all clients; the memory before it.
    fn sync(&mut self) -> Result<(Memory, Sync)> {
        thread::sleep(REST);
        let empty = self.server.memory()?;
        let before = self.server.cpu()?;
        let clients = self.run.clients;
        let took = self.crew.sync(|synced| self.progress.count("first sync", synced, clients))?;
        Ok((empty, Sync { took, cpu: self.server.settled()? - before }))
    }

    fn push(&mut self, world: &mut World) -> Result<Push> {
        let before = self.server.cpu()?;
        let mut delays = Vec::with_capacity(self.run.changes * self.run.clients);
        for change in 0..self.run.changes {
            self.progress.count("endpoint changes", change, self.run.changes);
            let draft = world.draft(change % world.changing(), 0)?;
            self.crew.expect(draft.service, draft.address)?;
            let began = monotonic()?;
            self.api.publish(&draft)?;
            delays.extend(self.crew.arrived()?.iter().map(|at| at.saturating_sub(began)));
            thread::sleep(PAUSE);
        }
        // The last acknowledgements are part of the price.
        let cpu = self.server.settled()? - before;
        delays.sort_unstable();
        Ok(Push { delays, cpu })
    }

    /// All pods of one Service, then as many of many Services in turn.
    fn rollouts(&mut self, world: &mut World) -> Result<Vec<Rollout>> {
        let (large, many) = (world.changing() - 1, world.changing() - 1);
        let one: Vec<_> = (0..self.run.rollout_pods()).map(|pod| (large, pod)).collect();
        let pods = self.run.rollout_pods().min(many * self.run.per_service);
        let spread: Vec<_> = (0..pods).map(|pod| (pod % many, pod / many)).collect();
        Ok(vec![self.rollout(world, 1, &one)?, self.rollout(world, many, &spread)?])
    }

    fn rollout(&mut self, world: &mut World, services: usize, pods: &[(usize, usize)]) -> Result<Rollout> {
        let before = self.server.settled()?;
        self.crew.record()?;
        let tick = Duration::from_secs(1) / ROLLOUT_RATE as u32;
        let began = Instant::now();
        let mut last = 0;
        for (at, (which, pod)) in pods.iter().enumerate() {
            self.progress.count(&format!("rolling update of {services} Services"), at, pods.len());
            let draft = world.draft(*which, *pod)?;
            if at + 1 == pods.len() {
                self.crew.expect(draft.service, draft.address)?;
                last = monotonic()?;
            }
            self.api.publish(&draft)?;
            thread::sleep((tick * (at as u32 + 1)).saturating_sub(began.elapsed()));
        }
        let seconds = began.elapsed().as_secs_f64();
        let known = self.crew.arrived()?.into_iter().max().unwrap_or(last);
        let cpu = self.server.settled()? - before;
        let (messages, densest) = self.crew.recorded()?;
        Ok(Rollout {
            services,
            pods: pods.len(),
            seconds,
            messages,
            densest,
            cpu_ms_per_change: ms(cpu) / pods.len() as f64,
            last_ms: known.saturating_sub(last) as f64 / 1e6,
        })
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The smallest value that this part of all does not exceed.
fn quantile(sorted: &[u64], part: f64) -> f64 {
    let at = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(0) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_of_a_rolling_update_is_not_one_too_many() {
        let rollout = &crate::discovery::testing::figures(Purpose::Rollout).rollouts[0];
        assert_eq!((rollout.messages, rollout.seconds, rollout.last_ms), (51, 5.0, 100.0));
        assert!((rollout.messages_per_100_ms() - 50.0 / 51.0).abs() < 1e-9);
    }

    #[test]
    fn a_quantile_is_a_value_that_was_seen() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|part| quantile(&values, part)), [50.0, 99.0, 100.0]);
        assert_eq!(quantile(&[], 0.5), 0.0);
        assert_eq!(quantile(&[7], 0.99), 7.0);
    }
}
