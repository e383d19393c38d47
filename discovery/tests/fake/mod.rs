// SPDX-License-Identifier: Apache-2.0
//! An API server that misbehaves on demand: lists, streaming lists, watches, bookmarks and history as Kubernetes
//! defines them, over real sockets, and scripted answers before them.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// An answer that is not the true one.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// A status, with `Retry-After` in seconds if there is one, and a body.
    Status(u16, Option<u32>, &'static str),
    /// A good head, then these bytes, then the connection breaks.
    Half(&'static str),
    /// A good head, these bytes, and a proper end.
    Whole(&'static str),
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) at: Instant,
    pub(crate) uri: String,
    pub(crate) accept: String,
}

#[derive(Default)]
struct State {
    version: u64,
    /// By resource, namespace and name.
    objects: BTreeMap<(String, String, String), Value>,
    history: Vec<(u64, String, String, Value)>,
    compacted: u64,
    scripted: BTreeMap<String, VecDeque<Answer>>,
    refused: BTreeMap<String, Answer>,
    lists_in_pages: bool,
    asked: Vec<Asked>,
    connections: u64,
    /// Connections up to this one say nothing any more.
    muted: u64,
    events: watch::Sender<BTreeMap<String, Value>>,
}

/// The server. Dropping it closes everything.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    cut: watch::Sender<u64>,
    task: JoinSet<()>,
}

enum Piece {
    Data(Bytes),
    Break,
}

struct Pieces(mpsc::UnboundedReceiver<Piece>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(context).map(|piece| match piece? {
            Piece::Data(bytes) => Some(Ok(Frame::data(bytes))),
            Piece::Break => Some(Err(std::io::Error::other("cut"))),
        })
    }
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let mut fake = Self {
            address: "127.0.0.1:0".parse().unwrap(),
            state: Arc::default(),
            changed: watch::channel(0).0,
            cut: watch::channel(0).0,
            task: JoinSet::new(),
        };
        fake.state.lock().version = 10;
        fake.listen().await;
        fake
    }

    async fn listen(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let (state, changed, cut) = (self.state.clone(), self.changed.subscribe(), self.cut.subscribe());
        self.task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let id = {
                    let mut state = state.lock();
                    state.connections += 1;
                    state.connections
                };
                let (state, changed, cut) = (state.clone(), changed.clone(), cut.clone());
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        answer(request, id, state.clone(), changed.clone(), cut.clone())
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
    }

    /// Kills the server: nothing listens, all connections are closed.
    pub(crate) async fn kill(&mut self) {
        self.task.shutdown().await;
    }

    /// Starts it again where it was.
    pub(crate) async fn revive(&mut self) {
        self.listen().await;
    }

    /// A kubeconfig for it.
    pub(crate) fn kubeconfig(&self) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: 'http://{}'}}}}]\nusers: [{{name: u, \
             user: {{token: secret}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n",
            self.address
        );
        std::fs::write(file.path(), text).unwrap();
        file
    }

    /// Creates or replaces an object; `None` deletes it.
    pub(crate) fn put(&self, resource: &str, namespace: &str, name: &str, object: Option<Value>) {
        let mut state = self.state.lock();
        state.version += 1;
        let (version, key) = (state.version, (resource.to_owned(), namespace.to_owned(), name.to_owned()));
        let known = state.objects.contains_key(&key);
        let (kind, mut value) = match object {
            Some(value) => (if known { "MODIFIED" } else { "ADDED" }, value),
            None => ("DELETED", state.objects[&key].clone()),
        };
        let uid = format!("uid-{namespace}-{name}");
        let metadata = value["metadata"].as_object_mut().unwrap();
        metadata.insert("name".into(), name.into());
        metadata.insert("uid".into(), uid.into());
        if !namespace.is_empty() {
            metadata.insert("namespace".into(), namespace.into());
        }
        metadata.insert("resourceVersion".into(), version.to_string().into());
        match kind {
            "DELETED" => state.objects.remove(&key),
            _ => state.objects.insert(key, value.clone()),
        };
        state.history.push((version, resource.to_owned(), kind.to_owned(), value));
        drop(state);
        self.changed.send_replace(version);
    }

    /// An opted-in Service in `demo`, with an address of its own: two with one address contradict each other.
    pub(crate) fn service(&self, name: &str, annotations: Value) {
        let labels = json!({"evenkeel.io/balance": "connection"});
        let last = name.bytes().fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
        let spec = json!({"clusterIP": format!("10.96.0.{last}"), "ports": [{"name": "grpc", "port": 80}]});
        let object = json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": spec});
        self.put("services", "demo", name, Some(object));
    }

    /// A slice of it.
    pub(crate) fn slice(&self, service: &str, address: &str) {
        let object = json!({"metadata": {"labels": {"kubernetes.io/service-name": service}}, "addressType": "IPv4",
            "ports": [{"name": "grpc", "port": 8080}], "endpoints": [{"addresses": [address], "nodeName": "a"}]});
        self.put("endpointslices", "demo", &format!("{service}-1"), Some(object));
    }

    /// The next request for `resource` gets this answer.
    pub(crate) fn script(&self, resource: &str, answers: &[Answer]) {
        self.state.lock().scripted.entry(resource.to_owned()).or_default().extend(answers.iter().cloned());
    }

    /// All requests for `resource` get this answer; `None`: no longer.
    pub(crate) fn refuse(&self, resource: &str, answer: Option<Answer>) {
        let mut state = self.state.lock();
        match answer {
            Some(answer) => drop(state.refused.insert(resource.to_owned(), answer)),
            None => drop(state.refused.remove(resource)),
        }
    }

    /// Lists are not streamed any more.
    pub(crate) fn only_pages(&self) {
        self.state.lock().lists_in_pages = true;
    }

    /// Forgets the history.
    pub(crate) fn compact(&self) {
        let mut state = self.state.lock();
        state.compacted = state.version;
    }

    /// Breaks all open watches.
    pub(crate) fn cut(&self) {
        self.cut.send_modify(|count| *count += 1);
    }

    /// Connections that are open now stay so, but say nothing any more: a peer that has lost power.
    pub(crate) fn mute(&self) {
        let mut state = self.state.lock();
        state.muted = state.connections;
    }

    /// Requests whose URI contains this.
    pub(crate) fn asked(&self, part: &str) -> Vec<Asked> {
        self.state.lock().asked.iter().filter(|asked| asked.uri.contains(part)).cloned().collect()
    }

    /// Events by name.
    pub(crate) fn events(&self) -> BTreeMap<String, Value> {
        self.state.lock().events.borrow().clone()
    }

    /// Waits until there are as many Events.
    pub(crate) async fn has_events(&self, count: usize) {
        let mut events = self.state.lock().events.subscribe();
        events.wait_for(|events| events.len() >= count).await.unwrap();
    }
}

async fn answer(
    request: Request<Incoming>,
    connection: u64,
    state: Arc<Mutex<State>>,
    changed: watch::Receiver<u64>,
    cut: watch::Receiver<u64>,
) -> Result<Response<Pieces>, Infallible> {
    let (head, mut body) = request.into_parts();
    let accept = head.headers.get("accept").map_or("", |value| value.to_str().unwrap()).to_owned();
    let uri = head.uri.to_string();
    let resource = head.uri.path().rsplit('/').next().unwrap().to_owned();
    let namespace =
        head.uri.path().split_once("/namespaces/").map(|(_, rest)| rest.split('/').next().unwrap());
    if head.method != Method::GET {
        let mut bytes = Vec::new();
        while let Some(Ok(frame)) =
            std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
        {
            bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
        return Ok(write_event(&head.method, &resource, &bytes, &state));
    }
    let query: BTreeMap<String, String> = head
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let mut held = state.lock();
    held.asked.push(Asked { at: Instant::now(), uri, accept });
    let scripted = held.scripted.get_mut(&resource).and_then(VecDeque::pop_front);
    if let Some(answer) = scripted.or_else(|| held.refused.get(&resource).cloned()) {
        return Ok(script(answer));
    }
    if !query.contains_key("watch") {
        return Ok(list(&held, &resource, namespace, query.get("continue")));
    }
    if query.contains_key("sendInitialEvents") && held.lists_in_pages {
        let text =
            r#"{"kind":"Status","code":422,"reason":"Invalid","message":"sendInitialEvents is forbidden"}"#;
        return Ok(script(Answer::Status(422, None, text)));
    }
    drop(held);
    let (sender, pieces) = mpsc::unbounded_channel();
    let after = query.get("resourceVersion").map(|version| version.parse().unwrap());
    let namespace = namespace.map(str::to_owned);
    tokio::spawn(feed(sender, connection, resource, namespace, after, state, changed, cut));
    Ok(Response::new(Pieces(pieces)))
}

fn script(answer: Answer) -> Response<Pieces> {
    let (sender, pieces) = mpsc::unbounded_channel();
    let mut response = Response::new(Pieces(pieces));
    let (text, broken) = match answer {
        Answer::Status(code, retry_after, text) => {
            *response.status_mut() = code.try_into().unwrap();
            if let Some(seconds) = retry_after {
                response.headers_mut().insert("retry-after", seconds.into());
            }
            (text, false)
        }
        Answer::Half(text) => (text, true),
        Answer::Whole(text) => (text, false),
    };
    if !text.is_empty() {
        sender.send(Piece::Data(text.into())).unwrap();
    }
    if broken {
        sender.send(Piece::Break).unwrap();
    }
    response
}

/// Two objects a page.
fn list(state: &State, resource: &str, namespace: Option<&str>, from: Option<&String>) -> Response<Pieces> {
    let from = from.map_or(0, |from| from.parse::<usize>().unwrap());
    let all: Vec<&Value> = of(state, resource, namespace).collect();
    let next = if from + 2 < all.len() { (from + 2).to_string() } else { String::new() };
    let items: Vec<&&Value> = all.iter().skip(from).take(2).collect();
    let page = json!({"kind": "List", "items": items,
        "metadata": {"resourceVersion": state.version.to_string(), "continue": next}});
    let (sender, pieces) = mpsc::unbounded_channel();
    sender.send(Piece::Data(page.to_string().into())).unwrap();
    Response::new(Pieces(pieces))
}

fn of<'a>(
    state: &'a State,
    resource: &'a str,
    namespace: Option<&'a str>,
) -> impl Iterator<Item = &'a Value> {
    let matches = move |key: &(String, String, String)| {
        key.0 == resource && namespace.is_none_or(|namespace| key.1 == namespace)
    };
    state.objects.iter().filter(move |(key, _)| matches(key)).map(|(_, object)| object)
}

fn event(kind: &str, object: &Value) -> Piece {
    Piece::Data(format!("{}\n", json!({"type": kind, "object": object})).into())
}

#[allow(clippy::too_many_arguments)]
async fn feed(
    sender: mpsc::UnboundedSender<Piece>,
    connection: u64,
    resource: String,
    namespace: Option<String>,
    after: Option<u64>,
    state: Arc<Mutex<State>>,
    mut changed: watch::Receiver<u64>,
    mut cut: watch::Receiver<u64>,
) {
    cut.mark_unchanged();
    let mut position = after.unwrap_or_default();
    if after.is_none() {
        let state = state.lock();
        for object in of(&state, &resource, namespace.as_deref()) {
            let _ = sender.send(event("ADDED", object));
        }
        position = state.version;
        let mark = json!({"kind": "x", "metadata": {"resourceVersion": position.to_string(),
            "annotations": {"k8s.io/initial-events-end": "true"}}});
        let _ = sender.send(event("BOOKMARK", &mark));
    }
    loop {
        let muted = connection <= state.lock().muted;
        if muted {
            // Held open for as long as the other end does.
            return sender.closed().await;
        }
        if !catch_up(&sender, &resource, namespace.as_deref(), &mut position, &state.lock()) {
            return;
        }
        tokio::select! {
            _ = changed.changed() => {}
            _ = cut.changed() => {
                let _ = sender.send(Piece::Data("{\"type\":\"MODIF".into()));
                let _ = sender.send(Piece::Break);
                return;
            }
            () = sender.closed() => return,
        }
    }
}

/// Sends what has happened since; `false`: that is not known any more.
fn catch_up(
    sender: &mpsc::UnboundedSender<Piece>,
    resource: &str,
    namespace: Option<&str>,
    position: &mut u64,
    state: &State,
) -> bool {
    if *position < state.compacted {
        let gone = json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"});
        let _ = sender.send(event("ERROR", &gone));
        return false;
    }
    for (version, kind_of, kind, object) in &state.history {
        let here = namespace.is_none_or(|name| object["metadata"]["namespace"] == name);
        if *version > *position && *kind_of == resource && here {
            let _ = sender.send(event(kind, object));
        }
    }
    *position = state.version;
    true
}

fn write_event(method: &Method, name: &str, body: &[u8], state: &Mutex<State>) -> Response<Pieces> {
    let event: Value = serde_json::from_slice(body).unwrap();
    let state = state.lock();
    if *method == Method::PATCH {
        state.events.send_modify(|events| events.get_mut(name).unwrap()["series"] = event["series"].clone());
        return script(Answer::Whole(
            "{\"kind\":\"Event\",\"apiVersion\":\"events.k8s.io/v1\",\"metadata\":{}}",
        ));
    }
    let name = event["metadata"]["name"].as_str().unwrap().to_owned();
    if state.events.borrow().contains_key(&name) {
        return script(Answer::Status(409, None, r#"{"kind":"Status","code":409,"reason":"AlreadyExists"}"#));
    }
    state.events.send_modify(|events| drop(events.insert(name, event)));
    script(Answer::Whole("{\"kind\":\"Event\",\"apiVersion\":\"events.k8s.io/v1\",\"metadata\":{}}"))
}
