// SPDX-License-Identifier: Apache-2.0
//! gRPC peers: a server that works for a known time and a client that offers load without being slowed down by it.
//!
//! Both are processes of their own, started in pods, one single-threaded runtime each, so that a request costs little
//! beside what is measured. What must always be true:
//! * a response says who answered and whom the server saw, so that every figure comes from the traffic itself;
//! * the client's arrivals do not wait for responses, and latency counts from the time a request was due;
//! * reports travel over a unix socket or standard output, never over the network under test.
//!
//! Deliberately not here: any knowledge of Evenkeel. The peers see a virtual address and nothing else.

pub mod client;
pub(crate) mod clock;
mod control;
mod grpc;
pub mod messages;
mod random;
pub mod server;

#[cfg(test)]
mod tests;
