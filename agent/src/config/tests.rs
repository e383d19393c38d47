// SPDX-License-Identifier: Apache-2.0
//! What the command line accepts, and what it says about what it does not: flag, value, what is wrong.
//!
//! Deliberately not here: what the daemon does with it.

use clap::Parser;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Parser)]
struct Whole {
    #[command(flatten)]
    run: RunArgs,
}

fn parse(flags: &[&str]) -> Result<RunArgs, String> {
    let all = ["evenkeel", "--discovery", "http://127.0.0.1:18000"].iter().chain(flags);
    Whole::try_parse_from(all).map(|whole| whole.run).map_err(|error| error.to_string())
}

fn refused(flags: &[&str]) -> String {
    parse(flags).unwrap().validate("host").unwrap_err().to_string()
}

#[test]
fn the_defaults_are_valid() {
    let config = parse(&[]).unwrap().validate("node-7\n").unwrap();
    assert_eq!(config.node, "node-7", "the host name, without its line end");
    assert_eq!(config.discovery, DiscoveryAddress::Tcp("http://127.0.0.1:18000".to_owned()));
    assert_eq!(config.pins, PathBuf::from("/sys/fs/bpf/evenkeel"));
    assert_eq!(config.admin_socket, PathBuf::from("/run/evenkeel/admin.sock"));
    assert_eq!((config.stale_after.as_secs(), config.stand_aside_after.as_secs()), (2, 30));
    assert_eq!((config.cgroup, config.zone.as_str()), (None, ""));
}

#[test]
fn an_address_of_discovery_says_what_is_wrong_with_it() {
    for (text, wanted) in [
        ("127.0.0.1:18000", "does not begin with https://, http://"),
        ("localhost", "does not begin with https://, http://"),
        ("http://discovery", "names no port"),
        ("http://discovery:0", "names no port"),
        ("http://discovery:18000/ads", "has something after the port"),
        ("https://discovery", "names no port"),
        ("unix:", "unix: needs a path"),
    ] {
        let error = text.parse::<DiscoveryAddress>().unwrap_err();
        assert!(error.contains(wanted), "{text}: {error}");
    }
    assert_eq!("unix:/run/d.sock".parse(), Ok(DiscoveryAddress::Unix("/run/d.sock".into())));
    assert_eq!("https://d:1/".parse(), Ok(DiscoveryAddress::Tls("https://d:1".into())));
    assert_eq!("http://[::1]:1/".parse::<DiscoveryAddress>().unwrap().to_string(), "http://[::1]:1");
}

fn https(flags: &[&str]) -> Result<Config, String> {
    let all = ["evenkeel", "--discovery", "https://10.0.0.1:18000"].iter().chain(flags);
    let whole = Whole::try_parse_from(all).map_err(|error| error.to_string())?;
    whole.run.validate("host").map_err(|error| error.to_string())
}

#[test]
fn https_wants_a_ca_and_takes_the_rest() {
    let error = https(&[]).unwrap_err();
    assert!(error.contains("https needs the CA") && error.contains("--discovery-ca FILE"), "{error}");
    let flags = ["--discovery-ca", "/ca", "--discovery-cert", "/c", "--discovery-key", "/k"];
    let more = ["--discovery-name", "d.svc", "--discovery-token", "/t"];
    let tls =
        TlsFiles { ca: "/ca".into(), name: Some("d.svc".into()), identity: Some(("/c".into(), "/k".into())) };
    let expected = Credentials { tls: Some(tls), token: Some("/t".into()) };
    assert_eq!(https(&[&flags[..], &more].concat()).unwrap().credentials, expected);
    assert!(https(&flags[..4]).unwrap_err().contains("--discovery-key"), "a certificate without its key");
    let error = https(&["--discovery-ca", "/ca", "--discovery-name", "a b"]).unwrap_err();
    assert!(error.starts_with("--discovery-name \"a b\": is no DNS name"), "{error}");
}

#[test]
fn a_token_is_never_sent_in_plaintext() {
    let error = refused(&["--discovery-token", "/t"]);
    assert!(error.starts_with("--discovery-token \"http://127.0.0.1:18000\": needs TLS"), "{error}");
    assert!(refused(&["--discovery-ca", "/ca"]).starts_with("--discovery-ca"));
}

#[test]
fn a_parse_error_names_flag_and_value() {
    let error = parse(&["--stale-after", "2"]).unwrap_err();
    assert!(
        error.contains("--stale-after") && error.contains("write a whole number and ms, s, m or h"),
        "{error}"
    );
    let error = parse(&["--http", "localhost"]).unwrap_err();
    assert!(error.contains("--http") && error.contains("localhost"), "{error}");
}

#[test]
fn times_in_the_wrong_order_are_refused() {
    assert_eq!(
        refused(&["--stale-after", "100ms"]),
        "--stale-after \"100ms\": is too short; the heart beats every 200 ms: give 600ms or more"
    );
    assert_eq!(
        refused(&["--stale-after", "5s", "--stand-aside-after", "5s"]),
        "--stand-aside-after \"5000ms\": is not longer than --stale-after; give a longer time"
    );
    assert!(refused(&["--stand-aside-after", "25h"]).contains("give 24h or less"));
}

#[test]
fn names_that_are_none_are_refused() {
    assert!(refused(&["--node", ""]).starts_with("--node \"\": is empty; give the node's name"));
    assert!(refused(&["--zone", "zone a"]).starts_with("--zone \"zone a\": has white space in it"));
}

#[test]
fn a_cgroup_that_is_no_directory_is_refused() {
    let error = refused(&["--cgroup", "/does/not/exist"]);
    assert_eq!(
        error,
        "--cgroup \"/does/not/exist\": is not a directory; give the mount point of cgroup2, or leave the flag away \
         to have it found"
    );
}

proptest! {
    #[test]
    fn a_time_means_its_number_of_units(number in 0_u64..1_000_000) {
        for (unit, factor) in [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)] {
            prop_assert_eq!(duration(&format!("{number}{unit}")), Ok(Duration::from_millis(number * factor)));
        }
    }

    #[test]
    fn no_text_makes_the_parsers_panic(text in "\\PC{0,20}") {
        let _ = duration(&text);
        let _ = text.parse::<DiscoveryAddress>();
    }
}
