// SPDX-License-Identifier: Apache-2.0
//! `evenkeel-testbed client`: long-lived HTTP/2 connections to one address and open-loop load over them.
//!
//! Requests are due at the times of a Poisson process and go round robin over the connections, whether or not earlier
//! ones have been answered; latency counts from the due time, so that a stall is seen by all requests that it delays
//! (no coordinated omission). What must always be true: every request that was due is counted exactly once, as answered
//! or as failed; only requests that no server can have seen are tried again.
//!
//! Deliberately not here: balancing. The client knows one address.

mod connection;
mod interval;
mod load;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use tokio::task::LocalSet;

/// Long-lived gRPC connections and open-loop load
#[derive(Clone, Debug, Parser)]
#[command(name = "client")]
pub struct Args {
    /// Where to connect to, normally a Service's cluster IP
    #[arg(long)]
    pub target: SocketAddr,
    /// The pod's name; seeds the arrival times
    #[arg(long)]
    pub name: String,
    /// The pod's zone
    #[arg(long)]
    pub zone: String,
    /// The pod's own address, which servers must see; not checked when absent
    #[arg(long)]
    pub source: Option<IpAddr>,
    /// Long-lived connections
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Requests per second over all of them
    #[arg(long, default_value_t = 100.0, value_parser = rate)]
    pub rate: f64,
    /// Short-lived connections per second besides, one request each
    #[arg(long, default_value_t = 0.0, value_parser = rate)]
    pub churn: f64,
    /// How long a request may take from the time it was due
    #[arg(long, default_value_t = 2_000)]
    pub deadline_ms: u64,
    /// How long opening a connection may take, including the first answer in HTTP/2
    #[arg(long, default_value_t = 1_000)]
    pub connect_timeout_ms: u64,
    /// How long the answer to a PING may take before a connection is given up; one is sent every second
    #[arg(long, default_value_t = 1_000)]
    pub keepalive_timeout_ms: u64,
    /// Unix socket of the orchestrator
    #[arg(long)]
    pub control: Option<PathBuf>,
    /// Run this long, then print one report as a JSON line and exit
    #[arg(long)]
    pub for_ms: Option<u64>,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate >= 0.0 => Ok(rate),
        _ => Err("not a number of events per second, zero or more".to_owned()),
    }
}

/// Runs the client: for `--for-ms`, or until the orchestrator has gone, or until it is killed.
pub fn main(args: Vec<OsString>) -> Result<()> {
    let args = Args::try_parse_from(std::iter::once("client".into()).chain(args))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let client = load::Client::start(&args);
        match (&args.control, args.for_ms) {
            (Some(path), _) => client.serve(path).await,
            (None, Some(for_ms)) => {
                tokio::time::sleep(Duration::from_millis(for_ms)).await;
                println!("{}", serde_json::to_string(&client.report().await)?);
                Ok(())
            }
            (None, None) => std::future::pending().await,
        }
    })
}

#[cfg(test)]
pub(super) use load::Client;
