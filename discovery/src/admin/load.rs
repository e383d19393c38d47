// SPDX-License-Identifier: Apache-2.0
//! Reported load into messages. Pure.

use evenkeel_proto::discovery_admin as api;
use evenkeel_xds::ClusterName;

use super::describe::protocol_word;
use crate::load::{Flow, INTERVAL, Ignored, Reading};

/// The load of one Service (NAMESPACE/NAME), or of all, the largest demand first.
pub(super) fn load(reading: &Reading, service: Option<&str>, reporters: u64) -> api::Load {
    let window = reading.window.as_secs();
    let mut flows: Vec<api::Flow> =
        reading.flows.iter().filter_map(|flow| self::flow(flow, window)).collect();
    flows.retain(|flow| service.is_none_or(|service| flow.service == service));
    flows.sort_by(|a, b| {
        let place = |f: &api::Flow| (f.service.clone(), f.port, f.from.clone(), f.to.clone());
        b.requests_per_second.total_cmp(&a.requests_per_second).then_with(|| place(a).cmp(&place(b)))
    });
    let ignored = |why: &Ignored| reading.totals.ignored.get(why).copied().unwrap_or_default();
    let ignored = Ignored::ALL.iter().map(|why| (why.as_str().to_owned(), ignored(why)));
    api::Load {
        window_seconds: window,
        interval_seconds: INTERVAL.as_secs(),
        reporters,
        flows,
        ignored: ignored
            .filter(|(_, count)| *count > 0)
            .map(|(kind, count)| api::Count { kind, count })
            .collect(),
    }
}

/// `None`: the name is not one of ours, which reading has ruled out.
fn flow(flow: &Flow, window: u64) -> Option<api::Flow> {
    let cluster: ClusterName = flow.cluster.parse().ok()?;
    let (recent, total) = (&flow.recent, &flow.total);
    let rate = |amount: f64| if window == 0 { 0.0 } else { amount / window as f64 };
    Some(api::Flow {
        service: format!("{}/{}", cluster.namespace, cluster.service),
        port: cluster.port.into(),
        protocol: protocol_word(cluster.protocol).to_owned(),
        from: flow.from.to_string(),
        to: flow.to.to_string(),
        requests_per_second: rate(recent.issued as f64),
        errors_per_second: rate(recent.failed as f64),
        drops_per_second: rate(recent.dropped as f64),
        in_flight: rate(recent.busy),
        utilization: recent.mean_utilization(),
        requests: total.issued,
        errors: total.failed,
        drops: total.dropped,
        history: flow.history.clone(),
    })
}
