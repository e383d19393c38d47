// SPDX-License-Identifier: Apache-2.0
//! What is measured: worlds, clients, and what is done to them. Plain data.

/// Which variant of xDS the clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Incremental.
    Delta,
    /// State of the world.
    Sotw,
}

/// Which Services a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    /// All Services by wildcard, then every cluster by its name: what the agent does.
    Everything,
    /// So many Services and their clusters by name, those that change among them.
    Some(usize),
}

/// What a run is for. Targets and drawings are chosen by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The size at which istiod was measured, with 100 clients.
    Compared100,
    /// The same with 500 clients.
    Compared500,
    /// The same as the first, state of the world.
    CompareSotw,
    /// 100 000 endpoints, clients that want all of them.
    Large,
    /// 100 000 endpoints, many clients that want few.
    Crowd,
    /// Rolling updates.
    Rollout,
    /// A point of a curve.
    Curve,
}

/// One start of the server, with one set of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) purpose: Purpose,
    pub(super) services: usize,
    /// Endpoints of each Service.
    pub(super) per_service: usize,
    pub(super) clients: usize,
    pub(super) mode: Mode,
    pub(super) interest: Interest,
    /// Endpoint changes that are measured, one after the other.
    pub(super) changes: usize,
}

/// Services that may change.
pub(super) const CHANGING: usize = 100;
/// Pods that a rolling update replaces, and how many of them in a second.
const ROLLOUT_PODS: usize = 1_000;
pub(super) const ROLLOUT_RATE: usize = 200;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// Everything that has a target, and curves.
    Full,
    /// What still shows each figure once.
    Quick,
    /// Whether the benchmark itself works.
    Smoke,
}

/// What is measured.
pub(super) fn runs(extent: Extent) -> Vec<Run> {
    match extent {
        Extent::Full => full(),
        Extent::Quick => quick(),
        Extent::Smoke => smoke(),
    }
}

fn full() -> Vec<Run> {
    let mut runs = vec![
        Run { changes: 50, ..run(Purpose::Compared100, 1_000, 100) },
        Run { changes: 50, ..run(Purpose::Compared500, 1_000, 500) },
        Run { mode: Mode::Sotw, ..run(Purpose::CompareSotw, 1_000, 100) },
        run(Purpose::Rollout, 1_000, 100),
        Run { changes: 50, ..run(Purpose::Large, 10_000, 100) },
        Run { interest: Interest::Some(50), ..run(Purpose::Crowd, 10_000, 5_000) },
    ];
    runs.extend([100, 300, 3_000].map(|services| run(Purpose::Curve, services, 100)));
    runs.extend([1, 3, 30, 100].map(|per_service| Run { per_service, ..run(Purpose::Curve, 1_000, 100) }));
    runs.extend([10, 30, 1_000, 5_000].map(|clients| run(Purpose::Curve, 1_000, clients)));
    runs
}

fn quick() -> Vec<Run> {
    vec![
        Run { changes: 10, ..run(Purpose::Compared100, 1_000, 100) },
        Run { mode: Mode::Sotw, changes: 10, ..run(Purpose::CompareSotw, 1_000, 100) },
        run(Purpose::Rollout, 100, 20),
        Run { changes: 10, ..run(Purpose::Curve, 300, 100) },
        Run { changes: 10, ..run(Purpose::Curve, 1_000, 20) },
    ]
}

fn smoke() -> Vec<Run> {
    let small = |purpose| Run { changes: 2, ..run(purpose, 20, 5) };
    vec![
        small(Purpose::Rollout),
        Run { mode: Mode::Sotw, interest: Interest::Some(10), ..small(Purpose::Curve) },
    ]
}

fn run(purpose: Purpose, services: usize, clients: usize) -> Run {
    let (mode, interest) = (Mode::Delta, Interest::Everything);
    Run { purpose, services, per_service: 10, clients, mode, interest, changes: 20 }
}

// === impl Run ===

impl Run {
    /// Endpoints in all.
    pub(super) fn endpoints(&self) -> usize {
        self.services * self.per_service
    }

    /// Pods that a rolling update replaces: as many as a rollout's own targets speak of, if there is room for them.
    pub(super) fn rollout_pods(&self) -> usize {
        ROLLOUT_PODS.min(self.endpoints())
    }

    /// Services that each client holds once it is in sync.
    pub(super) fn wanted(&self) -> usize {
        match self.interest {
            Interest::Everything => self.services,
            Interest::Some(count) => count.min(self.services),
        }
    }

    /// How it is called in progress and tables.
    pub(super) fn title(&self) -> String {
        let wants = match self.interest {
            Interest::Everything => String::new(),
            Interest::Some(count) => format!(" of {count} Services each"),
        };
        format!(
            "{} x {}, {} {} clients{wants}",
            grouped(self.services),
            self.per_service,
            grouped(self.clients),
            self.mode.name()
        )
    }
}

// === impl Mode ===

impl Mode {
    /// Its name in JSON and on the client's command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Delta => "delta",
            Self::Sotw => "sotw",
        }
    }
}

/// Thousands apart, as the project's texts write them.
pub(super) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_that_the_targets_name_is_measured() {
        let sizes: Vec<_> = full().iter().map(|run| (run.services, run.endpoints(), run.clients)).collect();
        for size in
            [(1_000, 10_000, 100), (1_000, 10_000, 500), (10_000, 100_000, 100), (10_000, 100_000, 5_000)]
        {
            assert!(sizes.contains(&size), "{size:?}");
        }
    }

    #[test]
    fn no_service_changes_twice_in_a_run() {
        // The server publishes further changes of one Service together; a run that met that would measure its pace.
        assert!(full().iter().all(|run| run.changes <= CHANGING.min(run.services)));
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([1, 999, 1_000, 1_234_567].map(grouped), ["1", "999", "1 000", "1 234 567"]);
    }
}
