//! Tier 3 (namespaced): input that is wrong, and nodes that lack what an agent needs. Each is said clearly, good data
//! stays in force, nothing panics.
// SPDX-License-Identifier: Apache-2.0

mod world;

use std::fs;

use anyhow::{Result, ensure};
use evenkeel_testbed::{AgentOptions, Fabric, Node, Spawn, binaries, eventually};
use world::{ECHO_VIP, Load, Plan, SOON, World, all_well, await_endpoints, probe, start_load};

const ONE: Plan = Plan { nodes: &[("a1", "zone-a")], servers: 2, agent_args: &[] };

/// A file, and what discovery must say about it.
const MANIFESTS: [(&str, &str, &[&str]); 5] = [
    ("not-yaml.yaml", "kind: [unclosed\n  : :", &["not-yaml.yaml"]),
    (
        "no-name.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {namespace: demo}\nspec: {clusterIP: 10.96.1.1}\n",
        &["no-name.yaml", "name"],
    ),
    (
        "label.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {namespace: demo, name: odd, labels: {evenkeel.io/balance: sideways}}\n\
         spec: {clusterIP: 10.96.1.2, ports: [{name: a, port: 80}]}\n",
        &["demo/odd", "evenkeel.io/balance", "sideways"],
    ),
    (
        "weight.yaml",
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {namespace: demo, name: light, \
         labels: {kubernetes.io/service-name: echo}, annotations: {evenkeel.io/weight: '0'}}\naddressType: IPv4\n\
         ports: [{name: tcp-echo, port: 7000}]\nendpoints: [{addresses: [10.244.9.9]}]\n",
        &["demo/light", "evenkeel.io/weight"],
    ),
    (
        "address.yaml",
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {namespace: demo, name: torn, \
         labels: {kubernetes.io/service-name: echo}}\naddressType: IPv4\nports: [{name: tcp-echo, port: 7000}]\n\
         endpoints: [{addresses: [10.244.9.999]}]\n",
        &["demo/torn", "10.244.9.999"],
    ),
];

/// Writes all bad manifests and waits until discovery has said what is wrong with each.
fn spoil(world: &World) -> Result<()> {
    for (file, text, _) in MANIFESTS {
        world.manifests.write(file, text)?;
    }
    let discovery = world.discovery.as_ref().expect("it was started");
    for (file, _, words) in MANIFESTS {
        eventually(&format!("discovery tells about {file}"), SOON, || {
            let told = discovery.stderr();
            let told = told.lines().any(|line| words.iter().all(|word| line.contains(word)));
            ensure!(told, "no line with {words:?}\n{}", discovery.tail());
            Ok(())
        })?;
    }
    ensure!(discovery.try_status().is_none(), "{}", discovery.tail());
    ensure!(!discovery.stderr().contains("panicked"), "{}", discovery.tail());
    Ok(())
}

#[test]
fn each_bad_manifest_is_named_with_its_object_and_field() -> Result<()> {
    let mut world = World::without_agents(&ONE)?;
    world.start_discovery()?;
    let discovery = world.discovery.as_ref().expect("it was started");
    ensure!(!discovery.stderr().contains("WARN"), "good manifests raise no warning\n{}", discovery.tail());
    spoil(&world)?;
    world.fabric.close()
}

#[test]
fn bad_manifests_leave_good_ones_in_force() -> Result<()> {
    let world = World::new(&ONE)?;
    spoil(&world)?;
    all_well(&probe(&world.clients[0], ECHO_VIP, 50)?, &world.clients[0])?;
    Load::of(&start_load(&world.clients[0], 100, 1_000, &[])?)?.flawless(50)?;
    // And a good change still gets through. Beside the one that is left there is the endpoint of `light`: its slice is
    // good but for the weight, so it is kept, at the weight of any other.
    await_endpoints(&world.agents[0], "demo/echo", 3)?;
    world.publish(&world.servers[..1])?;
    await_endpoints(&world.agents[0], "demo/echo", 2)?;
    world.fabric.close()
}

#[test]
fn a_good_file_that_turns_bad_keeps_its_last_good_objects() -> Result<()> {
    let world = World::new(&ONE)?;
    world.manifests.write("service-demo-echo.yaml", "kind: [")?;
    let discovery = world.discovery.as_ref().expect("it was started");
    eventually("discovery tells about the file", SOON, || {
        ensure!(discovery.stderr().contains("service-demo-echo.yaml"), "{}", discovery.tail());
        Ok(())
    })?;
    all_well(&probe(&world.clients[0], ECHO_VIP, 50)?, &world.clients[0])?;
    ensure!(world.agents[0].json(&["explain", ECHO_VIP])?["verdict"] == "kernel");
    world.fabric.close()
}

#[test]
fn ten_thousand_endpoints_in_one_slice_are_served() -> Result<()> {
    let world = World::new(&ONE)?;
    let endpoints: Vec<evenkeel_testbed::EndpointSpec> = (0..10_000u32)
        .map(|n| {
            let mut endpoint = evenkeel_testbed::EndpointSpec::of(&world.servers[0]);
            endpoint.address = std::net::Ipv4Addr::from(0x0A32_0000 + n).into();
            endpoint.zone = "zone-far".into();
            endpoint
        })
        .collect();
    let port = world::echo_port();
    let service =
        evenkeel_testbed::ServiceSpec::balanced("vast", "connection", "10.96.0.50", vec![port.clone()]);
    world.manifests.service(&service)?;
    world.manifests.endpoints("demo", "vast", &endpoints, &[port])?;
    await_endpoints(&world.agents[0], "demo/vast", 10_000)?;
    all_well(&probe(&world.clients[0], ECHO_VIP, 50)?, &world.clients[0])?;
    world.fabric.close()
}

#[test]
fn a_corrupt_last_good_file_is_named_and_passed_over() -> Result<()> {
    let mut world = World::new(&ONE)?;
    world.agents[0].terminate()?;
    world.agents[0].wait(SOON)?;
    let state = world.nodes[0].path(&world.options.state_dir);
    let files: Vec<_> = fs::read_dir(&state)?.flatten().filter(|entry| entry.path().is_file()).collect();
    ensure!(!files.is_empty(), "there is a last-good file in {}", state.display());
    for file in &files {
        fs::write(file.path(), b"\x00garbage")?;
    }
    world.restart_agent(0)?;
    let told = world.agents[0].stderr();
    ensure!(files.iter().any(|file| told.contains(&*file.file_name().to_string_lossy())), "{told}");
    await_endpoints(&world.agents[0], "demo/echo", world.servers.len())?;
    world.fabric.close()
}

/// Starts an agent that cannot work, and returns what it said at its end.
fn refusal(node: &Node, options: &AgentOptions) -> Result<String> {
    let agent = node.start_agent(options)?;
    let exit = agent.wait(SOON)?;
    let told = agent.stderr();
    ensure!(exit.code.is_some_and(|code| code != 0 && code != 101), "{exit:?}\n{told}");
    ensure!(!told.contains("panicked"), "{told}");
    Ok(told)
}

#[test]
fn a_node_without_cgroup2_is_refused_in_clear_words() -> Result<()> {
    let fabric = Fabric::new()?;
    let node = fabric.add_node("bare", "zone-a")?;
    let mount = node.cgroup_mount().to_string_lossy().into_owned();
    node.exec(&["umount", &mount])?;
    let init = node.init_pid();
    let told = refusal(&node, &AgentOptions::default());
    // The node's init writes to the cgroup it cannot see any more: ask for the agent the short way.
    let told = match told {
        Ok(told) => told,
        Err(_) => {
            let evenkeel = binaries::find("evenkeel")?;
            let run = [
                &*evenkeel.to_string_lossy(),
                "run",
                "--discovery",
                "http://127.0.0.1:1",
                "--state-dir",
                "/run/s",
            ];
            ensure!(init > 0);
            format!("{:#}", node.exec(&run).err().ok_or_else(|| anyhow::anyhow!("it ran"))?)
        }
    };
    ensure!(told.contains("cgroup2"), "{told}");
    fabric.close()
}

#[test]
fn a_kernel_without_btf_is_refused_in_clear_words() -> Result<()> {
    let fabric = Fabric::new()?;
    let node = fabric.add_node("bare", "zone-a")?;
    node.exec(&["mount", "-t", "tmpfs", "none", "/sys/kernel/btf"])?;
    let told = refusal(&node, &AgentOptions::default())?;
    ensure!(told.contains("BTF"), "{told}");
    fabric.close()
}

#[test]
fn an_agent_without_rights_is_refused_in_clear_words() -> Result<()> {
    let fabric = Fabric::new()?;
    let node = fabric.add_node("bare", "zone-a")?;
    let evenkeel = binaries::find("evenkeel")?.to_string_lossy().into_owned();
    let agent = Spawn::new("setpriv")
        .args([
            "--bounding-set=-all",
            "--inh-caps=-all",
            &evenkeel,
            "run",
            "--discovery",
            "http://127.0.0.1:1",
        ])
        .args(["--state-dir", "/run/evenkeel/state"]);
    let agent = node.spawn(&agent)?;
    let exit = agent.wait(SOON)?;
    ensure!(exit.code.is_some_and(|code| code != 0 && code != 101), "{exit:?}\n{}", agent.tail());
    let told = agent.stderr();
    ensure!(told.contains("CAP_") || told.contains("SYS_ADMIN") || told.contains("root"), "{told}");
    fabric.close()
}
