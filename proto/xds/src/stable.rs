// SPDX-License-Identifier: Apache-2.0
//! Encoding of endpoints with maps in key order.
//!
//! Protobuf leaves the order of map entries open and prost writes them in the order of a randomly seeded hash map, so
//! the same endpoints would get another content hash in every process. Here the messages on the path to a map are
//! written field by field and everything else is left to prost.
//!
//! What must always be true: any decoder reads what prost would have written, and equal messages have equal bytes.
//! Deliberately not here: the deprecated `named_endpoints` and typed metadata in more than one entry; nobody sends them.

use std::collections::HashMap;

use envoy_types::pb::{
    envoy::config::{
        core::v3::Metadata,
        endpoint::v3::{ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints},
    },
    google::protobuf::{ListValue, Struct, Value, value::Kind},
};
use prost::{Message, encoding::string};

use crate::wire::put;

/// Encodes endpoints deterministically.
pub(crate) fn encode_assignment(message: &ClusterLoadAssignment) -> Vec<u8> {
    let scalars = ClusterLoadAssignment { endpoints: Vec::new(), ..shallow_assignment(message) };
    let mut out = scalars.encode_to_vec();
    for locality in &message.endpoints {
        put(&mut out, 2, &encode_locality(locality));
    }
    out
}

fn shallow_assignment(message: &ClusterLoadAssignment) -> ClusterLoadAssignment {
    ClusterLoadAssignment {
        cluster_name: message.cluster_name.clone(),
        endpoints: Vec::new(),
        named_endpoints: message.named_endpoints.clone(),
        policy: message.policy.clone(),
    }
}

fn encode_locality(message: &LocalityLbEndpoints) -> Vec<u8> {
    let rest = LocalityLbEndpoints {
        locality: message.locality.clone(),
        metadata: None,
        lb_endpoints: Vec::new(),
        load_balancing_weight: message.load_balancing_weight,
        priority: message.priority,
        proximity: message.proximity,
        lb_config: message.lb_config.clone(),
    };
    let mut out = rest.encode_to_vec();
    if let Some(metadata) = &message.metadata {
        put(&mut out, 9, &encode_metadata(metadata));
    }
    for endpoint in &message.lb_endpoints {
        put(&mut out, 2, &encode_endpoint(endpoint));
    }
    out
}

fn encode_endpoint(message: &LbEndpoint) -> Vec<u8> {
    let rest = LbEndpoint {
        health_status: message.health_status,
        metadata: None,
        load_balancing_weight: message.load_balancing_weight,
        host_identifier: message.host_identifier.clone(),
    };
    let mut out = rest.encode_to_vec();
    if let Some(metadata) = &message.metadata {
        put(&mut out, 3, &encode_metadata(metadata));
    }
    out
}

fn encode_metadata(message: &Metadata) -> Vec<u8> {
    let rest = Metadata {
        filter_metadata: HashMap::new(),
        typed_filter_metadata: message.typed_filter_metadata.clone(),
    };
    let mut out = rest.encode_to_vec();
    put_map(&mut out, 1, &message.filter_metadata, encode_struct);
    out
}

fn encode_struct(message: &Struct) -> Vec<u8> {
    let mut out = Vec::new();
    put_map(&mut out, 1, &message.fields, encode_value);
    out
}

fn encode_value(message: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match &message.kind {
        Some(Kind::StructValue(inner)) => put(&mut out, 5, &encode_struct(inner)),
        Some(Kind::ListValue(ListValue { values })) => {
            let mut list = Vec::new();
            for value in values {
                put(&mut list, 1, &encode_value(value));
            }
            put(&mut out, 6, &list);
        }
        _ => out = message.encode_to_vec(),
    }
    out
}

/// Writes a map field: one nested message per entry, key first, in the order of the keys.
fn put_map<V>(out: &mut Vec<u8>, tag: u32, map: &HashMap<String, V>, encode: impl Fn(&V) -> Vec<u8>) {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    for (key, value) in entries {
        let mut entry = Vec::new();
        string::encode(1, key, &mut entry);
        put(&mut entry, 2, &encode(value));
        put(out, tag, &entry);
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::{
        envoy::config::{
            core::v3::Locality,
            endpoint::v3::{Endpoint, lb_endpoint::HostIdentifier},
        },
        google::protobuf::UInt32Value,
    };

    use super::*;

    fn text(value: &str) -> Value {
        Value { kind: Some(Kind::StringValue(value.into())) }
    }

    fn sample(keys: &[&str]) -> ClusterLoadAssignment {
        // A fresh map each time: every HashMap has its own seed, so the iteration order differs between calls.
        let nested = Struct { fields: keys.iter().map(|k| ((*k).into(), text(k))).collect() };
        let mut fields: HashMap<String, Value> = keys.iter().map(|k| ((*k).into(), text(k))).collect();
        fields.insert(
            "list".into(),
            Value { kind: Some(Kind::ListValue(ListValue { values: vec![text("x")] })) },
        );
        fields.insert("nested".into(), Value { kind: Some(Kind::StructValue(nested)) });
        fields.insert("number".into(), Value { kind: Some(Kind::NumberValue(1.5)) });
        let metadata = Metadata {
            filter_metadata: keys.iter().map(|k| ((*k).into(), Struct { fields: fields.clone() })).collect(),
            ..Metadata::default()
        };
        ClusterLoadAssignment {
            cluster_name: "web".into(),
            endpoints: vec![LocalityLbEndpoints {
                locality: Some(Locality { zone: "a".into(), ..Locality::default() }),
                metadata: Some(metadata.clone()),
                priority: 1,
                load_balancing_weight: Some(UInt32Value { value: 3 }),
                lb_endpoints: vec![LbEndpoint {
                    health_status: 1,
                    metadata: Some(metadata),
                    load_balancing_weight: Some(UInt32Value { value: 2 }),
                    host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
                        hostname: "pod".into(),
                        ..Endpoint::default()
                    })),
                }],
                ..LocalityLbEndpoints::default()
            }],
            ..ClusterLoadAssignment::default()
        }
    }

    #[test]
    fn equal_endpoints_have_equal_bytes() {
        let keys = ["node", "pod", "a", "b", "c", "d", "e", "f"];
        let first = encode_assignment(&sample(&keys));
        for _ in 0..16 {
            assert_eq!(encode_assignment(&sample(&keys)), first);
        }
    }

    #[test]
    fn a_decoder_reads_the_same_message_back() {
        for keys in [&[][..], &["node"], &["node", "pod", "z", "y"]] {
            let message = sample(keys);
            let bytes = encode_assignment(&message);
            assert_eq!(ClusterLoadAssignment::decode(&bytes[..]).unwrap(), message);
            assert_eq!(bytes.len(), message.encoded_len());
        }
    }
}
