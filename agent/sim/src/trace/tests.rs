// SPDX-License-Identifier: Apache-2.0
//! Good traces are read, bad ones name file, line and column.

use std::{io::Write as _, path::Path, time::Duration};

use proptest::prelude::*;

use super::{TraceError, TraceRequest, from_reader, read};
use crate::{
    model::Scenario,
    scenario::{Overrides, parse},
};

fn scenario() -> Scenario {
    let text = r#"
        duration = "10s"
        zones = [{ name = "a" }, { name = "b" }, { name = "empty" }]
        services = [{ name = "shop" }, { name = "cart" }]
        clients = [{ name = "web", service = "shop", zone = "a" }, { name = "app", service = "shop", zone = "b" },
                   { name = "job", service = "cart", zone = "b" }]
        policies = [{ name = "p2c" }]
    "#;
    parse(text, Path::new("s.toml"), Overrides::default()).unwrap().scenario
}

fn trace(text: &str) -> Result<Vec<TraceRequest>, TraceError> {
    from_reader(text.as_bytes(), text.is_empty() || text.ends_with('\n'), Path::new("t.csv"), &scenario())
}

#[test]
fn a_trace_is_read_row_by_row() {
    let rows =
        trace("time,zone,service,cost\n0,a,shop,1\n0.000000001,b,cart,0.5\n9.5, a , shop,2e1\n").unwrap();
    let row = |ns, zone, service, cost| TraceRequest { at: Duration::from_nanos(ns), zone, service, cost };
    assert_eq!(rows, [row(0, 0, 0, 1.0), row(1, 1, 1, 0.5), row(9_500_000_000, 0, 0, 20.0)]);
}

#[test]
fn rows_from_the_duration_on_are_checked_but_not_kept() {
    assert_eq!(trace("time,zone,service,cost\n1,a,shop,1\n10,a,shop,1\n11,a,shop,1\n").unwrap().len(), 1);
    assert!(trace("time,zone,service,cost\n1,a,shop,1\n10,a,shop,1\n9,a,shop,1\n").is_err());
}

#[test]
fn a_trace_of_no_requests_is_a_trace() {
    assert_eq!(trace("time,zone,service,cost\n").unwrap(), []);
}

#[test]
fn every_kind_of_bad_row_names_file_line_and_column() {
    for (rows, want) in [
        ("1,a,shop,1\n0.5,a,shop,1\n", "t.csv:3: time: 0.5 is before the row above"),
        ("1,a,shop,1\n2,a,sh", "t.csv:3: 3 columns instead of 4"),
        ("1,a,shop,1\n2,a,shop,1", "t.csv:3: the line has no end: the file is truncated"),
        ("1,a,shop,1,9\n", "t.csv:2: 5 columns instead of 4"),
        ("1,c,shop,1\n", "t.csv:2: zone: there is no zone `c`"),
        ("1,a,shoe,1\n", "t.csv:2: service: there is no service `shoe`"),
        ("1,empty,shop,1\n", "t.csv:2: zone: the scenario has no clients of shop in empty"),
        ("1,a,cart,1\n", "t.csv:2: zone: the scenario has no clients of cart in a"),
        ("-1,a,shop,1\n", "t.csv:2: time: `-1`: it must not be negative"),
        ("NaN,a,shop,1\n", "t.csv:2: time: `NaN`: it must be a plain decimal"),
        ("1e3,a,shop,1\n", "t.csv:2: time: `1e3`: it must be a plain decimal"),
        ("99999999999,a,shop,1\n", "t.csv:2: time: `99999999999`: it is longer than 100 days"),
        ("1,a,shop,0\n", "t.csv:2: cost: must be above 0 and at most 1000000, is 0"),
        ("1,a,shop,-1\n", "t.csv:2: cost: must be above 0"),
        ("1,a,shop,NaN\n", "t.csv:2: cost: must be above 0"),
        ("1,a,shop,inf\n", "t.csv:2: cost: must be above 0"),
        ("1,a,shop,much\n", "t.csv:2: cost: `much` is not a number"),
        ("1,a,shop,1\n1,a,\"shop,1\n", "t.csv:3: 3 columns instead of 4"),
    ] {
        let error = trace(&format!("time,zone,service,cost\n{rows}")).unwrap_err().to_string();
        assert!(error.starts_with(want), "{rows:?}:\n   got {error}\n  want {want}");
    }
}

#[test]
fn a_trace_must_begin_with_its_header() {
    for text in ["", "1,a,shop,1\n", "zone,time,service,cost\n", "time;zone;service;cost\n"] {
        let error = trace(text).unwrap_err().to_string();
        assert!(error.starts_with("t.csv:1: ") && error.contains("the first line must be"), "{error}");
    }
}

#[test]
fn what_is_not_utf8_names_line_and_column() {
    let bytes = b"time,zone,service,cost\n1,\xff,shop,1\n";
    let error = from_reader(&bytes[..], true, Path::new("t.csv"), &scenario()).unwrap_err().to_string();
    assert_eq!(error, "t.csv:2: column 2: not UTF-8");
}

#[test]
fn a_trace_lies_beside_its_scenario_and_one_that_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = std::fs::File::create(dir.path().join("t.csv")).unwrap();
    file.write_all(b"time,zone,service,cost\n1,a,shop,1\n").unwrap();
    assert_eq!(read(&dir.path().join("t.csv"), &scenario()).unwrap().len(), 1);
    let error = read(&dir.path().join("none.csv"), &scenario()).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the trace ") && error.contains("none.csv"), "{error}");
}

proptest! {
    #[test]
    fn any_bytes_are_a_trace_or_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut text = b"time,zone,service,cost\n".to_vec();
        text.extend(bytes);
        let _ = from_reader(&text[..], text.ends_with(b"\n"), Path::new("t.csv"), &scenario());
    }

    #[test]
    fn a_good_trace_cut_anywhere_is_refused_unless_it_ends_with_a_line(cut in 0usize..68) {
        let whole = "time,zone,service,cost\n1,a,shop,1.25\n2.5,b,cart,3.5\n3.75,a,shop,10\n";
        let part = &whole[..cut.min(whole.len())];
        let complete = part.ends_with('\n');
        prop_assert_eq!(trace(part).is_ok(), complete, "{:?}", part);
    }
}
