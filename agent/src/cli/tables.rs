// SPDX-License-Identifier: Apache-2.0
//! Messages as tables for people. Pure: message in, text out.

use evenkeel_console::{
    bar,
    table::{Lines, bullets, count, dash, finish, table, time, wrapped},
};
use evenkeel_proto::admin as api;

/// `evenkeel status`.
pub(super) fn status(status: &api::Status) -> String {
    let mut out = Lines::default();
    let zone =
        if status.zone.is_empty() { "zone unknown".to_owned() } else { format!("zone {}", status.zone) };
    let ready = if status.ready { "ready" } else { "NOT READY" };
    out.field("Agent", &format!("{ready}, version {}, up {}", status.version, time(status.uptime_seconds)));
    for missing in &status.not_ready {
        out.field("", missing);
    }
    out.field("Node", &format!("{}, {zone}", status.node));
    let behind = if status.map_revision < status.revision { ", NOT ALL IN THE MAPS YET" } else { "" };
    out.field(
        "Holds",
        &format!("{}, {}{behind}", count(status.services, "Service"), count(status.endpoints, "endpoint")),
    );
    if let Some(discovery) = &status.discovery {
        out.field("Discovery", &self::discovery(discovery));
        if !discovery.last_error.is_empty() && !discovery.connected {
            out.field("", &discovery.last_error);
        }
    }
    if let Some(kernel) = &status.kernel {
        out.field("Kernel", &self::kernel(kernel));
        out.field("", &format!("attached to {}, pins in {}", kernel.cgroup, kernel.pins));
    }
    if let Some(path) = &status.request_path {
        let draining = if path.draining { ", DRAINING" } else { "" };
        out.field(
            "Request path",
            &format!(
                "{}, {}, {} upstream{draining}",
                count(path.pods, "pod"),
                count(path.client_connections, "client connection"),
                path.upstream_connections
            ),
        );
        out.field(
            "",
            &format!(
                "{}, {} in flight, {} failed",
                count(path.requests, "request"),
                path.requests_in_flight,
                path.failures
            ),
        );
    }
    if let Some(kernel) = &status.kernel {
        out.0.push_str(&counters(kernel));
    }
    out.0.push_str(&bullets("Faults", &status.faults, usize::MAX));
    out.0
}

fn discovery(discovery: &api::Discovery) -> String {
    let state = if discovery.connected { "connected" } else { "NOT CONNECTED" };
    let rejected = match discovery.resources_rejected {
        0 => String::new(),
        n => format!(", {} rejected", count(n, "resource")),
    };
    let heard = match discovery.streams_opened {
        0 => "not heard of yet".to_owned(),
        _ => format!("last message {} ago", time(discovery.last_message_seconds)),
    };
    format!("{state}, {}, {heard}, in force: {}{rejected}", discovery.address, discovery.source)
}

fn kernel(kernel: &api::Kernel) -> String {
    let stance = match kernel.stance.as_str() {
        "serve" => "serves",
        "kernel" => "BALANCES ALONE",
        _ => "STANDS ASIDE",
    };
    let age = match kernel.heartbeat_age_ms {
        u64::MAX => "no heartbeat yet".to_owned(),
        age => format!("heartbeat {age} ms old"),
    };
    format!("{stance}, {age}, ABI {}", kernel.abi_version)
}

/// `evenkeel services`.
pub(super) fn services(list: &api::ListServicesResponse) -> String {
    if list.services.is_empty() {
        return "No Service has opted in: label one with evenkeel.io/balance=connection or =request.\n"
            .to_owned();
    }
    let mut table = table(
        &["SERVICE", "ADDRESS", "PORT", "PATH", "STRATEGY", "ZONE", "ACTIVE", "", "PLAN"],
        &[2, 6],
        &[],
    );
    for service in &list.services {
        let address = service.addresses.join(" ");
        let address = if address.is_empty() { "-".to_owned() } else { address };
        for port in &service.ports {
            let udp = if port.protocol == "UDP" { "/udp" } else { "" };
            table.add_row([
                service.name.clone(),
                address.clone(),
                format!("{}{udp}", port.port),
                if port.path == "request" {
                    format!("request ({})", port.application)
                } else {
                    port.path.clone()
                },
                service.strategy.clone(),
                service.zone_policy.clone(),
                format!("{}/{}", port.active, port.endpoints),
                bar(port.active.into(), port.endpoints.into()),
                port.plan.clone(),
            ]);
        }
    }
    let mut text = finish(&table);
    for service in &list.services {
        for fault in &service.faults {
            text.push_str(&wrapped(&format!("{}: {fault}", service.name), "! ", "  "));
        }
    }
    text
}

/// `evenkeel endpoints`.
pub(super) fn endpoints(list: &api::ListEndpointsResponse) -> String {
    if list.endpoints.is_empty() {
        return format!("{} has no endpoints.\n", list.service);
    }
    endpoint_table(&list.endpoints)
}

fn endpoint_table(endpoints: &[api::Endpoint]) -> String {
    let columns =
        ["PORT", "ENDPOINT", "POD", "ZONE", "STATE", "OPEN", "", "IN FLIGHT", "", "REQUESTS", "FAILED"];
    let mut table = table(&columns, &[0, 5, 7, 9, 10], &[1]);
    let sockets = endpoints.iter().map(|e| e.open_sockets).max().unwrap_or_default();
    let in_flight = endpoints.iter().map(|e| e.requests_in_flight).max().unwrap_or_default();
    for endpoint in endpoints {
        table.add_row([
            endpoint.port.to_string(),
            endpoint.address.clone(),
            dash(&endpoint.pod),
            dash(&endpoint.zone),
            state(endpoint),
            endpoint.open_sockets.to_string(),
            bar(endpoint.open_sockets, sockets),
            endpoint.requests_in_flight.to_string(),
            bar(endpoint.requests_in_flight, in_flight),
            endpoint.requests.to_string(),
            endpoint.failures.to_string(),
        ]);
    }
    finish(&table)
}

/// Health, and whether new traffic goes there.
fn state(endpoint: &api::Endpoint) -> String {
    let standby = !endpoint.active && endpoint.health == "healthy";
    if standby { format!("standby (P{})", endpoint.priority) } else { endpoint.health.clone() }
}

/// `evenkeel connections`.
pub(super) fn connections(list: &api::ListConnectionsResponse) -> String {
    if list.connections.is_empty() {
        return "No balanced connection is open on this node.\n".to_owned();
    }
    let columns =
        ["PATH", "SERVICE", "POD", "CLIENT", "ENDPOINT", "OPEN", "SPEAKS", "REQUESTS", "IN FLIGHT", "AGE"];
    let mut table = table(&columns, &[5, 7, 8, 9], &[3, 4]);
    for row in &list.connections {
        let per_request = row.path == "request";
        let only = |text: String| if per_request { text } else { "-".to_owned() };
        table.add_row([
            row.path.clone(),
            dash(&row.service),
            dash(&row.pod),
            dash(&row.client),
            dash(&row.endpoint),
            row.count.to_string(),
            dash(&row.application),
            only(row.requests.to_string()),
            only(row.requests_in_flight.to_string()),
            only(time(row.age_seconds)),
        ]);
    }
    finish(&table)
}

/// `evenkeel explain`.
pub(super) fn explanation(explanation: &api::Explanation) -> String {
    let verdict = match explanation.verdict.as_str() {
        "request" => "balanced per request",
        "kernel" => "balanced per connection, in the kernel",
        _ => "untouched",
    };
    let mut text = format!("{}: {verdict}\n", explanation.address);
    for (i, step) in explanation.steps.iter().enumerate() {
        text.push_str(&wrapped(step, &format!("{:>2}. ", i + 1), "    "));
    }
    if !explanation.candidates.is_empty() {
        text.push('\n');
        text.push_str(&endpoint_table(&explanation.candidates));
    }
    text
}

/// What the kernel programs counted, and how full the maps are.
fn counters(kernel: &api::Kernel) -> String {
    let mut text = String::new();
    let counted: Vec<_> = kernel.counters.iter().filter(|counter| counter.value > 0).collect();
    if !counted.is_empty() {
        let largest = counted.iter().map(|counter| counter.value).max().unwrap_or_default();
        let mut table = table(&["CONNECTS", "COUNT", ""], &[1], &[]);
        for counter in counted {
            table.add_row([counter.name.clone(), counter.value.to_string(), bar(counter.value, largest)]);
        }
        text.push('\n');
        text.push_str(&finish(&table));
    }
    if !kernel.maps.is_empty() {
        let mut table = table(&["MAP", "USED", "OF", ""], &[1, 2], &[]);
        for map in &kernel.maps {
            let used = bar(map.used, map.capacity);
            table.add_row([map.map.clone(), map.used.to_string(), map.capacity.to_string(), used]);
        }
        text.push('\n');
        text.push_str(&finish(&table));
    }
    text
}
