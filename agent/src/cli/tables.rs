// SPDX-License-Identifier: Apache-2.0
//! Messages as tables for people. Pure: message in, text out. Nothing is wider than [`WIDTH`] columns, except a single word
//! that cannot be broken.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};
use evenkeel_proto::admin as api;

use super::bar::bar;

/// Half a wide terminal, the whole of a narrow one.
const WIDTH: u16 = 100;

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
        out.counters(kernel);
    }
    if !status.faults.is_empty() {
        out.0.push_str("\nFaults\n");
        for fault in &status.faults {
            out.0.push_str(&wrapped(fault, "  - ", "    "));
        }
    }
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
    let mut table =
        table(&["SERVICE", "ADDRESS", "PORT", "PATH", "STRATEGY", "ZONE", "ACTIVE", "", "PLAN"], &[2, 6]);
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
    let mut table = table(&columns, &[0, 5, 7, 9, 10]);
    whole(&mut table, 1);
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
    let mut table = table(&columns, &[5, 7, 8, 9]);
    whole(&mut table, 3);
    whole(&mut table, 4);
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

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn field(&mut self, name: &str, value: &str) {
        self.0.push_str(&wrapped(value, &format!("{name:<14}"), &" ".repeat(14)));
    }

    fn counters(&mut self, kernel: &api::Kernel) {
        let counted: Vec<_> = kernel.counters.iter().filter(|counter| counter.value > 0).collect();
        if !counted.is_empty() {
            let largest = counted.iter().map(|counter| counter.value).max().unwrap_or_default();
            let mut table = table(&["CONNECTS", "COUNT", ""], &[1]);
            for counter in counted {
                table.add_row([counter.name.clone(), counter.value.to_string(), bar(counter.value, largest)]);
            }
            self.0.push('\n');
            self.0.push_str(&finish(&table));
        }
        if !kernel.maps.is_empty() {
            let mut table = table(&["MAP", "USED", "OF", ""], &[1, 2]);
            for map in &kernel.maps {
                let used = bar(map.used, map.capacity);
                table.add_row([map.map.clone(), map.used.to_string(), map.capacity.to_string(), used]);
            }
            self.0.push('\n');
            self.0.push_str(&finish(&table));
        }
    }
}

fn table(header: &[&str], right_aligned: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(WIDTH);
    table.set_header(header.to_vec());
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        if right_aligned.contains(&i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Keeps a column's words whole: an address broken in two cannot be copied.
fn whole(table: &mut Table, column: usize) {
    if let Some(column) = table.column_mut(column) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
}

fn finish(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Wraps at words to [`WIDTH`] columns.
fn wrapped(text: &str, first: &str, rest: &str) -> String {
    let (mut out, mut line) = (String::new(), first.to_owned());
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > usize::from(WIDTH) {
            out.push_str(line.trim_end());
            out.push('\n');
            rest.clone_into(&mut line);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
    out
}

fn dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn count(number: u64, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{s}")
}

/// A time as people say it: the two largest units.
fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}
