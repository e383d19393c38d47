// SPDX-License-Identifier: Apache-2.0
//! The flags that say who may connect, and how a replica lets go of its clients.
//!
//! What must always be true of what [`SecurityArgs::validate`] returns: TCP is served in plaintext only if that was asked
//! for by name, and a token is never asked for over plaintext, where anybody on the way could read it. A unix socket is for
//! its owner only and needs none of this. Deliberately not here: reading the files ([`crate::tls`]).

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Listen;

/// Half of the time that Kubernetes gives a pod to end by default is left for clients that hang.
const DEFAULT_DRAIN_TIME: &str = "10s";
/// A longer one is a typing error: no orchestrator waits that long.
const MOST_DRAIN_TIME: Duration = Duration::from_secs(3600);
/// A node has one agent, a pod has one client, and each opens the next connection before the last is closed. Room for a
/// host with a few hundred processes, or a gateway that hides that many behind its address.
const DEFAULT_CONNECTIONS_PER_PEER: usize = 256;

/// Flags about transport security and the end of connections.
#[derive(Clone, Debug, Args)]
pub struct SecurityArgs {
    /// PEM file with the server's certificate, followed by the intermediates
    ///
    /// All TLS files are read again when they change, without a restart; files that cannot be used are named in the log and
    /// counted, and what was in force stays.
    #[arg(long, value_name = "FILE", env = "EVENKEEL_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// PEM file with the private key of --tls-cert
    #[arg(long, value_name = "FILE", env = "EVENKEEL_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// PEM file with the CAs of clients: every client must then present a certificate of one of them (mutual TLS)
    #[arg(long, value_name = "FILE", env = "EVENKEEL_TLS_CLIENT_CA", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,

    /// Serve TCP in PLAINTEXT: neither side is authenticated and nothing is encrypted
    #[arg(long, env = "EVENKEEL_PLAINTEXT", conflicts_with_all = ["tls_cert", "tls_key", "tls_client_ca"])]
    pub plaintext: bool,

    /// Ask every client for a ServiceAccount token of this audience, and the API server whether it is good
    ///
    /// Clients send it as `authorization: Bearer TOKEN`. Needs TLS, and the right to create TokenReviews.
    #[arg(long, value_name = "AUDIENCE", env = "EVENKEEL_TOKEN_AUDIENCE")]
    pub token_audience: Option<String>,

    /// After SIGTERM, the time over which clients are sent to other replicas, a few at a time (e.g. 10s, 500ms)
    #[arg(long, value_name = "TIME", env = "EVENKEEL_DRAIN_TIME", default_value = DEFAULT_DRAIN_TIME, value_parser = duration)]
    pub drain_time: Duration,

    /// Connections that one address may have open over TCP
    #[arg(long, value_name = "N", env = "EVENKEEL_CONNECTIONS_PER_PEER", default_value_t = DEFAULT_CONNECTIONS_PER_PEER)]
    pub connections_per_peer: usize,
}

/// Who may connect, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Security {
    /// How bytes travel.
    pub transport: Transport,
    /// Audience of the tokens that clients must show; `None`: no tokens are asked for.
    pub token_audience: Option<String>,
    /// Over how long a drain spreads the clients.
    pub drain_time: Duration,
    /// Connections per address; at least 1. Does not hold for unix sockets, which have no addresses.
    pub connections_per_peer: usize,
}

/// How bytes travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// As they are.
    Plaintext,
    /// TLS with these files.
    Tls(TlsFiles),
}

/// Where the server's keys are. Nothing is known about their content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// CAs of clients, PEM; `None`: clients need no certificate.
    pub client_ca: Option<PathBuf>,
}

/// Why the flags cannot be used together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecurityConfigError {
    /// TCP without a word about its security.
    #[error(
        "--listen {0}: TCP is served with TLS; give --tls-cert and --tls-key, or --plaintext if everybody on that network \
         may read along and connect"
    )]
    Unsaid(Listen),
    /// Flags that mean nothing on a unix socket.
    #[error("--listen {0}: a unix socket is for its owner only; leave {1} away")]
    OnUnix(Listen, &'static str),
    /// A token that everybody could read.
    #[error(
        "--token-audience with --plaintext: tokens could be read on the way; give --tls-cert and --tls-key"
    )]
    TokenInPlaintext,
    /// A number or a word that makes no sense.
    #[error("{flag} {value:?}: {problem}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// As given.
        value: String,
        /// What is wrong, and what to do.
        problem: &'static str,
    },
}

// === impl Security ===

impl Security {
    /// Plaintext without tokens, and the limits and times of the defaults.
    pub fn plaintext() -> Self {
        Self {
            transport: Transport::Plaintext,
            token_audience: None,
            drain_time: Duration::from_secs(10),
            connections_per_peer: DEFAULT_CONNECTIONS_PER_PEER,
        }
    }
}

// === impl SecurityArgs ===

impl SecurityArgs {
    /// Checks what the parser cannot.
    ///
    /// # Errors
    /// Which flags do not go together, or which value makes no sense.
    pub fn validate(&self, listen: &Listen) -> Result<Security, SecurityConfigError> {
        let Self {
            tls_cert,
            tls_key,
            tls_client_ca,
            plaintext,
            token_audience,
            drain_time,
            connections_per_peer,
        } = self;
        let value = |flag, value: String, problem| Err(SecurityConfigError::Value { flag, value, problem });
        if token_audience.as_deref().is_some_and(|audience| audience.trim().is_empty()) {
            return value(
                "--token-audience",
                String::new(),
                "is empty; give the audience of the clients' tokens",
            );
        }
        if *connections_per_peer == 0 {
            return value("--connections-per-peer", "0".into(), "nobody could connect; give 1 or more");
        }
        if *drain_time > MOST_DRAIN_TIME {
            return value(
                "--drain-time",
                format!("{}s", drain_time.as_secs()),
                "is too long; give 1h or less",
            );
        }
        let tls = match (tls_cert, tls_key) {
            (Some(cert), Some(key)) => {
                Some(TlsFiles { cert: cert.clone(), key: key.clone(), client_ca: tls_client_ca.clone() })
            }
            // The parser has made sure that neither comes alone.
            _ => None,
        };
        let transport = match (listen, tls) {
            (Listen::Unix(_), Some(_)) => {
                return Err(SecurityConfigError::OnUnix(listen.clone(), "--tls-cert"));
            }
            (Listen::Unix(_), None) if token_audience.is_some() => {
                return Err(SecurityConfigError::OnUnix(listen.clone(), "--token-audience"));
            }
            (Listen::Unix(_), None) => Transport::Plaintext,
            (Listen::Tcp(_), Some(files)) => Transport::Tls(files),
            (Listen::Tcp(_), None) if !plaintext => {
                return Err(SecurityConfigError::Unsaid(listen.clone()));
            }
            (Listen::Tcp(_), None) if token_audience.is_some() => {
                return Err(SecurityConfigError::TokenInPlaintext);
            }
            (Listen::Tcp(_), None) => Transport::Plaintext,
        };
        Ok(Security {
            transport,
            token_audience: token_audience.clone(),
            drain_time: *drain_time,
            connections_per_peer: *connections_per_peer,
        })
    }
}

/// Parses a time: a whole number with its unit, `ms`, `s`, `m` or `h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("{text:?} is not a time; write a whole number and ms, s, m or h, e.g. 10s")),
    };
    let number: u64 =
        number.parse().map_err(|_| format!("{text:?} is not a time; write a whole number before {unit}"))?;
    number.checked_mul(factor).map(Duration::from_millis).ok_or_else(|| format!("{text:?} is too long"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Whole {
        #[command(flatten)]
        security: SecurityArgs,
    }

    fn tcp() -> Listen {
        Listen::Tcp("127.0.0.1:0".parse().unwrap())
    }

    fn parse(flags: &[&str]) -> Result<SecurityArgs, String> {
        let all = ["evenkeel-discovery"].iter().chain(flags);
        Whole::try_parse_from(all).map(|whole| whole.security).map_err(|error| error.to_string())
    }

    fn refused(listen: &Listen, flags: &[&str]) -> String {
        parse(flags).unwrap().validate(listen).unwrap_err().to_string()
    }

    #[test]
    fn tcp_is_plaintext_only_when_that_is_asked_for_by_name() {
        let error = refused(&tcp(), &[]);
        assert!(
            error.starts_with("--listen 127.0.0.1:0: TCP is served with TLS; give --tls-cert"),
            "{error}"
        );
        assert!(error.contains("--plaintext"), "{error}");
        let security = parse(&["--plaintext"]).unwrap().validate(&tcp()).unwrap();
        assert_eq!(security, Security::plaintext(), "and the defaults are those of the constructor");
        let tls = parse(&["--tls-cert", "c", "--tls-key", "k", "--tls-client-ca", "ca"]).unwrap();
        let files = TlsFiles { cert: "c".into(), key: "k".into(), client_ca: Some("ca".into()) };
        assert_eq!(tls.validate(&tcp()).unwrap().transport, Transport::Tls(files));
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        assert!(parse(&["--tls-cert", "c"]).unwrap_err().contains("--tls-key"));
        assert!(parse(&["--tls-client-ca", "c"]).unwrap_err().contains("--tls-cert"));
        let both = parse(&["--plaintext", "--tls-cert", "c", "--tls-key", "k"]).unwrap_err();
        assert!(both.contains("cannot be used with"), "{both}");
        assert!(
            refused(&tcp(), &["--plaintext", "--token-audience", "a"]).contains("could be read on the way")
        );
    }

    #[test]
    fn a_unix_socket_needs_nothing_and_says_so() {
        let unix = Listen::Unix("/run/d.sock".into());
        assert_eq!(parse(&[]).unwrap().validate(&unix).unwrap().transport, Transport::Plaintext);
        assert!(refused(&unix, &["--tls-cert", "c", "--tls-key", "k"]).contains("leave --tls-cert away"));
        assert!(refused(&unix, &["--token-audience", "a"]).contains("leave --token-audience away"));
    }

    #[test]
    fn values_that_make_no_sense_are_named() {
        assert!(refused(&tcp(), &["--plaintext", "--connections-per-peer", "0"]).contains("give 1 or more"));
        assert!(refused(&tcp(), &["--plaintext", "--drain-time", "2h"]).contains("give 1h or less"));
        assert!(refused(&tcp(), &["--token-audience", " "]).contains("is empty"));
        assert!(parse(&["--drain-time", "10"]).unwrap_err().contains("a whole number and ms, s, m or h"));
    }
}
