// SPDX-License-Identifier: Apache-2.0
//! The writer with real sources: fallback clusters, and changes that come faster than anybody needs them. Tier 2.

mod harness;

use std::time::Instant;

use evenkeel_discovery::config::{Fallback, FallbackPlace};
use evenkeel_discovery::pace::WINDOW;
use tempfile::TempDir;

use harness::{Client, Server, cluster, put, service, slice};

fn web(addresses: &[(&str, &str)]) -> String {
    format!("{}---\n{}", service("web"), slice("web", addresses))
}

fn endpoints(list: &[(u32, &str)]) -> Vec<(u32, String)> {
    list.iter().map(|(priority, address)| (*priority, (*address).to_owned())).collect()
}

#[tokio::test]
async fn a_fallbacks_endpoints_follow_behind_ours_and_take_over_when_there_are_none() {
    let west = TempDir::new().unwrap();
    put(west.path(), "web.yaml", &slice("web", &[("10.8.0.1", "w1")]));
    let fallback = Fallback { name: "west".into(), place: FallbackPlace::Manifests(west.path().to_owned()) };
    let annotated = |addresses: &[(&str, &str)]| {
        web(addresses).replacen(
            "  name: web\n",
            "  name: web\n  annotations: {evenkeel.io/fallback: west}\n",
            1,
        )
    };
    let two = [("10.0.0.1", "zone-a"), ("10.0.0.2", "zone-b")];
    let server = Server::with_fallbacks(&[("web.yaml", annotated(&two))], vec![fallback]).await;
    let mut client = Client::connect(&server, "zone-a").await;
    let all = endpoints(&[(0, "10.0.0.1"), (1, "10.0.0.2"), (2, "10.8.0.1")]);
    client.until(|client| client.endpoints(&cluster("web")) == all).await;
    server.put("web.yaml", &annotated(&[]));
    client.until(|client| client.endpoints(&cluster("web")) == endpoints(&[(0, "10.8.0.1")])).await;
    put(west.path(), "web.yaml", &slice("web", &[("10.8.0.2", "w1")]));
    client.until(|client| client.endpoints(&cluster("web")) == endpoints(&[(0, "10.8.0.2")])).await;
    put(west.path(), "web.yaml", "kind: [\n");
    server.until_metric("evenkeel_discovery_faults{kind=\"syntax\"} 1").await;
    server.put("web.yaml", &web(&two));
    let ours = endpoints(&[(0, "10.0.0.1"), (1, "10.0.0.2")]);
    client.until(|client| client.endpoints(&cluster("web")) == ours).await;
}

#[tokio::test]
async fn a_service_that_changes_all_the_time_is_told_once_per_window() {
    let server = Server::start(&[("web.yaml", web(&[("10.0.0.1", "zone-a")]))]).await;
    let mut client = Client::connect(&server, "zone-a").await;
    client.until(|client| client.clusters.len() == 1 && client.services.len() == 1).await;
    let began = Instant::now();
    let mut address = String::new();
    for round in 0..100 {
        address = format!("10.0.1.{round}");
        server.put("web.yaml", &web(&[(&address, "zone-a")]));
        tokio::time::sleep(WINDOW / 20).await;
    }
    let last = endpoints(&[(0, &address)]);
    let responses = client.until(|client| client.endpoints(&cluster("web")) == last).await;
    // The first at once, one per window, and one for what came last.
    let most = began.elapsed().as_millis() / WINDOW.as_millis() + 2;
    assert!((2..=most).contains(&(responses.len() as u128)), "{} of at most {most}", responses.len());
}
