// SPDX-License-Identifier: Apache-2.0
//! How Envoy and gRPC reach a port's endpoints: a `Cluster`.
//!
//! One list of policies for both (gRFC A52: each client takes the first that it implements). What must always be true:
//! the localities' weights are followed, whoever reads the list.
//! * Envoy: `subset`, which chooses among localities by weight and asks the policy within it for the endpoint. It comes
//!   first and is Envoy's alone: gRPC for Go and Java implement `least_request` too, but at the top of the list it would
//!   choose among all endpoints and ignore their localities. Without a selector, or for a request that names no subset,
//!   it covers all endpoints.
//! * gRPC: `wrr_locality`, which is what chooses among localities there. Envoy implements it as well, but refuses the
//!   whole cluster unless `client_side_weighted_round_robin` is in it, so it must not come first.
//!
//! Deliberately not here: strategies that need a hash of the request (`ring-hash`, `maglev`), because nobody can say yet
//! what to hash; they are balanced by the fewest requests. Outlier detection, because its annotation has no effect yet.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CommonLbConfig, DiscoveryType, EdsClusterConfig,
};
use envoy_types::pb::envoy::config::cluster::v3::load_balancing_policy::Policy;
use envoy_types::pb::envoy::config::cluster::v3::{CircuitBreakers, Cluster, LoadBalancingPolicy};
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    ApiVersion, ConfigSource, Http1ProtocolOptions, Http2ProtocolOptions, SelfConfigSource,
    TypedExtensionConfig,
};
use envoy_types::pb::envoy::extensions::load_balancing_policies::client_side_weighted_round_robin::v3::ClientSideWeightedRoundRobin;
use envoy_types::pb::envoy::extensions::load_balancing_policies::common::v3::LocalityLbConfig;
use envoy_types::pb::envoy::extensions::load_balancing_policies::common::v3::locality_lb_config::{
    LocalityConfigSpecifier, LocalityWeightedLbConfig,
};
use envoy_types::pb::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;
use envoy_types::pb::envoy::extensions::load_balancing_policies::random::v3::Random;
use envoy_types::pb::envoy::extensions::load_balancing_policies::round_robin::v3::RoundRobin;
use envoy_types::pb::envoy::extensions::load_balancing_policies::subset::v3::Subset;
use envoy_types::pb::envoy::extensions::load_balancing_policies::subset::v3::subset::lb_subset_selector::LbSubsetSelectorFallbackPolicy;
use envoy_types::pb::envoy::extensions::load_balancing_policies::subset::v3::subset::{
    LbSubsetFallbackPolicy, LbSubsetSelector,
};
use envoy_types::pb::envoy::extensions::load_balancing_policies::wrr_locality::v3::WrrLocality;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
    explicit_http_config::ProtocolConfig,
};
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::{Duration, UInt32Value};
use evenkeel_proto::discovery::{Application, Strategy};
use evenkeel_xds::{EncodedResource, type_url};
use prost::{Message, Name};

use super::{Frontend, ads, pack};

/// Time for one lost SYN, which is sent again after a second.
const CONNECT_TIMEOUT: Duration = Duration { seconds: 2, nanos: 0 };
/// Where Envoy looks for a cluster's HTTP options.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// A port's `Cluster`: the same for all clients.
pub fn cluster(frontend: &Frontend) -> EncodedResource {
    let http = http_options(frontend.application);
    let message = Cluster {
        name: frontend.name.to_string(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(ads()), ..Default::default() }),
        connect_timeout: Some(CONNECT_TIMEOUT),
        // An endpoint that drains is never better than none: the next priority is.
        common_lb_config: Some(CommonLbConfig {
            healthy_panic_threshold: Some(Percent { value: 0.0 }),
            ..Default::default()
        }),
        circuit_breakers: Some(CircuitBreakers { thresholds: vec![unlimited()], ..Default::default() }),
        typed_extension_protocol_options: http
            .map(|options| HashMap::from([(HTTP_OPTIONS.to_owned(), pack(&options))]))
            .unwrap_or_default(),
        load_balancing_policy: Some(list([for_envoy(frontend), for_grpc(frontend.strategy)])),
        // gRPC reports load on the stream's own server (gRFC A27); Envoy reports where its bootstrap says.
        lrs_server: Some(ConfigSource {
            resource_api_version: ApiVersion::V3.into(),
            config_source_specifier: Some(ConfigSourceSpecifier::Self_(SelfConfigSource::default())),
            ..Default::default()
        }),
        ..Default::default()
    };
    EncodedResource::encode(type_url::CLUSTER, frontend.name.clone(), &message)
}

/// Both Envoy and gRPC (gRFC A32) fail what is above 1 024 requests at a time unless told otherwise. Without a balancer
/// there would be no such limit.
fn unlimited() -> Thresholds {
    let most = Some(UInt32Value { value: u32::MAX });
    Thresholds { max_connections: most, max_pending_requests: most, max_requests: most, ..Default::default() }
}

/// `None`: HTTP/1.1, which is Envoy's default.
fn http_options(application: Application) -> Option<HttpProtocolOptions> {
    let options = match application {
        Application::Http2 => UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())),
        }),
        // Nobody has said: whoever sends the request knows.
        Application::Unspecified => {
            UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
                http_protocol_options: Some(Http1ProtocolOptions::default()),
                http2_protocol_options: Some(Http2ProtocolOptions::default()),
                http3_protocol_options: None,
            })
        }
        Application::Opaque => return None,
    };
    Some(HttpProtocolOptions { upstream_protocol_options: Some(options), ..Default::default() })
}

fn for_envoy(frontend: &Frontend) -> Policy {
    let by_weight = Some(LocalityLbConfig {
        locality_config_specifier: Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(
            LocalityWeightedLbConfig {},
        )),
    });
    let endpoints = match frontend.strategy {
        Strategy::RoundRobin => {
            policy("round_robin", &RoundRobin { locality_lb_config: by_weight, ..Default::default() })
        }
        Strategy::Random => policy("random", &Random { locality_lb_config: by_weight }),
        _ => policy("least_request", &LeastRequest { locality_lb_config: by_weight, ..Default::default() }),
    };
    let selector = frontend.subset_label.as_deref().map(|label| LbSubsetSelector {
        keys: vec![label.to_owned()],
        fallback_policy: LbSubsetSelectorFallbackPolicy::NoFallback.into(),
        ..Default::default()
    });
    let subset = Subset {
        fallback_policy: LbSubsetFallbackPolicy::AnyEndpoint.into(),
        subset_selectors: selector.into_iter().collect(),
        locality_weight_aware: true,
        scale_locality_weight: true,
        subset_lb_policy: Some(list([endpoints])),
        ..Default::default()
    };
    policy("subset", &subset)
}

fn for_grpc(strategy: Strategy) -> Policy {
    let round_robin = policy("round_robin", &RoundRobin::default());
    let endpoints = match strategy {
        Strategy::RoundRobin | Strategy::Random => list([round_robin]),
        Strategy::WeightedRoundRobin => list([
            policy("client_side_weighted_round_robin", &ClientSideWeightedRoundRobin::default()),
            round_robin,
        ]),
        _ => list([policy("least_request", &LeastRequest::default()), round_robin]),
    };
    policy("wrr_locality", &WrrLocality { endpoint_picking_policy: Some(endpoints) })
}

fn list<const N: usize>(policies: [Policy; N]) -> LoadBalancingPolicy {
    LoadBalancingPolicy { policies: policies.into() }
}

/// Clients go by the type; the name is for people.
fn policy<M: Message + Name>(name: &str, config: &M) -> Policy {
    Policy {
        typed_extension_config: Some(TypedExtensionConfig {
            name: format!("envoy.load_balancing_policies.{name}"),
            typed_config: Some(pack(config)),
        }),
    }
}
