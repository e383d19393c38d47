// SPDX-License-Identifier: Apache-2.0
//! What a server may send, and what is read of it. Tier 1: pure.

use super::super::kinds::{Services, Slices};
use super::*;

#[test]
fn an_object_of_the_wrong_shape_is_named() {
    let text = br#"{"type":"ADDED","object":{"metadata":{"name":"web","namespace":"demo","resourceVersion":"3"},"spec":{"ports":"none"}}}"#;
    let Line::Object(Object::Bad { meta, reason }) = line::<Services>(text) else { panic!() };
    assert_eq!((meta.key(), meta.resource_version.as_str()), (ObjectKey::new("demo", "web"), "3"));
    assert!(reason.contains("expected a sequence"), "{reason}");
}

#[test]
fn a_line_that_is_read_in_one_go_says_what_it_says_when_its_end_is_looked_for_first() {
    let told = |line: Result<Line<Slices>, serde_json::Error>| match line {
        Ok(Line::Object(Object::Good(wire))) => format!("{:?}", Slices::applied(wire)),
        _ => String::new(),
    };
    let good = r#"{"metadata":{"name":"web-1","namespace":"demo","labels":{"x":"y"}},"addressType":"IPv4","ports":null,
        "endpoints":[{"addresses":["10.0.0.1"],"hints":{},"nodeName":"n\u0031","zone":null,"targetRef":{"kind":"Pod"}}]}"#;
    let bad = [
        "{}",
        "[]",
        "null",
        "",
        r#"{"metadata":{"name":"web-1"},"endpoints":"none"}"#,
        &good[1..],
        "{\"metadata\":{}}}",
    ];
    for object in bad.into_iter().chain([good]) {
        for (before, after) in [
            (r#"{"type":"ADDED","object":"#, "}"),
            (r#"{"more":{},"type":"MODIFIED","object":"#, "}\r"),
            (r#"{"object":"#, r#","type":"ADDED"}"#),
            (r#"{"object":"#, r#","type":"\u0041DDED"}"#),
            (r#"{"object":"#, r#","type":"ADDED","object":{}}"#),
            (r#"{"object":"#, r#","type":"DELETED"}"#),
            (r#"{"object":"#, "}"),
            (r#"{"type":"ADDED","object":"#, "}}"),
        ] {
            let text = [before, object, after].concat();
            assert_eq!(told(Ok(line(text.as_bytes()))), told(read_line(text.as_bytes())), "{text}");
        }
    }
    let text = format!(r#"{{"type":"ADDED","object":{good}}}"#);
    assert!(read_usual::<Slices>(text.as_bytes()).is_some());
    let not_text: Vec<u8> = text.bytes().map(|byte| if byte == b'x' { 0xff } else { byte }).collect();
    assert!(matches!(line::<Slices>(&not_text), Line::Garbage(_)));
}

#[test]
fn what_is_no_event_is_garbage_and_nothing_panics() {
    for text in [
        "",
        "{",
        "null",
        "[]",
        "{\"type\":\"ADDED\"}",
        "{\"type\":\"ADDED\",\"object\":null}",
        "{\"type\":\"ADDED\",\"object\":{}}",
        "{\"type\":\"NEWS\",\"object\":{}}",
        "\u{0}",
        "{\"type\":\"BOOKMARK\",\"object\":{}}",
        "{\"type\":\"DELETED\",\"object\":{\"metadata\":4}}",
    ] {
        assert!(matches!(line::<Slices>(text.as_bytes()), Line::Garbage(_)), "{text}");
    }
}

#[test]
fn the_bookmark_that_ends_a_list_is_told_from_others() {
    let text = br#"{"type":"BOOKMARK","object":{"kind":"Service","metadata":{"resourceVersion":"12","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
    assert!(
        matches!(line::<Services>(text), Line::Bookmark { version, end_of_list: true } if version == "12")
    );
    let text = br#"{"type":"BOOKMARK","object":{"kind":"Service","metadata":{"resourceVersion":"13","creationTimestamp":null}}}"#;
    assert!(matches!(line::<Services>(text), Line::Bookmark { end_of_list: false, .. }));
}

#[test]
fn a_refusal_is_read_from_a_status_from_text_and_from_the_header() {
    let text = br#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old resource version"}}"#;
    let Line::Error(refusal) = line::<Services>(text) else { panic!() };
    assert_eq!((refusal.code, refusal.message.as_str()), (410, "too old resource version"));
    let refusal = Refusal::read(429, Some("7"), b"Too many requests, please try again later.\n");
    assert_eq!((refusal.code, refusal.retry_after), (429, Some(Duration::from_secs(7))));
    let refusal = Refusal::read(
        500,
        None,
        br#"{"message":"","reason":"InternalError","details":{"retryAfterSeconds":2}}"#,
    );
    assert_eq!(
        refusal,
        Refusal { code: 500, message: "InternalError".into(), retry_after: Some(Duration::from_secs(2)) }
    );
}
