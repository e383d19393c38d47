// SPDX-License-Identifier: Apache-2.0
//! What all clients of a process have seen together: who is in sync, whom a change has reached, how many messages came.
//! Pure; instants are nanoseconds of the machine's monotonic clock, which the measuring process reads too.

/// Arrivals closer than a pace of 100 ms by this much still keep it: the way there takes longer for one than for the next.
const JITTER: u64 = 10_000_000;
/// The pace at which a client may be told of a rolling update.
const PACE: u64 = 100_000_000;

/// See the module.
#[derive(Default)]
pub(super) struct Board {
    synced: usize,
    /// The change that is looked for.
    change: Option<Change>,
    /// When each client was told of clusters, while that is recorded.
    told: Option<Vec<Vec<u64>>>,
}

/// A change on its way.
pub(super) struct Change {
    pub(super) service: usize,
    /// Bytes that no earlier version of the resource has.
    pub(super) marker: Vec<u8>,
    pub(super) clients: usize,
    arrived: Vec<u64>,
}

impl Board {
    /// One more client has everything; how many that are.
    pub(super) fn synced(&mut self) -> usize {
        self.synced += 1;
        self.synced
    }

    /// Look for this from now on.
    pub(super) fn expect(&mut self, service: usize, marker: Vec<u8>, clients: usize) {
        self.change = Some(Change { service, marker, clients, arrived: Vec::with_capacity(clients) });
    }

    /// Whether this resource is the change that is looked for.
    pub(super) fn is_expected(&self, service: Option<usize>, body: &[u8]) -> bool {
        let found = |change: &Change| contains(body, &change.marker);
        self.change.as_ref().is_some_and(|change| Some(change.service) == service && found(change))
    }

    /// It has reached one more client. All instants, once it has reached everybody.
    pub(super) fn arrived(&mut self, at: u64) -> Option<Vec<u64>> {
        let change = self.change.as_mut()?;
        change.arrived.push(at);
        (change.arrived.len() == change.clients).then(|| self.change.take().map(|change| change.arrived))?
    }

    /// Starts to record messages of so many clients.
    pub(super) fn record(&mut self, clients: usize) {
        self.told = Some(vec![Vec::new(); clients]);
    }

    /// A client was told of clusters.
    pub(super) fn told(&mut self, client: usize, at: u64) {
        if let Some(list) = self.told.as_mut().and_then(|told| told.get_mut(client)) {
            list.push(at);
        }
    }

    /// Stops recording: the most messages that a client got, and the most that one got within a pace.
    pub(super) fn recorded(&mut self) -> (usize, usize) {
        let told = self.told.take().unwrap_or_default();
        let most = told.iter().map(Vec::len).max().unwrap_or(0);
        (most, told.iter().map(|list| densest(list, PACE - JITTER)).max().unwrap_or(0))
    }
}

/// The most instants in any span of this length.
fn densest(instants: &[u64], span: u64) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, at) in instants.iter().enumerate() {
        while at - instants[first] >= span {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

fn contains(body: &[u8], marker: &[u8]) -> bool {
    body.windows(marker.len()).any(|part| part == marker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_over_when_it_has_reached_everybody() {
        let mut board = Board::default();
        board.expect(3, b"new".to_vec(), 2);
        assert!(board.is_expected(Some(3), b"a new one"));
        assert!(!board.is_expected(Some(3), b"an old one") && !board.is_expected(Some(4), b"a new one"));
        assert_eq!(board.arrived(10), None);
        assert_eq!(board.arrived(20), Some(vec![10, 20]));
        assert!(!board.is_expected(Some(3), b"a new one"));
    }

    #[test]
    fn the_densest_span_is_found_wherever_it_lies() {
        assert_eq!(densest(&[], 90), 0);
        assert_eq!(densest(&[0, 90, 180], 90), 1);
        assert_eq!(densest(&[0, 89, 100, 178, 300], 90), 3);
    }

    #[test]
    fn the_client_with_the_most_messages_counts() {
        let mut board = Board::default();
        board.told(0, 1);
        board.record(2);
        board.told(0, 1);
        board.told(1, 5);
        board.told(1, 200_000_000);
        assert_eq!(board.recorded(), (2, 1));
        assert_eq!(board.recorded(), (0, 0));
    }
}
