// SPDX-License-Identifier: Apache-2.0
//! Pure balancing: which endpoints serve, in what proportion, and which one takes the next request.
//!
//! Always true here: no I/O, no clock, no randomness of its own (see `clippy.toml`). Time and random numbers are
//! arguments, so that the same code runs in the agent, in the kernel's slot tables and in a simulator, and gives the
//! same answer for the same input on any machine.
//!
//! * [`priority`]: from endpoints with priorities and health to the set that serves now, with the reason;
//! * [`alias`]: any weights to a table from which a weighted draw costs the same for all;
//! * [`picker`]: who takes the next request, given a view of the loads;
//! * [`latency`]: what latency to expect of an endpoint, errors included;
//! * [`report`]: weights from the endpoints' own load reports;
//! * [`zone`]: the split of each zone's traffic over the zones, local while the zone can take it;
//! * [`outlier`]: which endpoints are out for a while, by what their own requests tell;
//! * [`mod@panic`]: when too few endpoints are healthy for health to be believed;
//! * [`slow_start`]: the weight of a new endpoint grows over a window;
//! * [`invalid`]: what is wrong with a configuration;
//! * [`aperture`]: which part of a large set of endpoints this client talks to;
//! * [`load`]: requests in flight and outcomes, by a guard;
//! * [`subset`]: endpoints by the value of a label, with a fallback;
//! * [`slots`]: alias tables that change little from one version to the next;
//! * [`rng`]: the generator trait and a small seeded generator.
//!
//! Deliberately not here: sockets, requests, xDS, BPF maps. To add a picker, write one file in `picker/` and one line
//! in its registry.
#![forbid(unsafe_code)]

pub mod alias;
pub mod aperture;
pub mod invalid;
pub mod latency;
pub mod load;
pub mod outlier;
pub mod panic;
pub mod picker;
pub mod priority;
pub mod report;
pub mod rng;
pub mod slots;
pub mod slow_start;
pub mod subset;
pub mod zone;
