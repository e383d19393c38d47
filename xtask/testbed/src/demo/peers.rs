// SPDX-License-Identifier: Apache-2.0
//! How servers and clients are started, the same on every stage: the arguments of the testbed's own binary. Pure.

use super::parameters::{
    CONNECTIONS, POD_PORT, RATE, REQUEST_DEADLINE_MS, SERVICE_TIME_US, SLOW_FACTOR, SLOW_POD, TARGET, WORKERS,
};

/// A server pod; `control` is the hub's socket as it sees it.
pub(super) fn server(name: &str, zone: &str, control: &str) -> Vec<String> {
    let slow = if name == SLOW_POD { SLOW_FACTOR } else { 1.0 };
    let mut args = vec!["server".to_owned()];
    for (flag, value) in [
        ("--listen", format!("0.0.0.0:{POD_PORT}")),
        ("--name", name.to_owned()),
        ("--zone", zone.to_owned()),
        ("--workers", WORKERS.to_string()),
        ("--service-time-us", SERVICE_TIME_US.to_string()),
        ("--slow-factor", slow.to_string()),
        ("--control", control.to_owned()),
    ] {
        args.extend([flag.to_owned(), value]);
    }
    args
}

/// A client pod; `source` is its own address.
pub(super) fn client(name: &str, zone: &str, source: &str, control: &str) -> Vec<String> {
    let mut args = vec!["client".to_owned()];
    for (flag, value) in [
        ("--target", TARGET.to_owned()),
        ("--name", name.to_owned()),
        ("--zone", zone.to_owned()),
        ("--source", source.to_owned()),
        ("--connections", CONNECTIONS.to_string()),
        ("--rate", RATE.to_string()),
        ("--deadline-ms", REQUEST_DEADLINE_MS.to_string()),
        ("--control", control.to_owned()),
    ] {
        args.extend([flag.to_owned(), value]);
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer;
    use clap::Parser;

    #[test]
    fn what_peers_are_told_is_what_they_understand_and_one_server_is_slow() {
        let slow = peer::server::Args::try_parse_from(server(SLOW_POD, "zone-a", "/s")).expect("arguments");
        let other = peer::server::Args::try_parse_from(server("echo-b1", "zone-b", "/s")).expect("arguments");
        assert_eq!((slow.slow_factor, other.slow_factor), (SLOW_FACTOR, 1.0));
        let args = client("load-a1", "zone-a", "10.0.0.1", "/s");
        let client = peer::client::Args::try_parse_from(args).expect("arguments");
        assert_eq!(client.target.to_string(), TARGET);
    }
}
