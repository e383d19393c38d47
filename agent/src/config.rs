// SPDX-License-Identifier: Apache-2.0
//! Command line and environment of `evenkeel run`, validated once into one [`Config`].
//!
//! Everything after this module can rely on what it says: addresses parse, times are in an order that makes sense, names
//! are not empty. Each default is a constant with its reason. An error names the flag, the value and what to do.
//! Deliberately not here: what must exist on the node (bpffs, cgroup2, namespaces); those who use it check it, because
//! only they can say what is wrong with it.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, ValueEnum};

mod credentials;

pub use self::credentials::{CredentialArgs, Credentials, TlsFiles};

/// bpffs is mounted at `/sys/fs/bpf` on every distribution with systemd; one folder of our own in it.
pub const DEFAULT_PINS: &str = "/sys/fs/bpf/evenkeel";
/// Where `ip netns` and every CNI-calling runtime (containerd, CRI-O) keep the pods' namespaces.
pub const DEFAULT_NETNS_DIR: &str = "/run/netns";
/// Under `/run`: the socket means nothing after a reboot.
pub const DEFAULT_ADMIN_SOCKET: &str = evenkeel_proto::ADMIN_SOCKET;
/// Loopback: metrics tell Service names, and the kubelet can probe through `host: 127.0.0.1`.
pub const DEFAULT_HTTP: &str = "127.0.0.1:9901";
/// Under `/var/lib`: the last good state shall outlive a reboot, so that a node comes up without discovery.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/evenkeel";
/// Ten heartbeats of 200 ms: long enough for a loaded node, short enough that a hung agent is noticed at once.
pub const DEFAULT_STALE_AFTER: &str = "2s";
/// Longer than a restart or an upgrade of the agent, shorter than endpoints can be trusted without anybody watching.
pub const DEFAULT_STAND_ASIDE_AFTER: &str = "30s";
/// Kubernetes' own default grace period: the kubelet kills after it.
pub const DEFAULT_DRAIN_TIMEOUT: &str = "30s";

/// A shorter `--stale-after` would turn a few late heartbeats of a busy node into a stale agent.
const LEAST_STALE_AFTER: Duration = Duration::from_millis(600);
/// A longer time of trust in an agent that is gone than this is a typing error.
const MOST_STAND_ASIDE_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Flags of `evenkeel run`. Each can be given by environment variable too.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Where discovery is: https://HOST:PORT, http://HOST:PORT or unix:PATH
    ///
    /// With http:// the transport is PLAINTEXT gRPC: use it only in a network that you trust.
    #[arg(long, value_name = "URL", env = "EVENKEEL_DISCOVERY")]
    pub discovery: DiscoveryAddress,

    /// How to know discovery, and to be known by it.
    #[command(flatten)]
    pub credentials: CredentialArgs,

    /// Name of this node, as Kubernetes knows it [default: the host name]
    #[arg(long, value_name = "NAME", env = "EVENKEEL_NODE")]
    pub node: Option<String>,

    /// Zone of this node; without one, endpoints of all zones are alike
    #[arg(long, value_name = "ZONE", env = "EVENKEEL_ZONE", default_value = "")]
    pub zone: String,

    /// Folder of bpffs that holds our programs, maps and links
    #[arg(long, value_name = "DIR", env = "EVENKEEL_PINS", default_value = DEFAULT_PINS)]
    pub pins: PathBuf,

    /// Root of the cgroup2 hierarchy to attach to [default: found in mountinfo]
    ///
    /// May name the folder that holds it as `unified`, as on hosts with both hierarchies. In a container it must be given: the
    /// hierarchy that a container sees by itself begins at the container.
    #[arg(long, value_name = "DIR", env = "EVENKEEL_CGROUP")]
    pub cgroup: Option<PathBuf>,

    /// Folder in which the container runtime keeps the pods' network namespaces
    #[arg(long, value_name = "DIR", env = "EVENKEEL_NETNS_DIR", default_value = DEFAULT_NETNS_DIR)]
    pub netns_dir: PathBuf,

    /// Unix socket of the admin API; only its owner may open it
    #[arg(long, value_name = "PATH", env = "EVENKEEL_ADMIN_SOCKET", default_value = DEFAULT_ADMIN_SOCKET)]
    pub admin_socket: PathBuf,

    /// Where to serve /metrics, /ready and /healthz over plain HTTP
    #[arg(long, value_name = "ADDR:PORT", env = "EVENKEEL_HTTP", default_value = DEFAULT_HTTP)]
    pub http: SocketAddr,

    /// Folder for the last good state, from which the agent starts when discovery is away
    #[arg(long, value_name = "DIR", env = "EVENKEEL_STATE_DIR", default_value = DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,

    /// Age of the heartbeat from which the kernel hands nothing to the agent any more (e.g. 2s, 1500ms)
    #[arg(long, value_name = "TIME", env = "EVENKEEL_STALE_AFTER", default_value = DEFAULT_STALE_AFTER, value_parser = duration)]
    pub stale_after: Duration,

    /// Age of the heartbeat from which every connect is left untouched
    #[arg(long, value_name = "TIME", env = "EVENKEEL_STAND_ASIDE_AFTER", default_value = DEFAULT_STAND_ASIDE_AFTER, value_parser = duration)]
    pub stand_aside_after: Duration,

    /// How long requests in flight may take to finish after SIGTERM
    #[arg(long, value_name = "TIME", env = "EVENKEEL_DRAIN_TIMEOUT", default_value = DEFAULT_DRAIN_TIMEOUT, value_parser = duration)]
    pub drain_timeout: Duration,

    /// After a newer agent has taken the node over, drain and wait to be told to end, instead of ending
    ///
    /// For a supervisor that starts again what ended, as a DaemonSet does: the older agent would come back as the newest.
    #[arg(long, env = "EVENKEEL_STAY_WHEN_SUPERSEDED")]
    pub stay_when_superseded: bool,

    /// What to log: a level, or directives such as info,evenkeel_agent=debug
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

/// Where discovery is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiscoveryAddress {
    /// `http://HOST:PORT`, without a trailing slash.
    Tcp(String),
    /// `https://HOST:PORT`, without a trailing slash.
    Tls(String),
    /// A unix socket at this path.
    Unix(PathBuf),
}

/// The validated configuration of the daemon. Destructured whole where it is used.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where discovery is.
    pub discovery: DiscoveryAddress,
    /// How to know discovery, and to be known by it.
    pub credentials: Credentials,
    /// Name of the node; not empty.
    pub node: String,
    /// Zone of the node; empty when unknown.
    pub zone: String,
    /// Absolute path of the folder of pins.
    pub pins: PathBuf,
    /// Root of cgroup2 where it shall not be found automatically.
    pub cgroup: Option<PathBuf>,
    /// Folder of namespaces.
    pub netns_dir: PathBuf,
    /// Absolute path of the admin socket.
    pub admin_socket: PathBuf,
    /// Address of the HTTP server.
    pub http: SocketAddr,
    /// Folder of the last good state.
    pub state_dir: PathBuf,
    /// See [`RunArgs::stale_after`].
    pub stale_after: Duration,
    /// Larger than `stale_after`.
    pub stand_aside_after: Duration,
    /// See [`RunArgs::drain_timeout`].
    pub drain_timeout: Duration,
    /// See [`RunArgs::stay_when_superseded`].
    pub stay_when_superseded: bool,
}

/// Why the command line cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{flag} {value:?}: {problem}; {remedy}")]
pub struct ConfigError {
    /// The flag, with its dashes.
    pub flag: &'static str,
    /// The value as given.
    pub value: String,
    /// What is wrong with it.
    pub problem: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

// === impl RunArgs ===

impl RunArgs {
    /// Checks what the parser cannot. `host_name` is used when no node name was given.
    ///
    /// # Errors
    /// The first flag whose value cannot be used.
    pub fn validate(self, host_name: &str) -> Result<Config, ConfigError> {
        let Self {
            discovery,
            credentials,
            node,
            zone,
            pins,
            cgroup,
            netns_dir,
            admin_socket,
            http,
            state_dir,
            stale_after,
            stand_aside_after,
            drain_timeout,
            stay_when_superseded,
            log: _,
            log_format: _,
        } = self;
        let node = node.unwrap_or_else(|| host_name.trim().to_owned());
        check_name("--node", &node, 1, "give the node's name as in `kubectl get nodes`")?;
        check_name("--zone", &zone, 0, "give the node's label topology.kubernetes.io/zone")?;
        check_times(stale_after, stand_aside_after)?;
        let cgroup = cgroup.map(|dir| absolute("--cgroup", dir)).transpose()?;
        if let Some(dir) = cgroup.as_ref().filter(|dir| !dir.is_dir()) {
            return Err(ConfigError {
                flag: "--cgroup",
                value: dir.display().to_string(),
                problem: "is not a directory",
                remedy: "give the mount point of cgroup2, or leave the flag away to have it found",
            });
        }
        let credentials = credentials.validate(&discovery)?;
        Ok(Config {
            discovery,
            credentials,
            node,
            zone,
            pins: absolute("--pins", pins)?,
            cgroup,
            netns_dir: absolute("--netns-dir", netns_dir)?,
            admin_socket: absolute("--admin-socket", admin_socket)?,
            http,
            state_dir: absolute("--state-dir", state_dir)?,
            stale_after,
            stand_aside_after,
            drain_timeout,
            stay_when_superseded,
        })
    }
}

fn check_name(
    flag: &'static str,
    value: &str,
    least: usize,
    remedy: &'static str,
) -> Result<(), ConfigError> {
    let problem = if value.len() < least {
        "is empty"
    } else if value.len() > 253 {
        "is longer than 253 characters"
    } else if value.chars().any(|c| c.is_whitespace() || c.is_control()) {
        "has white space in it"
    } else {
        return Ok(());
    };
    Err(ConfigError { flag, value: value.to_owned(), problem, remedy })
}

fn check_times(stale_after: Duration, stand_aside_after: Duration) -> Result<(), ConfigError> {
    let refuse = |flag, value: Duration, problem, remedy| {
        Err(ConfigError { flag, value: format!("{}ms", value.as_millis()), problem, remedy })
    };
    if stale_after < LEAST_STALE_AFTER {
        let remedy = "the heart beats every 200 ms: give 600ms or more";
        return refuse("--stale-after", stale_after, "is too short", remedy);
    }
    if stand_aside_after <= stale_after {
        let problem = "is not longer than --stale-after";
        return refuse("--stand-aside-after", stand_aside_after, problem, "give a longer time");
    }
    if stand_aside_after > MOST_STAND_ASIDE_AFTER {
        let remedy = "an agent that is gone cannot be trusted for more than a day: give 24h or less";
        return refuse("--stand-aside-after", stand_aside_after, "is too long", remedy);
    }
    Ok(())
}

fn absolute(flag: &'static str, path: PathBuf) -> Result<PathBuf, ConfigError> {
    std::path::absolute(&path).map_err(|_| ConfigError {
        flag,
        value: path.display().to_string(),
        problem: "is no path",
        remedy: "give an absolute path",
    })
}

/// Parses a time: a whole number with its unit, `ms`, `s`, `m` or `h`.
///
/// # Errors
/// A sentence for the user when it is anything else.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("{text:?} is not a time; write a whole number and ms, s, m or h, e.g. 2s")),
    };
    let number: u64 =
        number.parse().map_err(|_| format!("{text:?} is not a time; write a whole number before {unit}"))?;
    number.checked_mul(factor).map(Duration::from_millis).ok_or_else(|| format!("{text:?} is too long"))
}

// === impl DiscoveryAddress ===

impl FromStr for DiscoveryAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORMS: &str = "give https://HOST:PORT, http://HOST:PORT or unix:PATH";
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err("unix: needs a path, e.g. unix:/run/evenkeel/discovery.sock".to_owned());
            }
            return Ok(Self::Unix(path.into()));
        }
        let uri: http::Uri = text.parse().map_err(|_| format!("{text:?} is not a URL; {FORMS}"))?;
        let wrap = match uri.scheme_str() {
            Some("http") => Self::Tcp,
            Some("https") => Self::Tls,
            _ => return Err(format!("{text:?} does not begin with https://, http:// or unix:; {FORMS}")),
        };
        if uri.port_u16().is_none_or(|port| port == 0) {
            return Err(format!("{text:?} names no port; {FORMS}"));
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(format!("{text:?} has something after the port; {FORMS}"));
        }
        Ok(wrap(text.trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for DiscoveryAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(url) | Self::Tls(url) => f.write_str(url),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests;
