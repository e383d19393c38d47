// SPDX-License-Identifier: Apache-2.0
//! What opens the gate, with a table in place of the API server, and what the kube client makes of its answers.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use ::kube::client::Body;
use http::{Request, Response, StatusCode};
use tonic::Code;

use super::*;

#[derive(Clone, Default)]
struct Table {
    away: Arc<AtomicBool>,
    revoked: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl TokenReviewer for Table {
    async fn review(&self, token: &str) -> Result<Verdict, Unreviewed> {
        self.asked.fetch_add(1, SeqCst);
        if self.away.load(SeqCst) {
            return Err(Unreviewed("connection refused".into()));
        }
        Ok(match token.starts_with("good") && !self.revoked.load(SeqCst) {
            true => Verdict::Accepted("system:serviceaccount:evenkeel-system:agent".into()),
            false => Verdict::Refused("token has expired".into()),
        })
    }
}

fn headers(value: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
}

fn gate() -> (Gate, Table) {
    let table = Table::default();
    (Gate::new(table.clone(), TransportMetrics::default()), table)
}

async fn refused(gate: &Gate, value: &str) -> (Code, String) {
    let status = gate.admit(&headers(value)).await.unwrap_err();
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn a_good_token_opens_and_is_asked_about_once() {
    let (gate, table) = gate();
    for _ in 0..3 {
        let user = gate.admit(&headers("Bearer good")).await.unwrap();
        assert_eq!(&*user, "system:serviceaccount:evenkeel-system:agent");
    }
    assert_eq!(table.asked.load(SeqCst), 1);
}

#[tokio::test]
async fn a_refused_token_is_told_why_and_costs_the_api_server_one_question() {
    let (gate, table) = gate();
    for _ in 0..3 {
        let (code, message) = refused(&gate, "bearer old").await;
        assert_eq!((code, &*message), (Code::Unauthenticated, "the token is refused: token has expired"));
    }
    assert_eq!(table.asked.load(SeqCst), 1);
}

#[tokio::test]
async fn no_token_and_what_is_none_is_refused_without_a_question() {
    let (gate, table) = gate();
    let status = gate.admit(&HeaderMap::new()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("send `authorization: Bearer TOKEN`"), "{status:?}");
    for value in ["Basic good", "Bearer", "Bearer  ", "good"] {
        assert_eq!(refused(&gate, value).await.0, Code::Unauthenticated, "{value:?}");
    }
    let long = format!("Bearer {}", "x".repeat(MAX_TOKEN_BYTES + 1));
    assert!(refused(&gate, &long).await.1.contains("the limit is"));
    assert_eq!(table.asked.load(SeqCst), 0);
}

#[tokio::test]
async fn with_the_api_server_away_known_tokens_go_on_and_others_shall_try_again() {
    let (gate, table) = gate();
    gate.admit(&headers("Bearer good")).await.unwrap();
    // Accepted ten minutes ago, good for an hour.
    let then = Instant::now().checked_sub(cache::FRESH * 2).unwrap();
    let hour = Some(Duration::from_secs(3600));
    gate.cache().accept(token::digest("good-but-stale"), "agent".into(), hour, then);
    table.away.store(true, SeqCst);
    gate.admit(&headers("Bearer good")).await.unwrap();
    gate.admit(&headers("Bearer good-but-stale")).await.unwrap();
    let (code, message) = refused(&gate, "Bearer good-and-new").await;
    assert_eq!(code, Code::Unavailable);
    assert_eq!(message, "the token cannot be checked now: connection refused");
    table.away.store(false, SeqCst);
    gate.admit(&headers("Bearer good-and-new")).await.unwrap();
}

#[tokio::test]
async fn a_refusal_takes_an_earlier_acceptance_back() {
    let (gate, table) = gate();
    let then = Instant::now().checked_sub(cache::FRESH * 2).unwrap();
    gate.cache().accept(token::digest("good"), "agent".into(), Some(Duration::from_secs(3600)), then);
    table.revoked.store(true, SeqCst);
    assert_eq!(refused(&gate, "Bearer good").await.0, Code::Unauthenticated);
    table.away.store(true, SeqCst);
    assert_eq!(refused(&gate, "Bearer good").await.0, Code::Unauthenticated, "not taken for a known one");
}

/// What the kube client makes of this answer.
async fn answered(code: u16, body: &'static str) -> Result<Verdict, Unreviewed> {
    let server = tower::service_fn(move |request: Request<Body>| async move {
        assert_eq!(request.uri().path(), "/apis/authentication.k8s.io/v1/tokenreviews");
        let sent: serde_json::Value =
            serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap()).unwrap();
        assert_eq!(sent["spec"], serde_json::json!({"token": "t", "audiences": ["evenkeel-discovery"]}));
        let answer = Response::builder().status(StatusCode::from_u16(code).unwrap());
        Ok::<_, std::convert::Infallible>(answer.body(Body::from(body.as_bytes().to_vec())).unwrap())
    });
    let client = ::kube::Client::new(server, "default");
    KubeReviewer::new(client, "evenkeel-discovery".into()).review("t").await
}

#[tokio::test]
async fn an_answer_of_the_api_server_is_a_verdict_only_with_our_audience() {
    let good = answered(
        201,
        r#"{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","metadata":{},"spec":{"token":"t"},
        "status":{"authenticated":true,"audiences":["evenkeel-discovery"],"user":{"username":"agent"}}}"#,
    );
    assert_eq!(good.await.unwrap(), Verdict::Accepted("agent".into()));
    let foreign = answered(
        201,
        r#"{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","metadata":{},"spec":{"token":"t"},
        "status":{"authenticated":true,"user":{"username":"agent"}}}"#,
    );
    assert!(
        matches!(foreign.await.unwrap(), Verdict::Refused(reason) if reason.contains("not for the audience"))
    );
    let bad = answered(
        201,
        r#"{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","metadata":{},"spec":{"token":"t"},
        "status":{"error":"service account token has expired"}}"#,
    );
    assert_eq!(bad.await.unwrap(), Verdict::Refused("service account token has expired".into()));
}

#[tokio::test]
async fn an_api_server_that_gives_no_verdict_is_no_refusal() {
    let forbidden = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"no rights",
        "reason":"Forbidden","code":403}"#;
    let error = answered(403, forbidden).await.unwrap_err().to_string();
    assert!(error.contains("no rights") && error.contains("the right to create tokenreviews"), "{error}");
    for (code, body) in [(500, "oops"), (201, "{\"kind\":\"Tok")] {
        assert!(answered(code, body).await.is_err(), "{code}");
    }
}
