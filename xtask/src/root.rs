// SPDX-License-Identifier: Apache-2.0
//! Whether this process may load eBPF programs, asked before any work is done.

use anyhow::{Result, bail};

/// Bit of `CAP_SYS_ADMIN` in a capability set (`linux/capability.h`). The node tests and the demo also make
/// namespaces and mounts, so `CAP_BPF` alone would only fail later.
const CAP_SYS_ADMIN: u32 = 21;

/// Fails with the one line that tells the user what to do.
pub(crate) fn require() -> Result<()> {
    check(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

/// The rule, over the text of `/proc/self/status`.
fn check(status: &str) -> Result<()> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    if effective & (1 << CAP_SYS_ADMIN) == 0 {
        bail!("loading eBPF programs needs root (CAP_BPF or CAP_SYS_ADMIN): run it again with sudo");
    }
    Ok(())
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn root_with_its_capabilities_passes() {
        check("Name:\txtask\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n").unwrap();
    }

    #[test]
    fn a_plain_user_is_told_in_one_line_to_use_sudo() {
        let error = check("Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n").unwrap_err();
        assert_eq!(
            format!("error: {error:#}"),
            "error: loading eBPF programs needs root (CAP_BPF or CAP_SYS_ADMIN): run it again with sudo"
        );
    }

    #[test]
    fn root_in_a_container_without_the_capability_does_not_pass() {
        assert!(check("Uid:\t0\t0\t0\t0\nCapEff:\t00000000a80425fb\n").is_err());
    }

    #[test]
    fn an_unreadable_status_does_not_pass() {
        assert!(check("").is_err());
    }
}
