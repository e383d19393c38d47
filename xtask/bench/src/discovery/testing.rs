// SPDX-License-Identifier: Apache-2.0
//! Made-up figures for tests of what is made of figures.

use super::{
    measure::{Figures, Rollout},
    plan::{Interest, Mode, Purpose, Run},
};

/// Different values everywhere, so that one in the place of another shows.
pub(super) fn figures(purpose: Purpose) -> Figures {
    let rollout = |services, messages, densest| Rollout {
        services,
        pods: 1_000,
        seconds: 5.0,
        messages,
        densest,
        cpu_ms_per_change: 0.5,
        last_ms: 100.0,
    };
    let rollouts = if purpose == Purpose::Rollout {
        vec![rollout(1, 51, 2), rollout(100, 1_001, 20)]
    } else {
        Vec::new()
    };
    let (mode, interest) = (Mode::Delta, Interest::Everything);
    Figures {
        run: Run { purpose, services: 1_000, per_service: 10, clients: 100, mode, interest, changes: 20 },
        ready_s: 0.25,
        ready_after_lists_s: 0.125,
        start_cpu_s: 0.375,
        sync_s: 1.5,
        sync_cpu_ms_per_client: 4.126,
        push_p50_ms: 3.0,
        push_p99_ms: 7.0,
        cpu_ms_per_change: 2.0,
        empty_mb: 30.0,
        rss_mb: 33.0,
        peak_mb: 35.0,
        idle_kb_per_client: 30.72,
        rollouts,
    }
}
