// SPDX-License-Identifier: Apache-2.0
//! The parts, the order of their start, and what ends them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, bail};
use evenkeel_console::socket::{PreparedSocket, PrivateSocket};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::watch};
use tokio_util::sync::CancellationToken;

use super::{
    adapters::{Origins, PodRegistry},
    discovery::Discovery,
    drain::Drain,
    heart::{self, Beaten},
    holder::{Holder, Unheld},
    live::Live,
    publish::{Published, Publisher},
    signals::Signals,
    stay,
    tasks::Tasks,
};
use crate::{
    admin::{self, Facts},
    config::Config,
    kernel::{self, Beat, BpfSink, Events, Heartbeat, Kernel},
    pods::{self, Role},
    proxy::{self, Proxy},
    store::Store,
    telemetry::HttpServer,
    xds::XdsConfig,
};

/// Why the agent goes.
enum Going {
    /// Somebody asked.
    Signal(&'static str),
    /// A newer agent owns the node.
    Superseded(u64),
}

/// What is needed to serve, and to go.
struct Parts {
    live: Arc<Live>,
    role: watch::Sender<Role>,
    /// Tells the proxy to drain.
    drain: CancellationToken,
    /// Ends the HTTP server.
    stop_http: CancellationToken,
    /// Ends the admin API.
    stop_admin: CancellationToken,
    /// Ends the watching of pods.
    watching: CancellationToken,
    drain_timeout: Duration,
    stay_when_superseded: bool,
}

/// Starts, serves, drains.
pub(super) async fn run(
    config: Config,
    holder: Result<Holder, Unheld>,
    proxy_half: Handle,
) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("cannot take over SIGTERM")?;
    let (tasks, mut ends) = Tasks::new();
    let (parts, publisher) = start(config, holder, &tasks, &proxy_half)?;
    let mut serving = Box::pin(serve(parts.live.clone(), parts.role.clone(), publisher, proxy_half));
    let going = tokio::select! {
        superseded = &mut serving => superseded?,
        name = signals.next() => Going::Signal(name),
        name = ends.next() => bail!("{name} ended, which it never should; the agent cannot go on without"),
    };
    // An owner goes on to publish and to vouch for its endpoints until it is gone. Who was no owner yet does not become one.
    let serving = match going {
        Going::Signal(_) if *parts.role.borrow() == Role::Owner => Some(serving),
        _ => None,
    };
    let on_the_side = async {
        match serving {
            Some(serving) => {
                let _ = serving.await;
                std::future::pending().await
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = go(going, parts, signals) => Ok(()),
        () = on_the_side => Ok(()),
    }
}

/// Opens and starts everything, in standby.
fn start(
    config: Config,
    holder: Result<Holder, Unheld>,
    tasks: &Tasks,
    proxy_half: &Handle,
) -> anyhow::Result<(Parts, Publisher<BpfSink>)> {
    let xds = XdsConfig::from(&config);
    let Config {
        discovery,
        credentials: _,
        node,
        zone,
        pins,
        cgroup,
        netns_dir,
        admin_socket,
        http,
        state_dir: _,
        stale_after,
        stand_aside_after,
        drain_timeout,
        stay_when_superseded,
    } = config;
    let started = Instant::now();
    let control = Handle::current();
    // What can be refused for a simple reason comes first: nothing has been changed then.
    let http = HttpServer::bind(http)?;
    let admin_socket = PreparedSocket::bind(&admin_socket, "--admin-socket")?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), node, zone, %discovery, "starting");
    let kernel = kernel::Config { cgroup, stale_after, stand_aside_after, ..kernel::Config::new(&pins) };
    let Kernel {
        writer,
        origins,
        listeners,
        pods: registered,
        loads,
        counters,
        heartbeat,
        events,
        log,
        exit_hook,
        adopted,
        cgroup,
    } = Kernel::open(&kernel)?;
    let generation = generation(SystemTime::now(), heartbeat.next_generation()?);
    tracing::info!(adopted, generation, cgroup = %cgroup.display(), pins = %pins.display(), "kernel programs attached");
    if let Some(hook) = &exit_hook {
        hook.arm(std::process::id(), generation)?;
    }
    tasks.spawn(&control, "the log of the kernel programs", log.run());

    let (store, store_writer) = Store::new(generation);
    let discovery = Discovery::start(xds, store_writer, tasks);

    let (role, of_role) = watch::channel(Role::Standby);
    let (drain, watching) = (CancellationToken::new(), CancellationToken::new());
    let (stop_http, stop_admin) = (CancellationToken::new(), CancellationToken::new());
    let (proxy, pods) = {
        let _on_the_proxy_half = proxy_half.enter();
        let proxy = Proxy::new(proxy::Config {
            store: store.clone(),
            origins: Arc::new(Origins(origins)),
            drain: drain.clone(),
            seed: generation,
        });
        let pods = pods::Config {
            folder: netns_dir.clone(),
            generation,
            registry: Arc::new(PodRegistry { listeners: listeners.clone(), pods: registered.clone() }),
            proxy: proxy.clone(),
            role: of_role.clone(),
        };
        let pods = pods::start(pods, watching.clone()).with_context(|| {
            format!("--netns-dir {}: cannot watch the pods' network namespaces", netns_dir.display())
        })?;
        (proxy, pods)
    };
    tasks.spawn(proxy_half, "the reader of kernel events", report_events(events, pods.clone()));

    let published = Arc::new(Mutex::new(Published::default()));
    let live = Arc::new(Live {
        node,
        zone,
        generation,
        started,
        pins,
        cgroup,
        stale_after,
        stand_aside_after,
        store: store.clone(),
        counters,
        loads,
        heartbeat,
        exit_hook,
        holder,
        listeners,
        registered,
        proxy,
        pods,
        discovery,
        role: of_role,
        published: published.clone(),
        draining: AtomicBool::new(false),
    });
    answer(&live, admin_socket.install()?, http, tasks, &stop_http, &stop_admin);
    let publisher = Publisher::new(writer, store, published);
    let parts =
        Parts { live, role, drain, stop_http, stop_admin, watching, drain_timeout, stay_when_superseded };
    Ok((parts, publisher))
}

/// Starts to answer questions; before the agent is ready, it tells what is missing.
fn answer(
    live: &Arc<Live>,
    socket: PrivateSocket,
    http: HttpServer,
    tasks: &Tasks,
    stop_http: &CancellationToken,
    stop_admin: &CancellationToken,
) {
    let (control, facts): (_, Arc<dyn Facts>) = (Handle::current(), live.clone());
    tracing::info!(address = %http.address(), "HTTP listens");
    let (stop, until) = (stop_http.clone(), stop_admin.clone());
    tasks.spawn(&control, "the HTTP server", {
        let facts = facts.clone();
        async move {
            http.serve(facts, stop).await;
            // Asked to end: that is not an end to be reported.
            std::future::pending().await
        }
    });
    tasks.spawn(&control, "the admin API", async move {
        if let Err(error) = admin::serve(socket, facts, until.clone()).await {
            tracing::error!(%error, "the admin API failed");
        }
        if until.is_cancelled() {
            std::future::pending().await
        }
    });
}

/// Takes the node over once everything is there, and serves until a newer agent has taken it.
async fn serve(
    live: Arc<Live>,
    role: watch::Sender<Role>,
    mut publisher: Publisher<BpfSink>,
    proxy_half: Handle,
) -> anyhow::Result<Going> {
    let (heartbeat, generation) = (live.heartbeat.clone(), live.generation);
    live.discovery.first_snapshot(&live.store).await;
    live.pods.scanned().await;
    if let Beat::Superseded { generation: newer } = heartbeat.look()?
        && newer > generation
    {
        return Ok(Going::Superseded(newer));
    }
    claim(heartbeat.clone(), generation).await?;
    // Listeners first: an older agent takes its own back as soon as it notices, and no connect shall find none. Where no
    // older agent lives the heartbeat is stale, and nothing is handed over before ours.
    role.send_replace(Role::Owner);
    publisher.publish().await;
    heartbeat.beat()?;
    tracing::info!(revision = live.store.current().revision, "this agent owns the node");

    let (proxy_part, pulse) = heart::part("the proxy half");
    proxy_half.spawn(pulse.run());
    let (control_part, pulse) = heart::part("the control half");
    tokio::spawn(pulse.run());
    tokio::select! {
        by = heart::run(vec![control_part, proxy_part], move || beat(&heartbeat, generation)) => {
            Ok(Going::Superseded(by))
        }
        () = publisher.run() => bail!("publishing ended"),
    }
}

/// Becomes the owner. Waits for a publication of the previous owner, so not on this thread.
async fn claim(heartbeat: Heartbeat, generation: u64) -> anyhow::Result<()> {
    let claimed = tokio::task::spawn_blocking(move || heartbeat.claim_quietly(generation)).await;
    Ok(claimed.context("the claim was cancelled")??)
}

fn beat(heartbeat: &Heartbeat, generation: u64) -> Beaten {
    match heartbeat.beat() {
        Ok(Beat::Owner) => Beaten::Owner,
        Ok(Beat::Superseded { generation }) => Beaten::Superseded { by: generation },
        Ok(Beat::Vacant { generation: of }) => {
            tracing::warn!(of, "a newer agent had taken over and is silent: taking the node back");
            match heartbeat.claim(generation) {
                Ok(()) => Beaten::Owner,
                Err(error) => failed(&error),
            }
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &kernel::KernelError) -> Beaten {
    tracing::error!(%error, "the heart could not beat");
    Beaten::Failed
}

async fn report_events(mut events: Events, pods: pods::Handle) {
    loop {
        let event = events.next().await;
        if event.kind == evenkeel_abi::EventKind::NoListener as u32 {
            pods.no_listener(event.netns_cookie, event.tgid);
        }
    }
}

/// Drains and closes.
async fn go(going: Going, parts: Parts, signals: Signals) {
    let Parts { live, role, drain, stop_http, stop_admin, watching, drain_timeout, stay_when_superseded } =
        parts;
    live.draining.store(true, Relaxed);
    let (becomes, stays) = match going {
        Going::Signal(name) => {
            tracing::info!("{name}: draining");
            (Role::Draining, false)
        }
        Going::Superseded(by) => {
            tracing::info!(by, "a newer agent owns the node: draining");
            if !stay_when_superseded {
                // Where both share an address, its questions are the newer agent's to answer.
                stop_http.cancel();
            }
            (Role::Superseded, stay_when_superseded)
        }
    };
    let asked = CancellationToken::new();
    tokio::spawn(signals.exit_when_asked_twice(asked.clone()));
    let (pods, proxy) = (live.pods.clone(), live.proxy.clone());
    let drain = Drain { role, becomes, pods, proxy, go_away: drain, timeout: drain_timeout };
    match drain.run().await {
        0 => tracing::info!("drained"),
        left => tracing::warn!(left, "connections were not done in time and are cut"),
    }
    live.discovery.close().await;
    watching.cancel();
    if stays {
        tracing::info!("waiting to be told to end");
        let why = stay::stay(asked, || live.heartbeat.look()).await;
        tracing::info!("{why}");
    }
    stop_http.cancel();
    stop_admin.cancel();
}

/// The start's wall-clock time in nanoseconds, and in any case more than the generation before: a clock that was set back
/// must not make a new agent the older one.
fn generation(now: SystemTime, next: u64) -> u64 {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX).max(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_the_time_and_never_smaller_than_the_one_before() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        assert_eq!(generation(now, 1), 1_790_000_000_000_000_000);
        assert_eq!(generation(now, 1_800_000_000_000_000_001), 1_800_000_000_000_000_001);
    }
}
