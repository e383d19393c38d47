// SPDX-License-Identifier: Apache-2.0
//! Commands: outputs, errors, exit codes.

use std::os::unix::net::UnixListener;

use evenkeel_agent::store::Batch;

use crate::{
    fake::{Fake, name},
    server::{Server, evenkeel_at, golden, text},
};

#[test]
fn every_command_answers_as_a_table_and_as_json() {
    let server = Server::start(Fake::busy());
    let commands: [(&str, &[&str]); 5] = [
        ("status", &["status"]),
        ("services", &["services"]),
        ("endpoints", &["endpoints", "demo/echo"]),
        ("connections", &["connections"]),
        ("explain", &["explain", "10.96.0.10:50051"]),
    ];
    for (file, args) in commands {
        let table = server.answer(args);
        let widest = table.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 100, "{file} is {widest} columns wide");
        assert!(!table.contains('\u{1b}'), "{file} has colours where nobody sees them");
        golden(&format!("{file}.txt"), &table);

        let json = server.answer(&[args, &["-o", "json"]].concat());
        serde_json::from_str::<serde_json::Value>(&json).unwrap();
        golden(&format!("{file}.json"), &json);
    }
}

#[test]
fn maps_that_are_behind_what_the_agent_knows_are_shown() {
    let fake = Fake::busy();
    let server = Server::start(fake.clone());
    let behind = || server.answer(&["status"]).contains("3 Services, 7 endpoints, NOT ALL IN THE MAPS YET");
    assert!(!behind());
    fake.writer.lock().unwrap().apply(Batch::default());
    assert!(behind());
    fake.state.lock().unwrap().kernel.publications.revision = 2;
    assert!(!behind());
}

#[test]
fn numbers_are_numbers_in_json() {
    let server = Server::start(Fake::busy());
    let status: serde_json::Value =
        serde_json::from_str(&server.answer(&["status", "--output", "json"])).unwrap();
    assert_eq!(status["generation"].as_u64(), Some(1_790_000_000_000_000_000));
    assert_eq!(status["kernel"]["counters"][0]["value"].as_u64(), Some(1200));
    assert_eq!(status["ready"].as_bool(), Some(true));
}

#[test]
fn an_agent_that_just_started_says_what_it_lacks() {
    let server = Server::start(Fake::fresh());
    golden("status-fresh.txt", &server.answer(&["status"]));
    let services = server.answer(&["services"]);
    assert_eq!(
        services,
        "No Service has opted in: label one with evenkeel.io/balance=connection or =request.\n"
    );
    assert_eq!(server.answer(&["connections"]), "No balanced connection is open on this node.\n");
}

#[test]
fn a_name_alone_is_enough_where_it_is_unambiguous() {
    let server = Server::start(Fake::busy());
    assert!(server.answer(&["endpoints", "dns"]).contains("10.244.1.9:9153"));
    let output = server.evenkeel(&["endpoints", "echo"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "evenkeel: \"echo\" is ambiguous: demo/echo, prod/echo; give NAMESPACE/NAME\n"
    );
    assert_eq!(server.answer(&["endpoints", "prod/echo"]), "prod/echo has no endpoints.\n");
}

#[test]
fn an_unknown_service_is_answered_with_what_exists() {
    let fake = Fake::busy();
    let server = Server::start(fake.clone());
    let refusal = |asked: &str| {
        let output = server.evenkeel(&["endpoints", asked]);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
        text(&output.stderr)
    };
    assert_eq!(
        refusal("demo/ecko"),
        "evenkeel: no Service \"demo/ecko\" has opted in; did you mean demo/echo or prod/echo?\n"
    );
    assert_eq!(
        refusal("frontend"),
        "evenkeel: no Service \"frontend\" has opted in; those that have: demo/dns, demo/echo, prod/echo\n"
    );
    let all = vec![name("demo", "echo"), name("demo", "dns"), name("prod", "echo")];
    fake.writer.lock().unwrap().apply(Batch { services_removed: all, ..Batch::default() });
    assert_eq!(
        refusal("echo"),
        "evenkeel: no Service \"echo\" has opted in, nor has any other; label one with evenkeel.io/balance\n"
    );
}

#[test]
fn without_an_agent_the_error_says_where_it_was_looked_for_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let absent = evenkeel_at(&socket, &["status"]);
    assert_eq!(absent.status.code(), Some(1));
    assert_eq!(
        text(&absent.stderr),
        format!(
            "evenkeel: cannot reach the agent at {}: No such file or directory (os error 2); is it running? start it \
             with `evenkeel run`\n",
            socket.display()
        )
    );
    drop(UnixListener::bind(&socket).unwrap());
    let dead = text(&evenkeel_at(&socket, &["services"]).stderr);
    assert!(dead.contains("Connection refused (os error 111); is it running?"), "{dead}");
}

#[test]
fn a_peer_that_hangs_up_is_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let hang_up = std::thread::spawn(move || drop(listener.accept()));
    let output = evenkeel_at(&socket, &["status"]);
    hang_up.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("closed the connection") && error.contains("ask as root"), "{error}");
}

#[test]
fn wrong_usage_exits_with_2_and_names_the_value() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    for (args, wanted) in [
        (&["explain", "echo.demo:50051"][..], "host names are not resolved"),
        (&["explain", "10.96.0.10"], "it is not ADDRESS:PORT"),
        (&["endpoints"], "<SERVICE>"),
        (&["status", "-o", "yaml"], "yaml"),
        (&["run", "--discovery", "https://x:1"], "give --discovery-ca FILE"),
        (&["run", "--discovery", "http://x:1", "--log", "info,x=loud"], "--log \"info,x=loud\""),
        (
            &["run", "--discovery", "http://x:1", "--stale-after", "1ms"],
            "--stale-after \"1ms\": is too short",
        ),
        (&["nonsense"], "nonsense"),
    ] {
        let output = evenkeel_at(&socket, args);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(wanted), "{args:?}: {error}");
    }
}

#[test]
fn detach_without_pins_does_nothing_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let pins = folder.path().join("evenkeel");
    let pins = pins.to_str().unwrap();
    let output = evenkeel_at(folder.path(), &["detach", "--pins", pins]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), format!("Nothing is pinned in {pins}: nothing to detach.\n"));
    let json = evenkeel_at(folder.path(), &["detach", "--pins", pins, "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json, serde_json::json!({ "pins": pins, "removed": [], "forgotten": false }));
}
