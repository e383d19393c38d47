// SPDX-License-Identifier: Apache-2.0
//! A delta xDS client that knows no more than names: which Services discovery serves. Raw HTTP/2 and hand-read protobuf,
//! because tests of the binaries use nothing of the products'.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use tokio::runtime::Runtime;

const SERVICE: &str = "type.googleapis.com/evenkeel.discovery.v1.Service";
const PATH: &str =
    "http://discovery/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// A connected client, subscribed to all Services.
pub(crate) struct Client {
    names: Arc<Mutex<BTreeSet<String>>>,
    // Ends the stream when dropped.
    _runtime: Runtime,
}

impl Client {
    /// Connects to a unix socket.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let names: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let stream = runtime.block_on(tokio::net::UnixStream::connect(socket))?;
        runtime.spawn(follow(stream, names.clone()));
        Ok(Self { names, _runtime: runtime })
    }

    /// Whether a Service is served.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names().contains(name)
    }

    /// All Services that are served.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.names.lock().unwrap().clone()
    }
}

async fn follow(stream: tokio::net::UnixStream, names: Arc<Mutex<BTreeSet<String>>>) {
    if let Err(error) = converse(stream, &names).await {
        // A name that no Service has: the test's failure shows it.
        names.lock().unwrap().insert(format!("the stream has ended: {error:#}"));
    }
}

async fn converse(stream: tokio::net::UnixStream, names: &Mutex<BTreeSet<String>>) -> Result<()> {
    let (client, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    let mut client = client.ready().await?;
    let request = http::Request::post(PATH)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut requests) = client.send_request(request, false)?;
    // Node { id }, type_url, resource_names_subscribe.
    let node = field(1, b"testbed");
    requests.send_data(message(&[field(1, &node), field(2, SERVICE.as_bytes()), field(3, b"*")]), false)?;
    let response = response.await?;
    ensure!(response.status() == 200, "{}", response.status());
    let mut body = response.into_body();
    let mut buffer = BytesMut::new();
    loop {
        while buffer.len() >= 5 {
            let length = u32::from_be_bytes([buffer[1], buffer[2], buffer[3], buffer[4]]) as usize;
            if buffer.len() < 5 + length {
                break;
            }
            let answer = buffer.split_to(5 + length).split_off(5);
            let nonce = apply(&answer, names)?;
            requests.send_data(message(&[field(2, SERVICE.as_bytes()), field(6, &nonce)]), false)?;
        }
        let bytes = body.data().await.context("no more data")??;
        body.flow_control().release_capacity(bytes.len())?;
        buffer.extend_from_slice(&bytes);
    }
}

/// DeltaDiscoveryResponse: resources = 2 (Resource: name = 3), nonce = 5, removed_resources = 6.
fn apply(answer: &[u8], names: &Mutex<BTreeSet<String>>) -> Result<Vec<u8>> {
    let (mut nonce, mut names) = (Vec::new(), names.lock().unwrap());
    for (number, value) in fields(answer)? {
        match number {
            2 => {
                let resource = fields(value)?;
                let name = resource.iter().find(|(number, _)| *number == 3).context("no name")?.1;
                names.insert(String::from_utf8(name.to_vec())?);
            }
            5 => nonce = value.to_vec(),
            6 => drop(names.remove(std::str::from_utf8(value)?)),
            _ => {}
        }
    }
    Ok(nonce)
}

/// Length-delimited fields; of all others only that they can be passed over.
fn fields(mut text: &[u8]) -> Result<Vec<(u64, &[u8])>> {
    let mut found = Vec::new();
    while !text.is_empty() {
        let key = varint(&mut text)?;
        match key & 7 {
            0 => drop(varint(&mut text)?),
            2 => {
                let length = usize::try_from(varint(&mut text)?)?;
                let (value, rest) = text.split_at_checked(length).context("a field is cut off")?;
                found.push((key >> 3, value));
                text = rest;
            }
            other => anyhow::bail!("wire type {other}"),
        }
    }
    Ok(found)
}

fn varint(text: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = text.split_first().context("a number is cut off")?;
        *text = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    Ok(value)
}

fn field(number: u8, value: &[u8]) -> Vec<u8> {
    assert!(value.len() < 128, "one byte of length is enough here");
    let mut bytes = vec![number << 3 | 2, value.len() as u8];
    bytes.extend_from_slice(value);
    bytes
}

/// A gRPC message, not compressed.
fn message(fields: &[Vec<u8>]) -> Bytes {
    let body = fields.concat();
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(body.len() as u32);
    bytes.extend_from_slice(&body);
    bytes.freeze()
}
