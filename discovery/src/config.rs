// SPDX-License-Identifier: Apache-2.0
//! Command line and environment, validated once into one [`Config`].
//!
//! Everything after this module can rely on what it says: the manifests directory exists, the addresses parse. Defaults
//! are named constants with their reason. Deliberately not here: TLS. The only transport for now is plaintext, so the
//! defaults bind to loopback.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};

/// xDS servers commonly listen on port 18000. Loopback, because the transport is plaintext.
const DEFAULT_LISTEN: &str = "127.0.0.1:18000";
/// Next to the ADS port; loopback for the same reason.
const DEFAULT_HTTP: &str = "127.0.0.1:18001";

/// Evenkeel's endpoint discovery service: reads Services, EndpointSlices and Nodes, serves them as xDS
///
/// The only transport for now is PLAINTEXT gRPC: neither side is authenticated and nothing is encrypted. Listen on
/// loopback, on a unix socket, or on a network that you trust.
#[derive(Debug, Parser)]
#[command(name = "evenkeel-discovery", version)]
pub struct Args {
    /// Directory of Kubernetes manifests (*.yaml, *.yml, *.json) to read and to watch for changes
    ///
    /// Services, EndpointSlices and Nodes are read, other kinds are ignored. Sub-folders are not read. If a file has a
    /// fault, the last good objects from that file stay in force until it is fixed or removed.
    #[arg(long, value_name = "DIR", env = "EVENKEEL_MANIFESTS")]
    pub manifests: PathBuf,

    /// Where to serve ADS in plaintext: ADDR:PORT or unix:PATH
    ///
    /// There is no TLS yet. A unix socket is made accessible to its owner only.
    #[arg(long, value_name = "ADDR:PORT|unix:PATH", env = "EVENKEEL_LISTEN", default_value = DEFAULT_LISTEN)]
    pub listen: Listen,

    /// Where to serve /metrics, /ready and /healthz over plain HTTP
    #[arg(long, value_name = "ADDR:PORT", env = "EVENKEEL_HTTP", default_value = DEFAULT_HTTP)]
    pub http: SocketAddr,

    /// What to log: a level, or directives such as info,evenkeel_discovery=debug
    #[arg(long, value_name = "FILTER", env = "EVENKEEL_LOG", default_value = "info")]
    pub log: String,

    /// How log lines look
    #[arg(long, value_name = "FORMAT", env = "EVENKEEL_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Where ADS is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// A unix socket at this path.
    Unix(PathBuf),
}

/// The validated configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// An existing directory, as an absolute path (symlinks are kept, so that swapping one is noticed).
    pub manifests: PathBuf,
    /// Where ADS is served.
    pub listen: Listen,
    /// Where metrics and readiness are served.
    pub http: SocketAddr,
}

/// Why the command line cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `--manifests` names something that cannot be read as a directory.
    #[error("--manifests {}: {reason}; give a directory that holds Kubernetes manifests", path.display())]
    Manifests {
        /// As given.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}

// === impl Args ===

impl Args {
    /// Checks what the parser cannot.
    ///
    /// # Errors
    /// [`ConfigError::Manifests`] if the directory does not exist or cannot be listed.
    pub fn validate(&self) -> Result<Config, ConfigError> {
        let Self { manifests, listen, http, log: _, log_format: _ } = self;
        let refuse = |reason: String| ConfigError::Manifests { path: manifests.clone(), reason };
        let absolute = std::path::absolute(manifests).map_err(|error| refuse(error.to_string()))?;
        std::fs::read_dir(&absolute).map_err(|error| refuse(error.to_string()))?;
        Ok(Config { manifests: absolute, listen: listen.clone(), http: *http })
    }
}

// === impl Listen ===

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err("unix: needs a path, e.g. unix:/run/evenkeel/discovery.sock".into())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            format!("{text:?} is neither ADDR:PORT (e.g. 127.0.0.1:18000, [::1]:18000) nor unix:PATH")
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listen_address_is_tcp_or_unix_and_nothing_else() {
        assert_eq!("[::1]:80".parse(), Ok(Listen::Tcp("[::1]:80".parse().unwrap())));
        assert_eq!("unix:/run/x.sock".parse(), Ok(Listen::Unix("/run/x.sock".into())));
        let error = "localhost".parse::<Listen>().unwrap_err();
        assert!(error.contains("\"localhost\" is neither ADDR:PORT"), "{error}");
        assert!("unix:".parse::<Listen>().unwrap_err().contains("needs a path"));
    }

    #[test]
    fn a_missing_manifests_directory_is_named() {
        let args = Args::parse_from(["evenkeel-discovery", "--manifests", "/does/not/exist"]);
        let error = args.validate().unwrap_err().to_string();
        assert!(error.starts_with("--manifests /does/not/exist: No such file"), "{error}");
    }

    #[test]
    fn help_says_that_the_transport_is_plaintext() {
        use clap::CommandFactory;
        let help = Args::command().render_long_help().to_string();
        assert!(help.contains("PLAINTEXT"), "{help}");
    }
}
