// SPDX-License-Identifier: Apache-2.0
//! Outlier detection: endpoints that fail are taken out for a while, by what their own requests tell.
//!
//! Three ways to be out. By success rate and by failure percentage, as in gRFC A50 (and Envoy, which it follows): counted
//! over an interval, judged by [`Detector::sweep`], out for base × how often, back by time. And by failures in a row, as a
//! circuit breaker: out at once, for a back-off that doubles and is jittered; then half-open, where one request is let
//! through as a probe; its success brings the endpoint back, its failure doubles the back-off (linkerd's failure
//! accrual). The statistical ways find what is worse than others; the third finds what is dead, without waiting for a sweep.
//!
//! Always true here: of `n` endpoints at most the larger of one and `max_ejection_percent` of `n` (rounded down) are out or
//! half-open, after every call; an endpoint that is alone is never out, because nobody could take its work. An outcome counts
//! only if its request was admitted in the present state of the endpoint ([`Ticket`]): late failures of a past life neither
//! end nor begin an ejection. Every change has its reason, also the one that was not made. Memory is one small record per
//! endpoint of the list. The same calls give the same changes on any machine.
//!
//! Where A50 leaves room or is looser: the cap is a cap (A50 stops when it is reached, which may be one above); candidates
//! are taken worst first; an endpoint that is out is not ejected again.
//!
//! Cost: a binary search per call, a list of n in n log n. When it fails: the success rate sees only the exception
//! (two bad ones of five hide each other), and failure percentage needs traffic; each node judges alone, and a node whose own
//! network is bad finds its endpoints bad, which is what the cap and [`crate::panic`] are for. Deliberately not here: what
//! counts as a failure (the caller classifies; a "slow down" answer is load, not failure), active health checks, and timers.

mod config;
mod detector;
mod entry;
mod event;
mod statistics;

pub use config::{Config, Consecutive, FailurePercentage, SuccessRate};
pub use detector::{Detector, Ticket};
pub use event::{Cause, Change, Event, Outcome, Restored, Spared, State};

#[cfg(test)]
mod tests;
