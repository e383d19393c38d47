// SPDX-License-Identifier: Apache-2.0
//! Programs of others that the demo and the tests are run against: the machine's own if there is one, else the
//! distribution's, unpacked privately. To add a peer, add a line to [`PEERS`].

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::cache::Cache;
use crate::{debian, path_lookup, progress};

/// A program that the tests use and do not build.
pub(crate) struct Peer {
    /// Its name on `PATH` and in the cache.
    pub(crate) name: &'static str,
    /// The environment variable that tells the demo and the tests its path.
    pub(crate) variable: &'static str,
    /// The distribution's package and the program in it.
    package: &'static str,
    program: &'static str,
    /// What it is for, as set-up says it.
    purpose: &'static str,
}

/// All peers.
pub(crate) const PEERS: [Peer; 1] = [Peer {
    name: "nft",
    variable: "EVENKEEL_NFT",
    package: "nftables",
    program: "root/usr/sbin/nft",
    purpose: "the kube-proxy baseline",
}];

impl Peer {
    /// Finds or fetches it.
    pub(crate) fn ensure(&self, cache: &Cache) -> Result<PathBuf> {
        let Self { name, package, program, purpose, .. } = self;
        if let Some(found) = path_lookup::find(name) {
            return Ok(found);
        }
        if let Some((_, entry)) = cache.newest(name) {
            return Ok(entry.join("bin").join(name));
        }
        let advice = || format!("{name} is needed for {purpose}: install {package}");
        if !debian::available() {
            bail!(advice());
        }
        let packages = debian::resolve(cache, &[package]).with_context(advice)?;
        let version = debian::version(&packages, package)?;
        let entry = cache.entry(name, version, |folder| {
            let what = format!("{name}: fetching {package} {version} from the distribution, for {purpose}");
            progress::step("setup", &what, || {
                debian::unpack(&packages, &folder.join("root"), &cache.log())?;
                debian::write_wrapper(folder, name, program).map(drop)
            })
        });
        Ok(entry.with_context(advice)?.join("bin").join(name))
    }
}
