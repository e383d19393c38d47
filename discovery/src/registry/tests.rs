// SPDX-License-Identifier: Apache-2.0
//! Entries live with their streams, texts are bounded, and asking never hangs.

use super::*;

fn node(id: &str, agent: &str) -> Node {
    Node { id: id.into(), user_agent_name: agent.into(), ..Default::default() }
}

#[test]
fn programs_are_known_by_what_they_call_themselves() {
    for (name, kind) in [
        ("evenkeel", Kind::Agent),
        ("envoy", Kind::Envoy),
        ("gRPC C-core", Kind::Grpc),
        ("gRPC Go", Kind::Grpc),
        ("grpc-node", Kind::Grpc),
        ("", Kind::Other),
        ("gr", Kind::Other),
        ("énvoy", Kind::Other),
    ] {
        assert_eq!(Kind::of(name), kind, "{name:?}");
    }
}

#[test]
fn an_entry_lives_as_long_as_its_stream() {
    let registry = Registry::default();
    let (first, _asks) = registry.enter(Delta::NAME, None);
    let (second, _asks) = registry.enter(StateOfTheWorld::NAME, None);
    second.meet(&node("envoy-1", "envoy"), &"a".into());
    assert_eq!(registry.count()[&(Kind::Envoy, StateOfTheWorld::NAME)], 1);
    drop(first);
    let left: Vec<_> = registry.clients().iter().map(|c| (c.stream, c.id.to_string())).collect();
    assert_eq!(left, [(2, "envoy-1".to_owned())]);
    drop(second);
    assert_eq!(registry.count().values().sum::<usize>(), 0);
}

#[test]
fn texts_of_a_client_are_cut_and_stay_on_one_line() {
    let registry = Registry::default();
    let (entry, _asks) = registry.enter(Delta::NAME, None);
    entry.meet(&node(&"é\n".repeat(10_000), &"x".repeat(10_000)), &"".into());
    entry.rejected(&"no\u{1b}[31m".repeat(1_000));
    let client = registry.clients().remove(0);
    for text in [&*client.id, &*client.user_agent, &*client.progress.last_rejection.unwrap()] {
        assert!(text.len() <= MAX_TEXT && !text.contains(char::is_control), "{text:?}");
    }
}

#[test]
fn a_client_is_behind_since_the_first_change_that_it_has_not_acknowledged() {
    let registry = Registry::default();
    let (entry, _asks) = registry.enter(Delta::NAME, None);
    entry.stands(true, 0);
    assert_eq!(registry.clients()[0].progress.behind_since, None);
    entry.stands(false, 0);
    let since = registry.clients()[0].progress.behind_since;
    assert!(since.is_some());
    entry.stands(false, 1);
    assert_eq!(registry.clients()[0].progress.behind_since, since);
}

#[tokio::test(start_paused = true)]
async fn asking_never_hangs_whatever_the_stream_does() {
    let registry = Registry::default();
    assert_eq!(registry.ask(1).await.unwrap_err(), NoAnswer::Gone);
    let (entry, mut asks) = registry.enter(Delta::NAME, None);
    assert_eq!(registry.ask(1).await.unwrap_err(), NoAnswer::Late);
    entry.writing();
    assert_eq!(registry.ask(1).await.unwrap_err(), NoAnswer::Blocked);
    entry.wrote();
    // The ask that came too late is still there; the next one is answered.
    let stream = tokio::spawn(async move {
        while let Some(ask) = asks.recv().await {
            ask.send(SessionReport::default()).ok();
        }
    });
    assert!(registry.ask(1).await.is_ok());
    stream.abort();
    assert!(stream.await.is_err());
    assert_eq!(registry.ask(1).await.unwrap_err(), NoAnswer::Gone);
}
