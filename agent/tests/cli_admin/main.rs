// SPDX-License-Identifier: Apache-2.0
//! Tier 2: the real binary's commands, the admin API and the HTTP server against an agent that is only facts.
//!
//! Whole outputs are compared with the files in `golden/`; `EVENKEEL_BLESS=1` writes them anew.

mod commands;
mod explain;
mod fake;
mod http;
mod server;
