// SPDX-License-Identifier: Apache-2.0
//! The kernel programs in the kernel, with real sockets. Needs root; fails without.
//!
//! All addresses are on loopback of the test's own network namespace, which has nothing else. Where a connect left alone
//! must be told from one that was balanced, a fallback server listens at the Service address itself, as kube-proxy's rules
//! would stand behind it.

mod balance;
mod handover;
mod lifecycle;
mod measure;
mod node;
