// SPDX-License-Identifier: Apache-2.0
//! The command against an API server that keeps objects and versions as the real one does.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// Objects by path. Cheap to clone.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    writes: Vec<String>,
    /// Answers every write with this.
    refusing: Option<(StatusCode, &'static str)>,
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        Client::new(tower::service_fn(move |request| server.clone().answer(request)), "default")
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        // Lets another command in between a read and a write.
        tokio::task::yield_now().await;
        let (status, answer) = self.0.lock().unwrap().handle(&parts.method, parts.uri.path(), &body);
        Ok(Response::builder().status(status).body(Body::from(answer.to_string().into_bytes())).unwrap())
    }

    fn data(&self, kind: &str, name: &str) -> Value {
        self.0.lock().unwrap().objects[&format!("/api/v1/namespaces/ns/{kind}/{name}")]["data"].clone()
    }

    fn writes(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().writes)
    }
}

impl State {
    fn handle(&mut self, method: &Method, path: &str, body: &[u8]) -> (StatusCode, Value) {
        let found = |object: Option<&Value>| match object {
            Some(object) => (StatusCode::OK, object.clone()),
            None => failure(StatusCode::NOT_FOUND, "NotFound"),
        };
        if method == Method::GET {
            return found(self.objects.get(path));
        }
        if let Some((code, reason)) = self.refusing {
            return failure(code, reason);
        }
        let mut object: Value = serde_json::from_slice(body).unwrap();
        let path = match *method {
            Method::POST => format!("{path}/{}", object["metadata"]["name"].as_str().unwrap()),
            _ => path.to_owned(),
        };
        let current = self.objects.get(&path);
        match *method {
            Method::POST if current.is_some() => return failure(StatusCode::CONFLICT, "AlreadyExists"),
            Method::PUT if current.is_none() => return found(None),
            Method::PUT
                if current.unwrap()["metadata"]["resourceVersion"]
                    != object["metadata"]["resourceVersion"] =>
            {
                return failure(StatusCode::CONFLICT, "Conflict");
            }
            _ => {}
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.writes.push(format!("{method} {}", path.trim_start_matches("/api/v1/namespaces/")));
        self.objects.insert(path, object.clone());
        (StatusCode::OK, object)
    }
}

fn failure(code: StatusCode, reason: &str) -> (StatusCode, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": reason, "code": code.as_u16(), "message": format!("it is {reason}"),
    });
    (code, status)
}

fn args() -> CertificatesArgs {
    CertificatesArgs {
        namespace: "ns".into(),
        secret: "tls".into(),
        ca_secret: "ca".into(),
        config_map: "trust".into(),
        dns_names: vec!["discovery.ns.svc".into()],
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn run_at(server: &Server, now: SystemTime) -> Result<String, CertificatesError> {
    run(server.client(), &args(), now).await.map(|report| report.to_string())
}

#[tokio::test]
async fn what_is_missing_is_made_and_then_left_alone() {
    let server = Server::default();
    let said = run_at(&server, now()).await.unwrap();
    assert_eq!(said, "Secret ns/ca: made\nConfigMap ns/trust: made\nSecret ns/tls: made\n");
    let order = ["POST ns/secrets/ca", "POST ns/configmaps/trust", "POST ns/secrets/tls"];
    assert_eq!(server.writes(), order, "clients are told before the server shows it");
    let said = run_at(&server, now() + 30 * DAY).await.unwrap();
    assert_eq!(said, "Secret ns/ca: unchanged\nConfigMap ns/trust: unchanged\nSecret ns/tls: unchanged\n");
    assert_eq!(server.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn only_the_server_certificate_is_renewed_when_it_is_due() {
    let server = Server::default();
    run_at(&server, now()).await.unwrap();
    server.writes();
    run_at(&server, now() + 61 * DAY).await.unwrap();
    assert_eq!(server.writes(), ["PUT ns/secrets/tls"]);
}

#[tokio::test]
async fn a_new_authority_is_told_to_clients_beside_the_old_one_and_replaces_the_server_certificate() {
    let server = Server::default();
    run_at(&server, now()).await.unwrap();
    let old = server.data("configmaps", "trust")["ca.crt"].as_str().unwrap().to_owned();
    server.writes();
    run_at(&server, now() + 2_500 * DAY).await.unwrap();
    assert_eq!(server.writes(), ["PUT ns/secrets/ca", "PUT ns/configmaps/trust", "PUT ns/secrets/tls"]);
    let trusted = server.data("configmaps", "trust")["ca.crt"].as_str().unwrap().to_owned();
    assert!(trusted.ends_with(&old) && trusted.matches("BEGIN CERTIFICATE").count() == 2, "{trusted}");
}

#[tokio::test]
async fn what_was_deleted_or_changed_is_put_right() {
    let server = Server::default();
    run_at(&server, now()).await.unwrap();
    let state = |change: &dyn Fn(&mut State)| change(&mut server.0.lock().unwrap());
    state(&|state| drop(state.objects.remove("/api/v1/namespaces/ns/configmaps/trust")));
    state(&|state| {
        state.objects.get_mut("/api/v1/namespaces/ns/secrets/tls").unwrap()["data"]["tls.key"] =
            "eA==".into();
    });
    server.writes();
    run_at(&server, now()).await.unwrap();
    assert_eq!(server.writes(), ["POST ns/configmaps/trust", "PUT ns/secrets/tls"]);
}

#[tokio::test]
async fn any_number_at_once_agree_on_one_authority() {
    let server = Server::default();
    let runs = (0..8).map(|_| {
        let server = server.clone();
        async move { run_at(&server, now()).await }
    });
    for said in futures_util::future::join_all(runs).await {
        said.unwrap();
    }
    let mut writes = server.writes();
    writes.sort();
    assert_eq!(writes, ["POST ns/configmaps/trust", "POST ns/secrets/ca", "POST ns/secrets/tls"]);
    run_at(&server, now()).await.unwrap();
    assert_eq!(server.writes(), Vec::<String>::new(), "and what they made belongs together");
}

#[tokio::test]
async fn what_somebody_else_made_is_left_alone_and_named() {
    let server = Server::default();
    let theirs = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "tls", "resourceVersion": "1" } });
    server.0.lock().unwrap().objects.insert("/api/v1/namespaces/ns/secrets/tls".into(), theirs.clone());
    let error = run_at(&server, now()).await.unwrap_err().to_string();
    assert!(error.starts_with("Secret ns/tls was not made by this command and is left alone"), "{error}");
    assert_eq!(server.0.lock().unwrap().objects["/api/v1/namespaces/ns/secrets/tls"], theirs);
}

#[tokio::test]
async fn a_broken_authority_is_named_and_not_replaced() {
    let server = Server::default();
    run_at(&server, now()).await.unwrap();
    server.0.lock().unwrap().objects.get_mut("/api/v1/namespaces/ns/secrets/ca").unwrap()["data"]["tls.crt"] =
        "eA==".into();
    server.writes();
    let error = run_at(&server, now()).await.unwrap_err().to_string();
    assert!(error.starts_with("Secret ns/ca: the certificate cannot be read"), "{error}");
    assert!(error.ends_with("delete it to have a new one made"), "{error}");
    assert_eq!(server.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_refusal_of_the_api_server_names_the_object_and_the_operation() {
    let server = Server::default();
    server.0.lock().unwrap().refusing = Some((StatusCode::FORBIDDEN, "Forbidden"));
    let error = run_at(&server, now()).await.unwrap_err().to_string();
    assert!(error.starts_with("Secret ns/ca: cannot create: "), "{error}");
}

#[tokio::test]
async fn a_writer_that_never_lets_anybody_else_is_given_up_on() {
    let server = Server::default();
    server.0.lock().unwrap().refusing = Some((StatusCode::CONFLICT, "Conflict"));
    let error = run_at(&server, now()).await.unwrap_err().to_string();
    assert_eq!(error, "Secret ns/ca: changed by somebody else 10 times in a row");
}
