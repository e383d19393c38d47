// SPDX-License-Identifier: Apache-2.0
//! As much of a Kubernetes API server as the measured one asks for: streaming lists and watches, over loopback.
//!
//! Source: <https://kubernetes.io/docs/reference/using-api/api-concepts/> (watches, bookmarks, streaming lists). A real one
//! would spend its own time on the cores that are measured; this one has every list ready as bytes and writes them as fast
//! as they are read. A change is written to the open watches by the thread that makes it, so that the moment of change is
//! known. Everything but a watch of the three kinds is answered with 404. Deliberately not here: selectors, TLS, rights.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::world::Draft;

/// A server that does not read for so long is not measured but broken.
const PATIENCE: Duration = Duration::from_secs(60);
const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// What can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Services,
    Slices,
    Nodes,
}

const KINDS: [(Kind, &str); 3] = [
    (Kind::Services, "/api/v1/services"),
    (Kind::Slices, "/apis/discovery.k8s.io/v1/endpointslices"),
    (Kind::Nodes, "/api/v1/nodes"),
];

/// What there is at first: for each kind the events of a streaming list, as they go onto the wire.
#[derive(Debug, Default)]
pub(super) struct Lists([Vec<u8>; 3]);

/// A running server. It ends with the process.
pub(super) struct ApiServer {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    kinds: [Mutex<Watched>; 3],
}

#[derive(Default)]
struct Watched {
    list: Vec<u8>,
    /// When the last list had been written.
    listed: Option<Instant>,
    /// What has happened since, with the versions.
    history: Vec<(u64, Vec<u8>)>,
    open: Vec<TcpStream>,
}

/// How a watch begins.
#[derive(Debug, PartialEq, Eq)]
enum Start {
    Everything,
    After(u64),
}

/// One line of a watch.
pub(super) fn event(kind: &str, object: &Value) -> Vec<u8> {
    let mut line = json!({"type": kind, "object": object}).to_string().into_bytes();
    line.push(b'\n');
    line
}

impl Lists {
    /// One more object.
    pub(super) fn add(&mut self, kind: Kind, object: &Value) {
        chunk(&mut self.0[kind as usize], &event("ADDED", object));
    }

    /// There are no others; this is the version of all that.
    pub(super) fn end(&mut self, version: u64) {
        let mark = json!({"metadata": {
            "resourceVersion": version.to_string(), "annotations": {"k8s.io/initial-events-end": "true"},
        }});
        self.0.iter_mut().for_each(|list| chunk(list, &event("BOOKMARK", &mark)));
    }
}

impl ApiServer {
    /// Listens on a free port of loopback.
    pub(super) fn start(lists: Lists) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot bind to loopback")?;
        let address = listener.local_addr().context("the socket has no address")?;
        let state =
            Arc::new(State { kinds: lists.0.map(|list| Mutex::new(Watched { list, ..Watched::default() })) });
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(std::io::Result::ok) {
                let state = shared.clone();
                // A connection that breaks is the other side's affair: it asks again or says why it cannot.
                thread::spawn(move || serve(stream, &state).ok());
            }
        });
        Ok(Self { address, state })
    }

    /// A kubeconfig for it.
    pub(super) fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "bench", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "bench", "user": {}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
            "current-context": "bench",
        })
        .to_string()
    }

    /// When the last byte of the last list had been written.
    pub(super) fn listed(&self) -> Result<Instant> {
        let ends: Option<Vec<Instant>> = self.state.kinds.iter().map(|kind| lock(kind).listed).collect();
        ends.and_then(|ends| ends.into_iter().max()).context("the server has not read all lists")
    }

    /// The change happens now.
    pub(super) fn publish(&self, draft: &Draft) -> Result<()> {
        let mut bytes = Vec::with_capacity(draft.event.len() + 16);
        chunk(&mut bytes, &draft.event);
        let mut slices = lock(&self.state.kinds[Kind::Slices as usize]);
        slices.open.retain_mut(|stream| stream.write_all(&bytes).is_ok());
        slices.history.push((draft.version, bytes));
        ensure!(!slices.open.is_empty(), "the server does not watch EndpointSlices any more");
        Ok(())
    }
}

fn serve(stream: TcpStream, state: &State) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().context("no request")??;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    match parse(&request) {
        Some((kind, start)) => lock(&state.kinds[kind as usize]).watch(stream, &start),
        None => (&stream).write_all(NOT_FOUND).context("cannot answer"),
    }
}

/// What is to be watched; `None`: something else was asked for.
fn parse(request: &str) -> Option<(Kind, Start)> {
    let (path, query) = request.strip_prefix("GET ")?.split_once(' ')?.0.split_once('?')?;
    let (kind, _) = KINDS.into_iter().find(|(_, known)| *known == path)?;
    let pairs = || query.split('&').filter_map(|pair| pair.split_once('='));
    pairs().find(|pair| *pair == ("watch", "true"))?;
    if pairs().any(|pair| pair == ("sendInitialEvents", "true")) {
        return Some((kind, Start::Everything));
    }
    let (_, version) = pairs().find(|(key, _)| *key == "resourceVersion")?;
    Some((kind, Start::After(version.parse().ok()?)))
}

impl Watched {
    fn watch(&mut self, mut stream: TcpStream, start: &Start) -> Result<()> {
        stream.write_all(HEAD)?;
        let after = match start {
            Start::Everything => {
                stream.write_all(&self.list)?;
                self.listed = Some(Instant::now());
                0
            }
            Start::After(version) => *version,
        };
        for (_, bytes) in self.history.iter().filter(|(version, _)| *version > after) {
            stream.write_all(bytes)?;
        }
        self.open.push(stream);
        Ok(())
    }
}

fn chunk(out: &mut Vec<u8>, line: &[u8]) {
    out.extend_from_slice(format!("{:x}\r\n", line.len()).as_bytes());
    out.extend_from_slice(line);
    out.extend_from_slice(b"\r\n");
}

fn lock(watched: &Mutex<Watched>) -> MutexGuard<'_, Watched> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn ask(server: &ApiServer, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "{request}\r\nhost: x\r\n\r\n").unwrap();
        stream
    }

    fn expect(stream: &mut TcpStream, parts: &[&[u8]]) {
        let expected = parts.concat();
        let mut found = vec![0; expected.len()];
        stream.read_exact(&mut found).unwrap();
        assert_eq!(String::from_utf8_lossy(&found), String::from_utf8_lossy(&expected));
    }

    #[test]
    fn a_watch_gets_the_list_then_changes_and_another_goes_on_after_a_version() {
        let mut lists = Lists::default();
        lists.add(Kind::Slices, &json!({"n": 1}));
        lists.end(7);
        let list = lists.0[Kind::Slices as usize].clone();
        let server = ApiServer::start(lists).unwrap();
        let path = KINDS[Kind::Slices as usize].1;
        let all = format!("GET {path}?watch=true&sendInitialEvents=true HTTP/1.1");
        let mut first = ask(&server, &all);
        expect(&mut first, &[HEAD, &list]);
        let draft = |version| Draft {
            service: 0,
            address: [10, 0, 0, 1].into(),
            version,
            event: format!("{version}\n").into_bytes(),
        };
        // The watch is registered under the lock that a list is written under, so that waiting for it is enough.
        server.publish(&draft(8)).unwrap();
        server.publish(&draft(9)).unwrap();
        expect(&mut first, &[b"2\r\n8\n\r\n2\r\n9\n\r\n"]);
        let mut second = ask(&server, &format!("GET {path}?watch=true&resourceVersion=8 HTTP/1.1"));
        expect(&mut second, &[HEAD, b"2\r\n9\n\r\n"]);
    }

    #[test]
    fn only_watches_of_known_kinds_are_understood() {
        assert_eq!(
            parse("GET /api/v1/nodes?watch=true&resourceVersion=12 HTTP/1.1"),
            Some((Kind::Nodes, Start::After(12)))
        );
        for other in [
            "GET /api/v1/nodes?limit=250 HTTP/1.1",
            "GET /api/v1/pods?watch=true&resourceVersion=1 HTTP/1.1",
            "POST /apis/events.k8s.io/v1/namespaces/x/events HTTP/1.1",
            "GET /api/v1/nodes?watch=true&resourceVersion=x HTTP/1.1",
            "",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
