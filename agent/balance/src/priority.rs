// SPDX-License-Identifier: Apache-2.0
//! Which endpoints serve now: those of the best priority that has a healthy one.
//!
//! Priorities are xDS's: 0 is the best, and discovery puts the client's own zone there (`prefer`). The rule is the plain
//! failover of gRPC's priority policy (gRFC A56) without its timers: no healthy endpoint there, on to the next. When no
//! priority has one, endpoints that are draining but still serve are better than none (Kubernetes' own rule for terminating
//! endpoints, KEP-1669). Deliberately not here: partial spill by load, which needs demand and capacity.

/// What is known of an endpoint's ability to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// Takes new work.
    Healthy,
    /// Finishes what it has; new work only when nobody else can take it.
    Draining,
    /// Takes nothing.
    Unhealthy,
}

/// Why a plan is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The best priority serves.
    Preferred,
    /// The best priority has no healthy endpoint; a lower one serves.
    FailedOver,
    /// Nothing is healthy; what is draining still serves.
    OnlyDraining,
    /// There is nothing that could serve.
    NoEndpoint,
}

impl Reason {
    /// The code shown to users.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Preferred => "preferred",
            Self::FailedOver => "failed-over",
            Self::OnlyDraining => "only-draining",
            Self::NoEndpoint => "no-endpoint",
        }
    }
}

/// Who serves, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Indices into the endpoints given, ascending.
    pub active: Vec<usize>,
    /// The priority that serves; zero when nothing does.
    pub priority: u32,
    /// See [`Reason`].
    pub reason: Reason,
}

/// Plans over (priority, health) of each endpoint.
#[must_use]
pub fn plan(endpoints: &[(u32, Health)]) -> Plan {
    let best = endpoints.iter().map(|(p, _)| *p).min();
    for (health, degraded) in [(Health::Healthy, false), (Health::Draining, true)] {
        let Some(priority) = endpoints.iter().filter(|(_, h)| *h == health).map(|(p, _)| *p).min() else {
            continue;
        };
        let serves = |(p, h): &(u32, Health)| *p == priority && *h == health;
        let active = endpoints.iter().enumerate().filter(|(_, e)| serves(e)).map(|(i, _)| i).collect();
        let reason = match (degraded, Some(priority) == best) {
            (true, _) => Reason::OnlyDraining,
            (false, true) => Reason::Preferred,
            (false, false) => Reason::FailedOver,
        };
        return Plan { active, priority, reason };
    }
    Plan { active: Vec::new(), priority: 0, reason: Reason::NoEndpoint }
}

#[cfg(test)]
mod tests {
    use super::{Health::*, *};
    use proptest::prelude::*;

    #[test]
    fn the_best_priority_serves_alone_while_it_has_a_healthy_endpoint() {
        let plan = plan(&[(0, Healthy), (1, Healthy), (0, Unhealthy), (0, Draining)]);
        assert_eq!((plan.active, plan.reason), (vec![0], Reason::Preferred));
    }

    #[test]
    fn the_next_priority_serves_when_the_best_has_none() {
        let plan = plan(&[(0, Unhealthy), (1, Healthy), (1, Healthy), (2, Healthy)]);
        assert_eq!((plan.active, plan.priority, plan.reason), (vec![1, 2], 1, Reason::FailedOver));
    }

    #[test]
    fn draining_endpoints_serve_only_when_nothing_is_healthy() {
        let plan = plan(&[(0, Unhealthy), (1, Draining), (1, Draining)]);
        assert_eq!((plan.active, plan.reason), (vec![1, 2], Reason::OnlyDraining));
    }

    #[test]
    fn nothing_that_serves_is_said_so() {
        assert_eq!(plan(&[]).reason, Reason::NoEndpoint);
        assert_eq!(plan(&[(0, Unhealthy)]).reason, Reason::NoEndpoint);
    }

    proptest! {
        #[test]
        fn active_endpoints_are_of_one_priority_and_never_unhealthy(
            endpoints in prop::collection::vec((0u32..4, prop_oneof![Just(Healthy), Just(Draining), Just(Unhealthy)]), 0..40)
        ) {
            let plan = plan(&endpoints);
            prop_assert!(plan.active.iter().all(|i| endpoints[*i].0 == plan.priority && endpoints[*i].1 != Unhealthy));
            prop_assert_eq!(plan.active.is_empty(), endpoints.iter().all(|(_, h)| *h == Unhealthy));
            prop_assert!(plan.active.is_sorted());
        }
    }
}
