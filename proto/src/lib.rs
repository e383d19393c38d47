// SPDX-License-Identifier: Apache-2.0
//! The project's own protobuf: the admin APIs of the agent and of discovery, and the `Service` discovery resource.
//!
//! The generated code is checked in, so that building needs no `protoc`; `tests/bootstrap.rs` regenerates it and fails
//! when it differs. Deliberately not here: logic. Envoy's own messages come from the `envoy-types` crate.
#![forbid(unsafe_code)]

/// The discovery resource, `evenkeel.discovery.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
#[rustfmt::skip]
pub mod discovery {
    include!("gen/evenkeel.discovery.v1.rs");
}

/// The admin API, `evenkeel.admin.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
#[rustfmt::skip]
pub mod admin {
    include!("gen/evenkeel.admin.v1.rs");
}

/// The admin API of discovery, `evenkeel.discovery.admin.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
#[rustfmt::skip]
pub mod discovery_admin {
    include!("gen/evenkeel.discovery.admin.v1.rs");
}

/// Type URL of [`discovery::Service`] in xDS.
pub const SERVICE_TYPE_URL: &str = "type.googleapis.com/evenkeel.discovery.v1.Service";

/// Where the agent's admin socket is unless `--admin-socket` says otherwise.
pub const ADMIN_SOCKET: &str = "/run/evenkeel/admin.sock";

/// Where discovery's admin socket is unless `--admin-socket` says otherwise.
pub const DISCOVERY_ADMIN_SOCKET: &str = "/run/evenkeel/discovery.sock";
