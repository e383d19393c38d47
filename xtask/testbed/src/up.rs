// SPDX-License-Identifier: Apache-2.0
//! `up`: nodes and pods to look around in, until Ctrl-C or SIGTERM. Prints how to enter each.

use std::ffi::OsString;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use evenkeel_testbed::{Fabric, Node};
use nix::sys::signal::{SigSet, Signal};

#[derive(Debug, Parser)]
#[command(name = "evenkeel-testbed up")]
struct Args {
    /// How many nodes, over three zones
    #[arg(long, default_value_t = 6)]
    nodes: usize,
    /// How many pods on each
    #[arg(long, default_value_t = 3)]
    pods: usize,
    /// Remove everything as soon as it is up, and print how long both took
    #[arg(long)]
    once: bool,
}

pub(crate) fn main(args: Vec<OsString>) -> Result<()> {
    let args = Args::try_parse_from(std::iter::once("up".into()).chain(args))?;
    // Blocked before any thread starts, so that the signal waits to be taken below, and drops run.
    let mut end = SigSet::empty();
    end.add(Signal::SIGINT);
    end.add(Signal::SIGTERM);
    end.thread_block().context("block signals")?;
    let start = Instant::now();
    let fabric = Fabric::new()?;
    let names: Vec<(String, String)> = (0..args.nodes)
        .map(|i| (format!("node-{}", i + 1), format!("zone-{}", char::from(b'a' + (i % 3) as u8))))
        .collect();
    let names: Vec<(&str, &str)> = names.iter().map(|(name, zone)| (name.as_str(), zone.as_str())).collect();
    for node in fabric.add_nodes(&names)? {
        for p in 0..args.pods {
            node.add_pod(&format!("pod-{}-{p}", node.number()))?;
        }
        show(&node);
    }
    println!("up in {:.2} s; logs in {}", start.elapsed().as_secs_f64(), fabric.run_dir().display());
    if !args.once {
        println!("Ctrl-C removes everything");
        end.wait().context("wait for a signal")?;
    }
    let start = Instant::now();
    fabric.close()?;
    println!("removed in {:.2} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn show(node: &Node) {
    println!(
        "{} ({}) {} {}: nsenter -t {} -a",
        node.name(),
        node.zone(),
        node.address(),
        node.address6(),
        node.init_pid()
    );
    for pod in node.pods() {
        println!(
            "  {} {} {}: nsenter -t {} -a nsenter --net={}",
            pod.name(),
            pod.address(),
            pod.address6(),
            node.init_pid(),
            pod.netns_path().display()
        );
    }
}
