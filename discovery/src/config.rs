// SPDX-License-Identifier: Apache-2.0
//! Command line and environment, validated once into one [`Config`].
//!
//! Everything after this module can rely on what it says: there is one source, its files exist, addresses parse, TCP is
//! plaintext only where that was asked for. Defaults are named constants with their reason; they bind to loopback.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use clap::ValueEnum;
use evenkeel_proto::DISCOVERY_ADMIN_SOCKET;

mod security;

pub use self::security::{Security, SecurityArgs, SecurityConfigError, TlsFiles, Transport};

/// xDS servers commonly listen on port 18000. Loopback, so that opening it to a network is a decision.
const DEFAULT_LISTEN: &str = "127.0.0.1:18000";
/// Next to the ADS port; loopback for the same reason.
const DEFAULT_HTTP: &str = "127.0.0.1:18001";

/// Flags of the service itself.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory of Kubernetes manifests (*.yaml, *.yml, *.json) to read and to watch for changes
    ///
    /// Services, EndpointSlices, Nodes and the labels of Pods are read, other kinds are ignored. Sub-folders are not read.
    /// If a file has a fault, the last good objects from that file stay in force until it is fixed or removed.
    #[arg(long, value_name = "DIR", env = "EVENKEEL_MANIFESTS", required_unless_present = "kubernetes")]
    pub manifests: Option<PathBuf>,

    /// Watch the API server of a Kubernetes cluster: the one in which this process is a pod, or that of --kubeconfig
    ///
    /// Services, EndpointSlices, Nodes and, where a Service asks for subsets, Pods' labels are read. What is wrong with a
    /// Service is told as an Event on it. The rights that are needed are in deploy/base/discovery-rbac.yaml.
    #[arg(long, env = "EVENKEEL_KUBERNETES", conflicts_with = "manifests")]
    pub kubernetes: bool,

    /// With --kubernetes: a kubeconfig whose current context names the cluster and the credentials
    #[arg(
        long,
        value_name = "PATH",
        env = "EVENKEEL_KUBECONFIG",
        requires = "kubernetes",
        conflicts_with = "manifests"
    )]
    pub kubeconfig: Option<PathBuf>,

    /// A further cluster, whose endpoints serve when there are none here: NAME=manifests:DIR or NAME=kubeconfig:PATH
    ///
    /// A Service annotated with evenkeel.io/fallback: NAME is also sent to the endpoints of the Service of the same
    /// namespace, name and port name in that cluster, at a lower priority than all of its own. DIR holds that cluster's
    /// EndpointSlices and Nodes. Clients do not wait for it.
    #[arg(long, value_name = "NAME=PLACE", env = "EVENKEEL_FALLBACKS", value_delimiter = ',')]
    pub fallback: Vec<Fallback>,

    /// Where to serve ADS: ADDR:PORT or unix:PATH
    ///
    /// A unix socket is made accessible to its owner only.
    #[arg(long, value_name = "ADDR:PORT|unix:PATH", env = "EVENKEEL_LISTEN", default_value = DEFAULT_LISTEN)]
    pub listen: Listen,

    /// Where to serve /metrics, /ready and /healthz over plain HTTP
    #[arg(long, value_name = "ADDR:PORT", env = "EVENKEEL_HTTP", default_value = DEFAULT_HTTP)]
    pub http: SocketAddr,

    /// Who may connect.
    #[command(flatten)]
    pub security: SecurityArgs,

    /// Unix socket for the subcommands that ask a running service, and for CSDS
    ///
    /// Its owner only. If it is not given and the default place cannot be had, the service starts all the same.
    #[arg(long, value_name = "PATH", env = "EVENKEEL_DISCOVERY_ADMIN_SOCKET")]
    pub admin_socket: Option<PathBuf>,

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

/// A cluster to fall back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// The name by which annotations refer to it.
    pub name: Arc<str>,
    /// Where its objects are.
    pub place: FallbackPlace,
}

/// Where the objects of a fallback cluster are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FallbackPlace {
    /// In the files of this directory.
    Manifests(PathBuf),
    /// Behind the API server that this kubeconfig's current context names.
    Kubeconfig(PathBuf),
}

/// Where ADS is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// A unix socket at this path.
    Unix(PathBuf),
}

/// Where Kubernetes objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An existing directory, as an absolute path (symlinks are kept, so that swapping one is noticed).
    Manifests(PathBuf),
    /// An API server.
    Kubernetes {
        /// A file that can be read. `None`: this process is a pod of the cluster.
        kubeconfig: Option<PathBuf>,
    },
}

/// Where the admin API is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminPlace {
    /// Nowhere.
    None,
    /// There, if that can be had.
    IfPossible(PathBuf),
    /// There, or the service does not start.
    At(PathBuf),
}

/// The validated configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where objects come from.
    pub source: Source,
    /// Clusters to fall back to, each name once. Directories as absolute paths.
    pub fallbacks: Vec<Fallback>,
    /// Where ADS is served.
    pub listen: Listen,
    /// Where metrics and readiness are served.
    pub http: SocketAddr,
    /// Who may connect.
    pub security: Security,
    /// Where the admin API is served.
    pub admin_socket: AdminPlace,
}

/// Why the command line cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A flag names something that cannot be read as a directory.
    #[error("{flag} {}: {reason}; give a directory that holds Kubernetes manifests", path.display())]
    Manifests {
        /// The flag.
        flag: &'static str,
        /// As given.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Two fallback clusters have one name.
    #[error("--fallback {name}=…: the name is there twice; give each cluster a name of its own")]
    TwoFallbacks {
        /// The name.
        name: Arc<str>,
    },
    /// The flags about security do not go together.
    #[error(transparent)]
    Security(#[from] SecurityConfigError),
    /// `--kubeconfig` names something that cannot be read as a file.
    #[error("{flag} {}: {reason}; give the path of a kubeconfig", path.display())]
    Kubeconfig {
        /// The flag that named it.
        flag: &'static str,
        /// As given.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Neither `--manifests` nor `--kubernetes`.
    #[error("there is nothing to read: give --kubernetes or --manifests DIR")]
    NoSource,
}

// === impl Args ===

impl Args {
    /// Checks what the parser cannot.
    ///
    /// # Errors
    /// [`ConfigError`]: what is to be read does not exist or cannot be read, a fallback's name is there twice, or the
    /// flags about security do not go together.
    pub fn validate(&self) -> Result<Config, ConfigError> {
        let Self {
            manifests,
            kubernetes,
            kubeconfig,
            fallback,
            listen,
            http,
            security,
            admin_socket,
            log: _,
            log_format: _,
        } = self;
        let security = security.validate(listen)?;
        let source = match manifests {
            _ if *kubernetes => {
                Source::Kubernetes { kubeconfig: readable("--kubeconfig", kubeconfig.as_deref())? }
            }
            Some(manifests) => Source::Manifests(directory("--manifests", manifests)?),
            None => return Err(ConfigError::NoSource),
        };
        let mut fallbacks: Vec<Fallback> = Vec::with_capacity(fallback.len());
        for Fallback { name, place } in fallback {
            if fallbacks.iter().any(|known| known.name == *name) {
                return Err(ConfigError::TwoFallbacks { name: name.clone() });
            }
            let place = match place {
                FallbackPlace::Manifests(path) => FallbackPlace::Manifests(directory("--fallback", path)?),
                FallbackPlace::Kubeconfig(path) => {
                    readable("--fallback", Some(path))?;
                    place.clone()
                }
            };
            fallbacks.push(Fallback { name: name.clone(), place });
        }
        let admin_socket = match admin_socket {
            Some(path) => AdminPlace::At(path.clone()),
            None => AdminPlace::IfPossible(DISCOVERY_ADMIN_SOCKET.into()),
        };
        Ok(Config { source, fallbacks, listen: listen.clone(), http: *http, security, admin_socket })
    }
}

/// An existing directory as an absolute path.
fn directory(flag: &'static str, path: &Path) -> Result<PathBuf, ConfigError> {
    let refuse =
        |error: io::Error| ConfigError::Manifests { flag, path: path.to_owned(), reason: error.to_string() };
    let absolute = std::path::absolute(path).map_err(refuse)?;
    std::fs::read_dir(&absolute).map_err(refuse)?;
    Ok(absolute)
}

fn readable(flag: &'static str, path: Option<&Path>) -> Result<Option<PathBuf>, ConfigError> {
    let Some(path) = path else { return Ok(None) };
    match std::fs::read(path) {
        Ok(_) => Ok(Some(path.to_owned())),
        Err(error) => Err(ConfigError::Kubeconfig { flag, path: path.to_owned(), reason: error.to_string() }),
    }
}

// === impl Fallback ===

impl FromStr for Fallback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |reason: &str| {
            Err(format!(
                "{text:?}: {reason}; give NAME=manifests:DIR or NAME=kubeconfig:PATH, such as west=manifests:/etc/west"
            ))
        };
        let Some((name, place)) = text.split_once('=') else { return refuse("there is no '='") };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if name.is_empty() || !name.bytes().all(plain) {
            return refuse("the name may have letters, digits, '-', '.' and '_'");
        }
        let place = match place.split_once(':') {
            Some(("manifests", path)) if !path.is_empty() => FallbackPlace::Manifests(path.into()),
            Some(("kubeconfig", path)) if !path.is_empty() => FallbackPlace::Kubeconfig(path.into()),
            _ => return refuse("what follows '=' is not a place"),
        };
        Ok(Self { name: name.into(), place })
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
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn a_listen_address_is_tcp_or_unix_and_nothing_else() {
        assert_eq!("[::1]:80".parse(), Ok(Listen::Tcp("[::1]:80".parse().unwrap())));
        assert_eq!("unix:/run/x.sock".parse(), Ok(Listen::Unix("/run/x.sock".into())));
        let error = "localhost".parse::<Listen>().unwrap_err();
        assert!(error.contains("\"localhost\" is neither ADDR:PORT"), "{error}");
        assert!("unix:".parse::<Listen>().unwrap_err().contains("needs a path"));
    }

    #[test]
    fn a_fallback_has_a_name_and_a_place() {
        let west: Fallback = "west-1=manifests:/etc/w=x:y".parse().unwrap();
        assert_eq!((&*west.name, west.place), ("west-1", FallbackPlace::Manifests("/etc/w=x:y".into())));
        for bad in
            ["", "west", "=manifests:/x", "we st=manifests:/x", "west=/x", "west=manifests:", "west=a:/x"]
        {
            let error = bad.parse::<Fallback>().unwrap_err();
            assert!(error.contains("give NAME=manifests:DIR"), "{error}");
        }
    }

    #[test]
    fn two_fallbacks_of_one_name_and_a_missing_directory_are_named() {
        let start = |first: &str, second: &str| {
            let args = ["--plaintext", "--manifests", "/", "--fallback", first, "--fallback", second];
            let args = ["evenkeel-discovery"].into_iter().chain(args);
            Cli::parse_from(args)
                .serve
                .validate()
                .map(|config| config.fallbacks.len())
                .map_err(|e| e.to_string())
        };
        assert_eq!(start("a=manifests:/", "b=manifests:/"), Ok(2));
        assert!(
            start("a=manifests:/", "a=manifests:/tmp").unwrap_err().starts_with("--fallback a=…: the name")
        );
        assert!(
            start("a=manifests:/", "b=manifests:/none").unwrap_err().starts_with("--fallback /none: No such")
        );
    }

    #[test]
    fn a_missing_manifests_directory_is_named() {
        let args =
            Cli::parse_from(["evenkeel-discovery", "--plaintext", "--manifests", "/does/not/exist"]).serve;
        let error = args.validate().unwrap_err().to_string();
        assert!(error.starts_with("--manifests /does/not/exist: No such file"), "{error}");
    }

    #[test]
    fn there_is_exactly_one_source() {
        let parse =
            |args: &[&str]| Cli::try_parse_from([&["evenkeel-discovery", "--plaintext"], args].concat());
        assert!(parse(&[]).is_err());
        assert!(parse(&["--kubernetes", "--manifests", "/tmp"]).is_err());
        assert!(parse(&["--manifests", "/tmp", "--kubeconfig", "/tmp/x"]).is_err());
        let source = parse(&["--kubernetes"]).unwrap().serve.validate().unwrap().source;
        assert_eq!(source, Source::Kubernetes { kubeconfig: None });
        let error = parse(&["--kubernetes", "--kubeconfig", "/does/not/exist"])
            .unwrap()
            .serve
            .validate()
            .unwrap_err();
        assert!(error.to_string().starts_with("--kubeconfig /does/not/exist: No such file"), "{error}");
    }

    #[test]
    fn help_says_what_plaintext_means() {
        use clap::CommandFactory;
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains("neither side is authenticated"), "{help}");
    }
}
