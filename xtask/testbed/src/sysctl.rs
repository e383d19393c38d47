// SPDX-License-Identifier: Apache-2.0
//! Network sysctls of new namespaces, set before they have links, which inherit them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Addresses can be used at once (no duplicate detection, which takes a second and more, link-local ones included),
/// and a lost neighbour solicitation is repeated soon.
const HOST: [(&str, &str); 4] = [
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv4/neigh/default/retrans_time_ms", "50"),
    ("ipv6/neigh/default/retrans_time_ms", "50"),
];

/// Forwards, and answers every packet to nowhere, without the kernel's limit of one answer a second.
const ROUTER: [(&str, &str); 5] = [
    ("ipv4/ip_forward", "1"),
    ("ipv4/icmp_ratelimit", "0"),
    ("ipv4/icmp_msgs_per_sec", "100000"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/icmp/ratelimit", "0"),
];

/// For a pod, in the calling thread's network namespace.
pub(crate) fn host() -> Result<()> {
    set(&HOST)
}

/// For a node or the fabric, in the calling thread's network namespace.
pub(crate) fn router() -> Result<()> {
    host()?;
    set(&ROUTER)
}

fn set(values: &[(&str, &str)]) -> Result<()> {
    for (name, value) in values {
        let path = Path::new("/proc/sys/net").join(name);
        // Not every kernel has each of them per namespace.
        if path.exists() {
            fs::write(&path, value).with_context(|| format!("write {value} to {}", path.display()))?;
        }
    }
    Ok(())
}
