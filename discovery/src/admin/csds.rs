// SPDX-License-Identifier: Apache-2.0
//! The client status discovery service: which configuration each client has, as standard tools ask for it.
//!
//! Source: `envoy.service.status.v3`, served by a management server: `config_status` is filled, `client_status` is the
//! clients' own to fill. A client whose stream does not answer in time is named without resources.
//!
//! What must always be true: an answer lists at most [`MAX_RESOURCES`] resources, and says so instead of listing fewer.
//! Deliberately not here: contents of resources, and matching by metadata or regular expressions.

use std::pin::Pin;

use envoy_types::pb::envoy::admin::v3::UpdateFailureState;
use envoy_types::pb::envoy::config::core::v3::{Locality, Node};
use envoy_types::pb::envoy::service::status::v3::client_config::GenericXdsConfig;
use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_server::ClientStatusDiscoveryService;
use envoy_types::pb::envoy::service::status::v3::{
    ClientConfig, ClientStatusRequest, ClientStatusResponse, ConfigStatus,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{NodeMatcher, StringMatcher};
use evenkeel_proto::discovery_admin as api;
use futures_util::Stream;
use futures_util::StreamExt as _;
use tonic::{Request, Response, Status, Streaming};

use super::describe;
use crate::registry::{Client, Registry};

/// Resources in one answer: some 40 MB.
const MAX_RESOURCES: usize = 200_000;
/// Matchers in one request.
const MAX_MATCHERS: usize = 64;

/// The gRPC service.
#[derive(Clone, Debug)]
pub(super) struct Csds {
    registry: Registry,
}

type Answers = Pin<Box<dyn Stream<Item = Result<ClientStatusResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ClientStatusDiscoveryService for Csds {
    type StreamClientStatusStream = Answers;

    async fn stream_client_status(
        &self,
        request: Request<Streaming<ClientStatusRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let csds = self.clone();
        let answers = request.into_inner().then(move |request| {
            let csds = csds.clone();
            async move { csds.answer(&request?).await }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn fetch_client_status(
        &self,
        request: Request<ClientStatusRequest>,
    ) -> Result<Response<ClientStatusResponse>, Status> {
        Ok(Response::new(self.answer(request.get_ref()).await?))
    }
}

// === impl Csds ===

impl Csds {
    pub(super) fn new(registry: Registry) -> Self {
        Self { registry }
    }

    async fn answer(&self, request: &ClientStatusRequest) -> Result<ClientStatusResponse, Status> {
        let matchers = Matchers::read(&request.node_matchers)?;
        let (mut config, mut resources) = (Vec::new(), 0);
        for client in self.registry.clients().iter().filter(|client| matchers.admit(&client.id)) {
            let client = self.client(client).await;
            resources += client.generic_xds_configs.len();
            if resources > MAX_RESOURCES {
                return Err(Status::resource_exhausted(format!(
                    "the clients hold more than {MAX_RESOURCES} resources together; ask for some of them with \
                     node_matchers"
                )));
            }
            config.push(client);
        }
        Ok(ClientStatusResponse { config })
    }

    async fn client(&self, client: &Client) -> ClientConfig {
        let report = self.registry.ask(client.stream).await.unwrap_or_default();
        let node = report.node.unwrap_or_else(|| Node {
            id: client.id.to_string(),
            locality: Some(Locality { zone: client.zone.to_string(), ..Locality::default() }),
            ..Node::default()
        });
        let subscriptions = report.types.iter().map(describe::subscription);
        let resources = subscriptions.flat_map(|subscription| {
            let api::Subscription { type_url, resources, .. } = subscription;
            resources.into_iter().map(move |held| resource(&type_url, held))
        });
        ClientConfig {
            node: Some(node),
            generic_xds_configs: resources.collect(),
            // Two streams of one node are two scopes.
            client_scope: format!("stream {}", client.stream),
            ..ClientConfig::default()
        }
    }
}

fn resource(type_url: &str, held: api::Held) -> GenericXdsConfig {
    let status = match held.state.as_str() {
        "acknowledged" => ConfigStatus::Synced,
        "rejected" => ConfigStatus::Error,
        _ if held.version.is_empty() => ConfigStatus::NotSent,
        _ => ConfigStatus::Stale,
    };
    let error_state = (status == ConfigStatus::Error).then(|| UpdateFailureState {
        details: held.reason,
        version_info: held.version.clone(),
        ..UpdateFailureState::default()
    });
    GenericXdsConfig {
        type_url: type_url.to_owned(),
        name: held.name,
        version_info: held.version,
        config_status: status.into(),
        error_state,
        ..GenericXdsConfig::default()
    }
}

/// What `node_matchers` ask for: a client that any of them matches, or everybody where there is none.
struct Matchers<'r>(Vec<&'r StringMatcher>);

impl<'r> Matchers<'r> {
    fn read(matchers: &'r [NodeMatcher]) -> Result<Self, Status> {
        if matchers.len() > MAX_MATCHERS {
            return Err(Status::invalid_argument(format!("at most {MAX_MATCHERS} node_matchers")));
        }
        let read = |matcher: &'r NodeMatcher| {
            let simple = matcher.node_id.as_ref().filter(|id| {
                use MatchPattern::{Contains, Exact, Prefix, Suffix};
                matches!(id.match_pattern, Some(Exact(_) | Prefix(_) | Suffix(_) | Contains(_)))
            });
            simple.filter(|_| matcher.node_metadatas.is_empty()).ok_or_else(|| {
                Status::invalid_argument(
                    "node_matchers: only node_id is matched here, by exact, prefix, suffix or contains",
                )
            })
        };
        matchers.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    fn admit(&self, id: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|matcher| matches(matcher, id))
    }
}

fn matches(matcher: &StringMatcher, id: &str) -> bool {
    let fold = |text: &str| if matcher.ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
    let id = fold(id);
    match &matcher.match_pattern {
        Some(MatchPattern::Exact(text)) => id == fold(text),
        Some(MatchPattern::Prefix(text)) => id.starts_with(&fold(text)),
        Some(MatchPattern::Suffix(text)) => id.ends_with(&fold(text)),
        Some(MatchPattern::Contains(text)) => id.contains(&fold(text)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(pattern: MatchPattern) -> NodeMatcher {
        let id = StringMatcher { match_pattern: Some(pattern), ..Default::default() };
        NodeMatcher { node_id: Some(id), ..Default::default() }
    }

    #[test]
    fn matchers_choose_by_id_and_none_choose_everybody() {
        assert!(Matchers::read(&[]).unwrap().admit("anyone"));
        let some = [by(MatchPattern::Exact("a".into())), by(MatchPattern::Prefix("node-".into()))];
        let some = Matchers::read(&some).unwrap();
        assert!(some.admit("a") && some.admit("node-7") && !some.admit("b"));
    }

    #[test]
    fn a_matcher_that_is_not_understood_is_refused_instead_of_ignored() {
        let error = Matchers::read(&[NodeMatcher::default()]).err().unwrap();
        assert!(error.message().contains("only node_id is matched here"), "{error}");
    }

    #[test]
    fn the_status_of_a_resource_is_what_the_client_made_of_it() {
        for (state, version, status) in [
            ("acknowledged", "1", ConfigStatus::Synced),
            ("sent", "1", ConfigStatus::Stale),
            ("pending", "1", ConfigStatus::Stale),
            ("pending", "", ConfigStatus::NotSent),
            ("absent", "", ConfigStatus::NotSent),
            ("rejected", "1", ConfigStatus::Error),
        ] {
            let held = api::Held {
                name: "x".into(),
                version: version.into(),
                state: state.into(),
                reason: "why".into(),
            };
            let config = resource("t", held);
            assert_eq!(config.config_status, i32::from(status), "{state} {version:?}");
            assert_eq!(config.error_state.is_some(), status == ConfigStatus::Error);
        }
    }
}
