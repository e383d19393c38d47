// SPDX-License-Identifier: Apache-2.0
//! Which clients call a service from which zone: who sends the requests of a trace, and through whom the users of a lost zone
//! come in.

use evenkeel_balance::rng::{Rng, SplitMix64};

use crate::model::LostClients;

/// Who calls a service from where.
#[derive(Debug, Default)]
pub(super) struct Callers {
    /// Clients of (service, zone), and whose turn it is.
    pub(super) of: Vec<Vec<(Vec<u32>, usize)>>,
}

impl Callers {
    pub(super) fn new(services: usize, zones: usize) -> Self {
        Self { of: vec![vec![(Vec::new(), 0); zones]; services] }
    }

    /// The client of a service in a zone whose turn it is.
    pub(super) fn next(&mut self, service: usize, zone: usize) -> Option<u32> {
        let (clients, turn) = &mut self.of[service][zone];
        let client = clients.get(*turn).copied()?;
        *turn = (*turn + 1) % clients.len();
        Some(client)
    }

    /// A client of the service in a zone that is there, drawn by the request's own randomness.
    pub(super) fn elsewhere(&self, service: usize, seed: u64, lost: &[Option<LostClients>]) -> Option<u32> {
        let there =
            || self.of[service].iter().zip(lost).filter(|(_, lost)| lost.is_none()).map(|((c, _), _)| c);
        let all: usize = there().map(Vec::len).sum();
        if all == 0 {
            return None;
        }
        let mut place = SplitMix64::new(seed ^ 0x2545_f491_4f6c_dd1d).below(all);
        for clients in there() {
            match clients.get(place) {
                Some(client) => return Some(*client),
                None => place -= clients.len(),
            }
        }
        None
    }
}
