// SPDX-License-Identifier: Apache-2.0
//! Messages as tables for people: what needs a look comes first, and what is left out is counted. Pure: message and number
//! of rows in, text out.

use std::collections::BTreeMap;

use evenkeel_console::spark;
use evenkeel_console::table::{Lines, and_more, bullets, count, dash, finish, millis, table, time, wrapped};
use evenkeel_proto::discovery_admin as api;
use evenkeel_xds::type_url;

/// A client that has not acknowledged for as long is worth a word; a shorter time is a round trip.
const WAITING_MS: u64 = 1_000;
/// Digits of a version that are shown; it is a hash.
const VERSION_DIGITS: usize = 12;

/// `evenkeel-discovery index`.
pub(super) fn index(index: &api::Index, rows: usize) -> String {
    let mut out = Lines::default();
    let ready = if index.ready { "ready" } else { "NOT READY" };
    out.field("Discovery", &format!("{ready}, version {}, up {}", index.version, time(index.uptime_seconds)));
    for missing in &index.not_ready {
        out.field("", missing);
    }
    let published = match index.revision {
        0 => "nothing published yet".to_owned(),
        n => format!("revision {n}, published {} ago", time(index.revision_age_seconds)),
    };
    let services = index.services.len() as u64;
    out.field(
        "Serves",
        &format!("{}, {}, {published}", count(services, "Service"), count(index.endpoints, "endpoint")),
    );
    let objects: Vec<String> =
        index.objects.iter().map(|o| format!("{}: {}", o.kind.replace('_', " "), o.count)).collect();
    out.field("Knows", &if objects.is_empty() { "nothing yet".to_owned() } else { objects.join(", ") });
    match index.source.as_slice() {
        [] => out.field("Source", "up to date"),
        faults => faults.iter().for_each(|fault| out.field("Source", fault)),
    }
    out.field("Clients", &client_counts(index));
    out.0.push_str(&index_table(&index.services, rows));
    out.0.push_str(&bullets("Faults", &index.faults, rows));
    out.0
}

fn client_counts(index: &api::Index) -> String {
    let (behind, rejecting) = (index.clients_not_in_sync, index.clients_with_rejections);
    let mut text = format!("{} connected", index.clients);
    if behind > 0 {
        text.push_str(&format!(", {behind} not in sync"));
    }
    if rejecting > 0 {
        text.push_str(&format!(", {rejecting} REJECTING"));
    }
    if behind + rejecting > 0 {
        text.push_str(": see `evenkeel-discovery clients`");
    }
    text
}

fn index_table(services: &[api::ServiceSummary], rows: usize) -> String {
    if services.is_empty() {
        return "\nNo Service has opted in: label one with evenkeel.io/balance=connection or =request.\n"
            .into();
    }
    let mut sorted: Vec<&api::ServiceSummary> = services.iter().collect();
    // False goes before true.
    sorted.sort_by_key(|service| {
        let without = service.ports.is_empty() || service.ports.iter().any(|port| port.ready == 0);
        (service.faults.is_empty(), !without)
    });
    let columns = ["SERVICE", "BALANCE", "STRATEGY", "ZONE", "PORT", "READY", "DRAINING", "ZONES", ""];
    let mut table = table(&columns, &[5, 6], &[]);
    for service in sorted.iter().take(rows) {
        let note = if service.faults.is_empty() { "" } else { "FAULTY" };
        for port in &service.ports {
            table.add_row([
                service.name.clone(),
                service.balance.clone(),
                service.strategy.clone(),
                service.zone_policy.clone(),
                port_name(port),
                port.ready.to_string(),
                port.draining.to_string(),
                dash(&port.zones.join(" ")),
                note.to_owned(),
            ]);
        }
    }
    format!("\n{}{}", finish(&table), and_more(rows, sorted.len(), "Services"))
}

fn port_name(port: &api::PortSummary) -> String {
    let udp = if port.protocol == "UDP" { "/udp" } else { "" };
    let name = if port.name.is_empty() { String::new() } else { format!(" {}", port.name) };
    format!("{}{udp}{name}", port.port)
}

/// `evenkeel-discovery service`.
pub(super) fn service(service: &api::Service, rows: usize) -> String {
    let summary = service.summary.clone().unwrap_or_default();
    let mut out = Lines::default();
    out.field("Service", &summary.name);
    out.field("Addresses", &dash(&summary.addresses.join(" ")));
    out.field(
        "Balanced",
        &format!("per {}, {}, zones: {}", summary.balance, summary.strategy, summary.zone_policy),
    );
    out.field(
        "Seen from",
        &match service.zone.as_str() {
            "" => "a client without a zone; name one with --zone".to_owned(),
            zone => format!("zone {zone}"),
        },
    );
    for port in &summary.ports {
        let counts = format!("{} ready, {} draining", port.ready, port.draining);
        out.field("Port", &format!("{}: {counts}; in xDS {}", port_name(port), port.cluster));
    }
    if service.endpoints.is_empty() {
        out.0.push_str("\nThere are no endpoints for such a client.\n");
    } else {
        let columns = ["PORT", "ENDPOINT", "PRIORITY", "WEIGHT", "HEALTH", "ZONE", "POD", "NODE"];
        let mut table = table(&columns, &[0, 2, 3], &[1]);
        for endpoint in service.endpoints.iter().take(rows) {
            let udp = if endpoint.protocol == "UDP" { "/udp" } else { "" };
            table.add_row([
                format!("{}{udp}", endpoint.port),
                endpoint.address.clone(),
                endpoint.priority.to_string(),
                endpoint.weight.to_string(),
                endpoint.health.clone(),
                dash(&endpoint.zone),
                dash(&endpoint.pod),
                dash(&endpoint.node),
            ]);
        }
        out.0.push('\n');
        out.0.push_str(&finish(&table));
        out.0.push_str(&and_more(rows, service.endpoints.len(), "endpoints"));
    }
    out.0.push_str(&bullets("Faults", &summary.faults, rows));
    out.0
}

/// `evenkeel-discovery clients`.
pub(super) fn clients(list: &api::ListClientsResponse, rows: usize) -> String {
    let clients = &list.clients;
    if clients.is_empty() {
        return "No client is connected.\n".to_owned();
    }
    let columns = ["STREAM", "CLIENT", "KIND", "ZONE", "FROM", "XDS", "AGE", "SENT", "STATE"];
    let mut table = table(&columns, &[0, 6, 7], &[4]);
    for client in clients.iter().take(rows) {
        table.add_row([
            client.stream.to_string(),
            dash(&client.id),
            client.kind.clone(),
            dash(&client.zone),
            dash(&client.peer),
            client.variant.clone(),
            time(client.age_seconds),
            client.responses.to_string(),
            state(client),
        ]);
    }
    let mut out = format!("{}\n{}", overview(clients), finish(&table));
    out.push_str(&and_more(rows, clients.len(), "clients"));
    for client in clients.iter().take(rows).filter(|client| client.rejected > 0) {
        let words = format!("{} rejects: {}", dash(&client.id), dash(&client.last_rejection));
        out.push_str(&wrapped(&words, "! ", "  "));
    }
    out
}

fn overview(clients: &[api::Client]) -> String {
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for client in clients {
        *kinds.entry(&client.kind).or_default() += 1;
    }
    let kinds: Vec<String> = kinds.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let in_sync = clients.iter().filter(|client| client.in_sync).count();
    let rejecting = clients.iter().filter(|client| client.rejected > 0).count();
    let all = count(clients.len() as u64, "client");
    let rejecting = if rejecting == 0 { String::new() } else { format!(", {rejecting} REJECTING") };
    format!("{all} ({}): {in_sync} in sync{rejecting}\n", kinds.join(", "))
}

/// What a person should know of a client first.
fn state(client: &api::Client) -> String {
    if client.rejected > 0 {
        return format!("REJECTS {}", count(client.rejected, "resource"));
    }
    if client.not_reading_ms >= WAITING_MS {
        return format!("DOES NOT READ for {}", millis(client.not_reading_ms));
    }
    match (client.in_sync, client.requests) {
        (true, _) => "in sync".to_owned(),
        (false, 0) => "has not asked yet".to_owned(),
        (false, _) if client.behind_ms < WAITING_MS => "being updated".to_owned(),
        (false, _) => format!("NO ANSWER for {}", millis(client.behind_ms)),
    }
}

/// `evenkeel-discovery client`.
pub(super) fn client(detail: &api::ClientDetail, rows: usize) -> String {
    let client = detail.client.clone().unwrap_or_default();
    let mut out = Lines::default();
    out.field("Client", &format!("{}, stream {}", dash(&client.id), client.stream));
    let zone = if client.zone.is_empty() { "unknown".to_owned() } else { client.zone.clone() };
    out.field("Is", &format!("{} ({}), zone {zone}", client.kind, dash(&client.user_agent)));
    out.field(
        "Connected",
        &format!("for {}, from {}, {}", time(client.age_seconds), dash(&client.peer), client.variant),
    );
    out.field(
        "Said",
        &format!(
            "{}, the last {} ago; was sent {}",
            count(client.requests, "request"),
            millis(client.last_heard_ms),
            count(client.responses, "response")
        ),
    );
    out.field("State", &state(&client));
    if !detail.no_answer.is_empty() {
        out.field("Details", &format!("none: {}", detail.no_answer));
    }
    for subscription in &detail.subscriptions {
        out.field(type_url::short_name(&subscription.type_url), &asked(subscription));
    }
    out.0.push_str(&resources(&detail.subscriptions, rows));
    out.0
}

fn asked(subscription: &api::Subscription) -> String {
    let asked = match (subscription.wildcard, subscription.names) {
        (true, 0) => "all".to_owned(),
        (true, names) => format!("all, and {} by name", names),
        (false, names) => format!("{} by name", names),
    };
    let in_state = |state: &str| subscription.resources.iter().filter(|held| held.state == state).count();
    let counts: Vec<String> = ["acknowledged", "sent", "pending", "rejected", "absent"]
        .into_iter()
        .map(|state| (state, in_state(state)))
        .filter(|(_, count)| *count > 0)
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    let counts = if counts.is_empty() { "nothing to tell".to_owned() } else { counts.join(", ") };
    let sync = if subscription.in_sync { "in sync" } else { "not in sync" };
    format!("asked for {asked}: {counts}; {sync}")
}

/// What was rejected first, with the client's words behind the table; then what is under way; then all else.
fn resources(subscriptions: &[api::Subscription], rows: usize) -> String {
    let rank = |held: &api::Held| match held.state.as_str() {
        "rejected" => 0,
        "pending" => 1,
        "sent" => 2,
        "absent" => 3,
        _ => 4,
    };
    let of = |subscription: &'_ api::Subscription| {
        let kind = type_url::short_name(&subscription.type_url).to_owned();
        subscription.resources.iter().map(|held| (kind.clone(), held.clone())).collect::<Vec<_>>()
    };
    let mut all: Vec<(String, api::Held)> = subscriptions.iter().flat_map(of).collect();
    if all.is_empty() {
        return String::new();
    }
    all.sort_by_key(|(_, held)| rank(held));
    let mut table = table(&["TYPE", "NAME", "VERSION", "STATE"], &[], &[]);
    for (kind, held) in all.iter().take(rows) {
        let version: String = held.version.chars().take(VERSION_DIGITS).collect();
        table.add_row([kind.clone(), held.name.clone(), dash(&version), held.state.clone()]);
    }
    let mut out = format!("\n{}{}", finish(&table), and_more(rows, all.len(), "resources"));
    for (_, held) in all.iter().take(rows).filter(|(_, held)| !held.reason.is_empty()) {
        out.push_str(&wrapped(&format!("{} was rejected: {}", held.name, held.reason), "! ", "  "));
    }
    out
}

/// `evenkeel-discovery load`.
pub(super) fn load(load: &api::Load, rows: usize) -> String {
    let reporters = count(load.reporters, "client");
    let verb = if load.reporters == 1 { "reports" } else { "report" };
    let mut out = format!("{reporters} {verb} load every {}.\n", time(load.interval_seconds));
    if load.flows.is_empty() {
        let since = match load.window_seconds {
            0 => "The first interval is not complete.".to_owned(),
            window => format!("Nothing was reported in the last {}.", time(window)),
        };
        out.push_str(&format!("{since}\n"));
    } else {
        out.push_str(&format!("Means of the last {}:\n\n", time(load.window_seconds)));
        out.push_str(&load_table(load, rows));
    }
    if !load.ignored.is_empty() {
        let ignored: Vec<String> = load
            .ignored
            .iter()
            .map(|part| format!("{} {}", part.count, part.kind.replace('_', " ")))
            .collect();
        out.push_str(&wrapped(&format!("Parts of reports left out: {}", ignored.join(", ")), "! ", "  "));
    }
    out
}

fn load_table(load: &api::Load, rows: usize) -> String {
    let columns =
        ["SERVICE", "PORT", "FROM", "TO", "REQ/S", "ERR/S", "DROP/S", "IN FLIGHT", "USED", "COURSE"];
    let mut table = table(&columns, &[1, 4, 5, 6, 7, 8], &[]);
    for flow in load.flows.iter().take(rows) {
        let udp = if flow.protocol == "UDP" { "/udp" } else { "" };
        table.add_row([
            flow.service.clone(),
            format!("{}{udp}", flow.port),
            dash(&flow.from),
            dash(&flow.to),
            rate(flow.requests_per_second),
            rate(flow.errors_per_second),
            rate(flow.drops_per_second),
            rate(flow.in_flight),
            flow.utilization.map_or("-".to_owned(), |used| format!("{:.0} %", used * 100.0)),
            spark(&flow.history),
        ]);
    }
    format!("{}{}", finish(&table), and_more(rows, load.flows.len(), "flows"))
}

/// Three digits that matter.
fn rate(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 100.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

#[cfg(test)]
mod tests;
