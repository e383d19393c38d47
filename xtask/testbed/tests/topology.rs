//! Tier 3 (namespaced): the testbed itself, without any agent: what every other test of this folder stands on.
// SPDX-License-Identifier: Apache-2.0

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use evenkeel_testbed::probe::connect::Report;
use evenkeel_testbed::{Baseline, BaselineService, Fabric, Pod, Spawn, cgroup, eventually, faults};

const SOON: Duration = Duration::from_secs(10);
const PORT: u16 = 7000;

/// Starts an echo server for both families in `pod`.
fn serve(pod: &Pod) -> Result<()> {
    let listen = format!("[::]:{PORT}");
    let server = pod.spawn(&Spawn::testbed(["echo-server", "--listen", &listen, "--name", pod.name()])?)?;
    server.wait_stdout(|text| text.contains("listening"), SOON).map(|_| ())
}

fn probe(pod: &Pod, target: SocketAddr, count: u32) -> Result<Report> {
    let (target, count) = (target.to_string(), count.to_string());
    let probe = Spawn::testbed(["probe-connect", "--target", &target, "--count", &count])?;
    Report::last(&pod.spawn(&probe)?.finish(SOON)?)
}

/// The names in a run's cgroup root and temporary folder, and the host's links and named namespaces.
fn host_state() -> Result<BTreeSet<String>> {
    let mut state = BTreeSet::new();
    let mount = cgroup::cgroup2_mount()?;
    for folder in [mount.as_path(), "/tmp".as_ref(), "/run/netns".as_ref(), "/sys/class/net".as_ref()] {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        let ours = |name: &str| name.contains("evenkeel") || !folder.starts_with("/tmp");
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        state.extend(names.filter(|name| ours(name)).map(|name| format!("{}/{name}", folder.display())));
    }
    Ok(state)
}

/// Network namespaces that any process of the host is in.
fn network_namespaces() -> BTreeSet<u64> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeSet::new() };
    entries.flatten().filter_map(|e| fs::metadata(e.path().join("ns/net")).ok()).map(|m| m.ino()).collect()
}

#[test]
fn a_pod_reaches_a_pod_of_another_node_with_its_own_address() -> Result<()> {
    let fabric = Fabric::new()?;
    let nodes = fabric.add_nodes(&[("left", "zone-a"), ("right", "zone-b")])?;
    let (client, server) = (nodes[0].add_pod("client")?, nodes[1].add_pod("server")?);
    serve(&server)?;
    for (target, own) in [
        (IpAddr::from(server.address()), IpAddr::from(client.address())),
        (server.address6().into(), client.address6().into()),
    ] {
        let report = probe(&client, SocketAddr::new(target, PORT), 20)?;
        assert_eq!(report.lost(), 0, "{report:?}");
        assert_eq!(report.servers.get("server"), Some(&20), "{report:?}");
        assert_eq!(report.seen_as.get(&own.to_string()), Some(&20), "{report:?}");
    }
    fabric.close()
}

#[test]
fn a_service_address_that_nobody_redirects_is_refused_at_once_every_time() -> Result<()> {
    let fabric = Fabric::new()?;
    let pod = fabric.add_node("node", "zone-a")?.add_pod("client")?;
    for target in ["10.96.0.1:80", "[fd96::1]:80"] {
        let report = probe(&pod, target.parse()?, 50)?;
        assert_eq!(report.failed(), 50, "{report:?}");
        assert_eq!(report.errors.get("ECONNREFUSED"), Some(&50), "{report:?}");
    }
    fabric.close()
}

#[test]
fn a_node_looks_like_a_node() -> Result<()> {
    let fabric = Fabric::new()?;
    let node = fabric.add_node("looks", "zone-a")?;
    let pod = node.add_pod("pod")?;
    assert!(node.path(pod.netns_path()).exists(), "the namespace's file is in the node's /run/netns");
    assert!(!pod.netns_path().exists(), "and not in the host's");
    let script = "hostname; cat /proc/self/cgroup | grep '^0::'; readlink /proc/self/ns/cgroup; echo $$; \
                  grep -c ' - cgroup2 ' /proc/self/mountinfo; stat -f -c %T /sys/fs/bpf; ls /sys/kernel/btf/vmlinux";
    let inside = node.spawn(&Spawn::new("sh").args(["-c", script]).cgroup("agent"))?;
    let text = inside.finish(SOON)?;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "looks", "{text}");
    assert_eq!(lines[1], "0::/agent", "the node's cgroup is the root of what it sees: {text}");
    assert_ne!(lines[2], fs::read_link("/proc/self/ns/cgroup")?.to_string_lossy(), "{text}");
    assert!(lines[3].parse::<u32>()? < 100, "a pid namespace of its own: {text}");
    assert_eq!(lines[4], "1", "one cgroup2 mount, its own: {text}");
    assert_eq!(lines[5], "bpf_fs", "{text}");
    fabric.close()
}

#[test]
fn a_deleted_pod_takes_its_veth_with_it() -> Result<()> {
    let fabric = Fabric::new()?;
    let node = fabric.add_node("node", "zone-a")?;
    let pod = node.add_pod("short-lived")?;
    serve(&pod)?;
    let link = pod.veth();
    node.exec(&["ip", "link", "show", &link])?;
    pod.delete()?;
    eventually("the veth is gone", Duration::from_secs(1), || {
        ensure!(node.exec(&["ip", "link", "show", &link]).is_err(), "{link} is there");
        Ok(())
    })?;
    assert!(!node.path(pod.netns_path()).exists());
    assert!(!pod.cgroup().exists());
    assert!(node.pods().is_empty());
    fabric.close()
}

#[test]
fn the_end_of_a_process_is_seen_with_its_reason() -> Result<()> {
    let fabric = Fabric::new()?;
    let node = fabric.add_node("node", "zone-a")?;
    let pod = node.add_pod("pod")?;
    assert_eq!(pod.spawn(&Spawn::new("sh").args(["-c", "exit 7"]))?.wait(SOON)?.code, Some(7));
    let sleeper = pod.spawn(&Spawn::new("sleep").arg("1000"))?;
    assert_eq!(sleeper.try_status(), None);
    sleeper.kill()?;
    assert_eq!(sleeper.wait(SOON)?.signal, Some(libc::SIGKILL));
    let error = pod.spawn(&Spawn::new("/does/not/exist")).err().context("it cannot be started")?;
    assert!(format!("{error:#}").contains("/does/not/exist"), "{error:#}");
    let survivor = pod.spawn(&Spawn::new("sleep").arg("1000"))?;
    node.kill()?;
    assert_eq!(survivor.wait(SOON)?.signal, Some(libc::SIGKILL), "a node without power has no processes");
    eventually("the node is known to be gone", SOON, || {
        ensure!(!node.alive(), "its init is not gone");
        Ok(())
    })?;
    fabric.close()
}

#[test]
fn nothing_is_left_after_a_drop() -> Result<()> {
    let (state, namespaces) = (host_state()?, network_namespaces());
    let fabric = Fabric::new()?;
    let node = fabric.add_node("node", "zone-a")?;
    serve(&node.add_pod("pod")?)?;
    assert_eq!(difference(&state)?.len(), 2, "only the run's cgroup and folder are visible on the host");
    drop(fabric);
    assert_eq!(difference(&state)?, Vec::<String>::new());
    assert!(network_namespaces().is_subset(&namespaces));
    assert!(node.add_pod("late").is_err(), "handles that remain say that the node is gone");
    Ok(())
}

fn difference(before: &BTreeSet<String>) -> Result<Vec<String>> {
    Ok(host_state()?.difference(before).cloned().collect())
}

#[test]
fn nothing_is_left_after_kill_9_of_the_creator() -> Result<()> {
    let (state, namespaces) = (host_state()?, network_namespaces());
    let mut creator = Command::new(env!("CARGO_BIN_EXE_evenkeel-testbed"))
        .args(["up", "--nodes", "2", "--pods", "1"])
        .stdout(Stdio::piped())
        .spawn()?;
    let output = BufReader::new(creator.stdout.take().context("piped")?);
    let mut lines = output.lines().map_while(Result::ok);
    ensure!(lines.any(|line| line.starts_with("up in")), "the creator did not come up");
    assert!(!difference(&state)?.is_empty(), "it made something");
    creator.kill()?;
    creator.wait()?;
    eventually("the reaper removed the run", SOON, || {
        let left = difference(&state)?;
        ensure!(left.is_empty(), "left: {left:?}");
        let extra: Vec<u64> = network_namespaces().difference(&namespaces).copied().collect();
        ensure!(extra.is_empty(), "network namespaces left: {extra:?}");
        Ok(())
    })
}

#[test]
fn the_baseline_spreads_connects_and_keeps_the_clients_address() -> Result<()> {
    let fabric = Fabric::new()?;
    let nodes = fabric.add_nodes(&[("left", "zone-a"), ("right", "zone-b")])?;
    let client = nodes[0].add_pod("client")?;
    let mut endpoints = Vec::new();
    for (node, name) in [(&nodes[0], "s0"), (&nodes[1], "s1"), (&nodes[1], "s2")] {
        let pod = node.add_pod(name)?;
        serve(&pod)?;
        endpoints.push(SocketAddrV4::new(pod.address(), PORT));
    }
    let (vip, port) = ("10.96.0.10".parse()?, 80);
    let service = |endpoints| vec![BaselineService { name: "echo".into(), vip, port, endpoints }];
    Baseline::new(service(endpoints.clone())).install(&nodes[0])?;
    let target = SocketAddr::new(vip.into(), port);
    let report = probe(&client, target, 300)?;
    assert_eq!(report.lost(), 0, "{report:?}");
    assert_eq!(report.servers.len(), 3, "{report:?}");
    // Binomial(300, 1/3): mean 100, deviation 8.2; six deviations.
    assert!(report.servers.values().all(|&n| (50..=150).contains(&n)), "{report:?}");
    assert_eq!(report.seen_as.get(&client.address().to_string()), Some(&300), "{report:?}");
    Baseline::new(service(endpoints[..1].to_vec())).install(&nodes[0])?;
    let report = probe(&client, target, 20)?;
    assert_eq!(report.servers.get("s0"), Some(&20), "an update replaces the rules: {report:?}");
    Baseline::remove(&nodes[0])?;
    assert_eq!(probe(&client, target, 5)?.failed(), 5, "no rules, no service");
    fabric.close()
}

#[test]
fn a_policy_drops_one_client_and_heals() -> Result<()> {
    let fabric = Fabric::new()?;
    let nodes = fabric.add_nodes(&[("left", "zone-a"), ("right", "zone-b")])?;
    let (denied, allowed) = (nodes[0].add_pod("denied")?, nodes[0].add_pod("allowed")?);
    let server = nodes[1].add_pod("server")?;
    serve(&server)?;
    let target = SocketAddr::new(server.address().into(), PORT);
    let fault = faults::deny(&denied, &server)?;
    assert_eq!(probe(&denied, target, 1)?.errors.get("timeout"), Some(&1));
    assert_eq!(probe(&allowed, target, 5)?.lost(), 0);
    fault.heal()?;
    assert_eq!(probe(&denied, target, 5)?.lost(), 0);
    fabric.close()
}

#[test]
fn a_partition_cuts_a_node_off_the_control_node_only() -> Result<()> {
    let fabric = Fabric::new()?;
    let nodes = fabric.add_nodes(&[("left", "zone-a"), ("right", "zone-b")])?;
    let control = fabric.control()?;
    let ping = |from: &evenkeel_testbed::Node| {
        let port = SocketAddr::new(control.address().into(), 9);
        from.in_netns(|| Ok(std::net::TcpStream::connect_timeout(&port, Duration::from_millis(300)).err()))
    };
    let refused =
        |error: Option<std::io::Error>| error.and_then(|e| e.raw_os_error()) == Some(libc::ECONNREFUSED);
    assert!(refused(ping(&nodes[0])?));
    let fault = faults::partition(&nodes[0], control.address().into())?;
    assert!(!refused(ping(&nodes[0])?), "nothing comes through");
    assert!(refused(ping(&nodes[1])?));
    drop(fault);
    assert!(refused(ping(&nodes[0])?));
    fabric.close()
}
