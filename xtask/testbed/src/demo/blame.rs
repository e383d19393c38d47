// SPDX-License-Identifier: Apache-2.0
//! Which failure belongs to which fault. Pure.
//!
//! A fault explains only failures of its own node in its own time; whatever is left counts as an error of the phase.
//! What must always be true: a `connect` that fails is never explained by a killed agent.

use super::figures::{AgentFaults, Sum};
use crate::peer::messages::{Failure, NewConnectionError, NewConnectionErrorKind as Kind};

/// A client notices that its connection was cut as soon as it is scheduled; requests written until then are lost too.
const NOTICE_US: u64 = 100_000;
/// Requests that wait on a hung agent were due up to a deadline before it stopped.
const WAITING_US: u64 = 2_000_000;
/// A client gives a hung connection up after a keepalive PING every second and one second without an answer, and may
/// then wait a second for a new connection that hangs as well.
const REPLACED_US: u64 = 3_000_000;
/// How long before the fault a connection may have begun to open.
const OPENING_US: u64 = 1_000_000;

/// When the faults were injected, in Unix microseconds, and whom they hit.
pub(super) struct Faults<'a> {
    /// Clients on nodes whose agent was killed.
    pub(super) killed: &'a [String],
    /// When the killed agents were gone.
    pub(super) gone_us: u64,
    /// Clients on the node of the stopped agent.
    pub(super) hung: &'a [String],
    /// When an agent was stopped.
    pub(super) stopped_us: u64,
    /// When its heartbeat was stale.
    pub(super) stale_us: u64,
}

/// What the faults explain, and how many failed requests and new connections they do not.
pub(super) fn assign(sum: &Sum, faults: &Faults<'_>) -> (AgentFaults, u64, u64) {
    let mut explained = AgentFaults { short_lived_connections: sum.churned, ..AgentFaults::default() };
    let (mut errors, mut new_connection_errors) = (sum.failures_unlisted, sum.new_connection_errors_unlisted);
    for (client, failure) in &sum.failures {
        if faults.killed.contains(client) && faults.kill_explains(failure) {
            explained.lost_with_killed_agent += 1;
        } else if faults.hung.contains(client) && faults.hang_explains(failure) {
            explained.lost_with_hung_agent += 1;
            explained.lost_with_hung_agent_after_stale += u64::from(failure.at_us >= faults.stale_us);
        } else {
            errors += 1;
        }
    }
    for (client, error) in &sum.new_connection_errors {
        if faults.killed.contains(client) && faults.kill_cut(error) {
            explained.connections_cut_by_kill += 1;
        } else if faults.hung.contains(client) && faults.hang_held(error) {
            explained.new_connection_errors_before_stale += 1;
        } else {
            new_connection_errors += 1;
        }
    }
    (explained, errors, new_connection_errors)
}

impl Faults<'_> {
    fn kill_explains(&self, failure: &Failure) -> bool {
        (self.gone_us.saturating_sub(WAITING_US)..=self.gone_us + NOTICE_US).contains(&failure.at_us)
    }

    fn hang_explains(&self, failure: &Failure) -> bool {
        (self.stopped_us.saturating_sub(WAITING_US)..=self.stale_us + REPLACED_US).contains(&failure.at_us)
    }

    /// Accepted by the agent while it lived, so in flight through it.
    fn kill_cut(&self, error: &NewConnectionError) -> bool {
        let accepted = matches!(error.kind, Kind::HandshakeReset | Kind::HandshakeTimeout);
        accepted && (self.gone_us.saturating_sub(OPENING_US)..self.gone_us).contains(&error.at_us)
    }

    fn hang_held(&self, error: &NewConnectionError) -> bool {
        (self.stopped_us.saturating_sub(OPENING_US)..self.stale_us).contains(&error.at_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::messages::FailureKind;

    fn assign(sum: &Sum) -> (AgentFaults, u64, u64) {
        let (killed, hung) = (["k", "both"].map(String::from), ["h", "both"].map(String::from));
        let (gone_us, stopped_us, stale_us) = (10_000_000, 20_000_000, 22_000_000);
        super::assign(sum, &Faults { killed: &killed, gone_us, hung: &hung, stopped_us, stale_us })
    }

    fn request(client: &str, at_us: u64) -> Sum {
        let failure = Failure { at_us, kind: FailureKind::Reset, churn: false };
        Sum { failures: vec![(client.into(), failure)], ..Sum::default() }
    }

    fn connection(client: &str, at_us: u64, kind: Kind) -> Sum {
        let error = NewConnectionError { at_us, kind, detail: String::new() };
        Sum { new_connection_errors: vec![(client.into(), error)], ..Sum::default() }
    }

    #[test]
    fn requests_in_flight_through_a_killed_agent_are_its_loss_and_later_ones_are_errors() {
        let errors = |client, at| assign(&request(client, at)).1;
        assert_eq!(errors("k", 9_999_000), 0);
        assert_eq!(errors("k", 11_000_000), 1);
        assert_eq!(errors("other", 9_999_000), 1);
    }

    #[test]
    fn a_failed_connect_is_never_explained_by_the_kill() {
        let errors = |at, kind| assign(&connection("k", at, kind)).2;
        assert_eq!(errors(9_999_000, Kind::Connect), 1);
        assert_eq!(errors(9_999_000, Kind::ConnectTimeout), 1);
        assert_eq!(errors(9_999_000, Kind::HandshakeReset), 0);
        assert_eq!(errors(10_000_001, Kind::HandshakeReset), 1);
    }

    #[test]
    fn a_hung_agent_explains_nothing_new_once_its_heartbeat_is_stale() {
        let errors = |at| assign(&connection("h", at, Kind::HandshakeTimeout)).2;
        assert_eq!(errors(21_999_999), 0);
        assert_eq!(errors(22_000_000), 1);
        assert_eq!(assign(&connection("k", 21_000_000, Kind::HandshakeTimeout)).2, 1);
    }

    #[test]
    fn requests_on_old_connections_of_a_hung_agent_are_told_apart_by_the_heartbeat() {
        let (before, errors, _) = assign(&request("h", 20_500_000));
        assert_eq!((before.lost_with_hung_agent, before.lost_with_hung_agent_after_stale, errors), (1, 0, 0));
        let (after, errors, _) = assign(&request("h", 23_000_000));
        assert_eq!((after.lost_with_hung_agent, after.lost_with_hung_agent_after_stale, errors), (1, 1, 0));
        assert_eq!(assign(&request("h", 26_000_000)).1, 1);
    }

    #[test]
    fn each_of_two_faults_of_one_node_explains_what_fell_into_its_own_time() {
        let errors = |at| assign(&request("both", at)).1;
        assert_eq!((errors(9_999_000), errors(20_500_000)), (0, 0));
        assert_eq!((errors(11_000_000), errors(26_000_000)), (1, 1));
    }
}
