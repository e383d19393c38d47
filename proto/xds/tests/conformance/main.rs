// SPDX-License-Identifier: Apache-2.0
//! Tier 1: one test per sentence of the xDS protocol that we rely on. The sentence stands above its test; "(proto)"
//! marks the comments of `discovery.proto`, the others are from `xds_protocol.rst`.

mod client;
mod content;
mod server;
mod sotw;
mod warming;

use evenkeel_xds::type_url::SERVICE;

// The two crates must agree on the type's name without depending on each other.
#[test]
fn our_service_type_is_the_one_in_the_proto_file() {
    let proto = include_str!("../../../discovery.proto");
    assert!(proto.contains(SERVICE), "{SERVICE} is not what discovery.proto says");
}
