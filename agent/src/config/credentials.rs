// SPDX-License-Identifier: Apache-2.0
//! How the agent and discovery know each other: the flags about TLS and the token.
//!
//! What must always be true of what [`CredentialArgs::validate`] returns: there are TLS files exactly for an `https://`
//! address, and a token is never sent in plaintext. Files are not read here but for each connection: they may come later
//! than the agent, and change while it runs.

use std::path::PathBuf;

use clap::Args;

use super::{ConfigError, DiscoveryAddress, absolute};

/// Flags of `evenkeel run` about the connection to discovery.
#[derive(Clone, Debug, Default, Args)]
pub struct CredentialArgs {
    /// PEM file with the CAs of discovery's certificate, for https; read for each connection, as the others
    #[arg(long, value_name = "FILE", env = "EVENKEEL_DISCOVERY_CA")]
    pub discovery_ca: Option<PathBuf>,

    /// Name in discovery's certificate [default: the host of --discovery]
    #[arg(long, value_name = "NAME", env = "EVENKEEL_DISCOVERY_NAME")]
    pub discovery_name: Option<String>,

    /// PEM file with this node's certificate, if discovery asks for one
    #[arg(long, value_name = "FILE", env = "EVENKEEL_DISCOVERY_CERT", requires = "discovery_key")]
    pub discovery_cert: Option<PathBuf>,

    /// PEM file with the private key of --discovery-cert
    #[arg(long, value_name = "FILE", env = "EVENKEEL_DISCOVERY_KEY", requires = "discovery_cert")]
    pub discovery_key: Option<PathBuf>,

    /// File with the ServiceAccount token to show to discovery, for https
    #[arg(long, value_name = "FILE", env = "EVENKEEL_DISCOVERY_TOKEN")]
    pub discovery_token: Option<PathBuf>,
}

/// What is needed to connect, by file name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// For `https://`.
    pub tls: Option<TlsFiles>,
    /// The token.
    pub token: Option<PathBuf>,
}

/// Files of a TLS client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// CAs of the server.
    pub ca: PathBuf,
    /// The server's name, if it is not the host that is dialled.
    pub name: Option<String>,
    /// Certificate chain and private key of the client.
    pub identity: Option<(PathBuf, PathBuf)>,
}

// === impl CredentialArgs ===

impl CredentialArgs {
    /// Checks what the parser cannot.
    ///
    /// # Errors
    /// The first flag that does not go with the address.
    pub fn validate(self, discovery: &DiscoveryAddress) -> Result<Credentials, ConfigError> {
        let Self { discovery_ca, discovery_name, discovery_cert, discovery_key, discovery_token } = self;
        if !matches!(discovery, DiscoveryAddress::Tls(_)) {
            let given = [
                ("--discovery-ca", discovery_ca.is_some()),
                ("--discovery-name", discovery_name.is_some()),
                ("--discovery-cert", discovery_cert.is_some()),
                ("--discovery-token", discovery_token.is_some()),
            ];
            return match given.into_iter().find(|(_, given)| *given) {
                None => Ok(Credentials::default()),
                Some((flag, _)) => Err(ConfigError {
                    flag,
                    value: discovery.to_string(),
                    problem: "needs TLS, and this address has none",
                    remedy: "give --discovery https://HOST:PORT, or leave the flag away",
                }),
            };
        }
        let Some(ca) = discovery_ca else {
            return Err(ConfigError {
                flag: "--discovery",
                value: discovery.to_string(),
                problem: "https needs the CA of discovery's certificate",
                remedy: "give --discovery-ca FILE",
            });
        };
        if let Some(name) = &discovery_name
            && rustls::pki_types::ServerName::try_from(name.as_str()).is_err()
        {
            return Err(ConfigError {
                flag: "--discovery-name",
                value: name.clone(),
                problem: "is no DNS name and no IP address",
                remedy: "give the name in discovery's certificate, e.g. evenkeel-discovery.evenkeel-system.svc",
            });
        }
        let identity = match (discovery_cert, discovery_key) {
            (Some(cert), Some(key)) => {
                Some((absolute("--discovery-cert", cert)?, absolute("--discovery-key", key)?))
            }
            // The parser has made sure that neither comes alone.
            _ => None,
        };
        let tls = TlsFiles { ca: absolute("--discovery-ca", ca)?, name: discovery_name, identity };
        let token = discovery_token.map(|token| absolute("--discovery-token", token)).transpose()?;
        Ok(Credentials { tls: Some(tls), token })
    }
}
