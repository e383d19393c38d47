// SPDX-License-Identifier: Apache-2.0
//! Codec for resource names: clusters (`web.demo.svc.cluster.local:80`, UDP with the suffix `/udp`) and Services
//! (`demo/web`).
//!
//! What must always be true: `parse(format(x)) == x`, and two different spellings never name the same thing (no
//! leading zeros, no upper case, no default port).
//! Deliberately not here: cluster domains other than `cluster.local`; the name is an identifier, never resolved.

use std::{fmt, str::FromStr};

const DOMAIN: &str = ".svc.cluster.local";
const UDP_SUFFIX: &str = "/udp";
/// Longest DNS label (RFC 1035, section 2.3.4), which is what Kubernetes allows for both parts.
const LABEL_MAX: usize = 63;

/// Transport protocol of a Service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Name of the `ClusterLoadAssignment` that holds the endpoints of one Service port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterName {
    /// The Service's name.
    pub service: String,
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's port, 1 to 65535.
    pub port: u16,
    /// The port's protocol.
    pub protocol: Protocol,
}

/// Name of a `Service` resource: `NAMESPACE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
}

/// Why a resource name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A part is not a lower-case DNS label of 1 to 63 characters.
    #[error("{name:?}: {part} {label:?} is not a DNS label (1 to 63 of a-z, 0-9 and '-', not at the ends)")]
    Label {
        /// The whole name.
        name: String,
        /// Which part of it.
        part: &'static str,
        /// The part's text.
        label: String,
    },
    /// The name does not have the shape of a cluster name.
    #[error(
        "{name:?}: a cluster is named NAME.NAMESPACE.svc.cluster.local:PORT, with /udp behind it for UDP"
    )]
    ClusterShape {
        /// The whole name.
        name: String,
    },
    /// The name does not have the shape of a Service name.
    #[error("{name:?}: a Service is named NAMESPACE/NAME")]
    ServiceShape {
        /// The whole name.
        name: String,
    },
    /// The port is not a number from 1 to 65535 without leading zeros.
    #[error("{name:?}: port {port:?} is not a number from 1 to 65535")]
    Port {
        /// The whole name.
        name: String,
        /// The port's text.
        port: String,
    },
}

// === impl ClusterName ===

impl ClusterName {
    /// Checks the parts and builds a name.
    pub fn new(service: &str, namespace: &str, port: u16, protocol: Protocol) -> Result<Self, NameError> {
        let name = Self { service: service.into(), namespace: namespace.into(), port, protocol };
        let text = name.to_string();
        check_label(&text, "name", service)?;
        check_label(&text, "namespace", namespace)?;
        if port == 0 {
            return Err(NameError::Port { name: text, port: "0".into() });
        }
        Ok(name)
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}{DOMAIN}:{}", self.service, self.namespace, self.port)?;
        match self.protocol {
            Protocol::Tcp => Ok(()),
            Protocol::Udp => f.write_str(UDP_SUFFIX),
        }
    }
}

impl FromStr for ClusterName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let shape = || NameError::ClusterShape { name: text.into() };
        let (rest, protocol) = match text.strip_suffix(UDP_SUFFIX) {
            Some(rest) => (rest, Protocol::Udp),
            None => (text, Protocol::Tcp),
        };
        let (host, port) = rest.rsplit_once(':').ok_or_else(shape)?;
        let (service, namespace) =
            host.strip_suffix(DOMAIN).and_then(|h| h.split_once('.')).ok_or_else(shape)?;
        check_label(text, "name", service)?;
        check_label(text, "namespace", namespace)?;
        let number =
            parse_port(port).ok_or_else(|| NameError::Port { name: text.into(), port: port.into() })?;
        Ok(Self { service: service.into(), namespace: namespace.into(), port: number, protocol })
    }
}

// === impl ServiceName ===

impl ServiceName {
    /// Checks the parts and builds a name.
    pub fn new(namespace: &str, name: &str) -> Result<Self, NameError> {
        let built = Self { namespace: namespace.into(), name: name.into() };
        let text = built.to_string();
        check_label(&text, "namespace", namespace)?;
        check_label(&text, "name", name)?;
        Ok(built)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (namespace, name) =
            text.split_once('/').ok_or_else(|| NameError::ServiceShape { name: text.into() })?;
        check_label(text, "namespace", namespace)?;
        check_label(text, "name", name)?;
        Ok(Self { namespace: namespace.into(), name: name.into() })
    }
}

// === parts ===

fn check_label(name: &str, part: &'static str, label: &str) -> Result<(), NameError> {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let good = (1..=LABEL_MAX).contains(&label.len())
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-');
    if good { Ok(()) } else { Err(NameError::Label { name: name.into(), part, label: label.into() }) }
}

/// `u16::from_str` takes `+80` and `080`, which would give one cluster two names.
fn parse_port(text: &str) -> Option<u16> {
    let strict = text.bytes().all(|c| c.is_ascii_digit()) && !text.starts_with('0');
    strict.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tcp_and_udp_ports_of_one_service_have_different_names() {
        let tcp = ClusterName::new("dns", "kube-system", 53, Protocol::Tcp).unwrap();
        let udp = ClusterName { protocol: Protocol::Udp, ..tcp.clone() };
        assert_eq!(tcp.to_string(), "dns.kube-system.svc.cluster.local:53");
        assert_eq!(udp.to_string(), "dns.kube-system.svc.cluster.local:53/udp");
    }

    #[test]
    fn sloppy_cluster_names_are_refused() {
        for bad in [
            "",
            "web",
            "web.demo:80",
            "web.demo.svc.cluster.local",
            "web.demo.svc.cluster.local:",
            "web.demo.svc.cluster.local:0",
            "web.demo.svc.cluster.local:080",
            "web.demo.svc.cluster.local:+80",
            "web.demo.svc.cluster.local:65536",
            "web.demo.svc.cluster.local:80/tcp",
            "web.demo.svc.cluster.local:80/udp/udp",
            "Web.demo.svc.cluster.local:80",
            ".demo.svc.cluster.local:80",
            "a.b.c.svc.cluster.local:80",
            "-web.demo.svc.cluster.local:80",
        ] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn an_error_names_the_name_the_part_and_its_text() {
        let error = "web.Demo.svc.cluster.local:80".parse::<ClusterName>().unwrap_err().to_string();
        assert!(error.contains("\"web.Demo.svc.cluster.local:80\": namespace \"Demo\""), "{error}");
    }

    #[test]
    fn sloppy_service_names_are_refused() {
        for bad in ["", "web", "demo/", "/web", "demo/web/x", "demo/Web"] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?} was taken");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_formatted_parses_to_itself(
            service in "[a-z]([-a-z0-9]{0,8}[a-z0-9])?", namespace in "[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?",
            port in 1u16.., udp: bool,
        ) {
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            let cluster = ClusterName::new(&service, &namespace, port, protocol).unwrap();
            prop_assert_eq!(cluster.to_string().parse::<ClusterName>().unwrap(), cluster);
            let name = ServiceName::new(&namespace, &service).unwrap();
            prop_assert_eq!(name.to_string().parse::<ServiceName>().unwrap(), name);
        }

        #[test]
        fn any_text_that_parses_is_formatted_back_to_itself(text in "\\PC{0,40}|[a-z.]{1,9}\\.svc\\.cluster\\.local:[0-9+]{0,6}(/udp)?") {
            if let Ok(name) = text.parse::<ClusterName>() {
                prop_assert_eq!(name.to_string(), text.clone());
            }
            if let Ok(name) = text.parse::<ServiceName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
