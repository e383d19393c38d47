// SPDX-License-Identifier: Apache-2.0
//! The compiler for `bpfel-unknown-none`: rustup's nightly where it can build `core` from source, else the
//! distribution's rustc, whose package of the BPF target has `core` built.
//!
//! What to use is decided by a pure function over facts, so that machines unlike this one can be tested.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::cache::{Cache, version_order};
use crate::{child, debian, progress};

/// The target of the kernel programs.
pub(crate) const TARGET: &str = "bpfel-unknown-none";
/// Name of the cache entry with the distribution's compiler.
const ENTRY: &str = "rustc-bpf";
/// The distribution's packages: compiler, `core` for BPF, `std` of the host for build scripts and macros. The
/// libraries that they need are found by apt.
const PACKAGES: [&str; 3] = ["rustc-web", "libstd-rust-web-dev-bpf", "libstd-rust-web-dev"];
/// The oldest compiler that builds the kernel programs: `rust-version` in `ebpf/Cargo.toml`.
const OLDEST: [u64; 2] = [1, 96];
/// Major versions of LLVM that the pinned bpf-linker can be built for.
const LINKER_LLVM: std::ops::RangeInclusive<u32> = 21..=23;

/// A compiler that builds the kernel programs.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// How cargo is told to use it.
    pub(crate) kind: Kind,
    /// Its compiler.
    pub(crate) rustc: PathBuf,
    /// Major version of its LLVM: the linker's must be the same.
    pub(crate) llvm: u32,
}

/// Where a compiler comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// rustup's nightly: builds `core` from its sources.
    Nightly,
    /// The distribution's: has `core` for the target, and takes nightly features when told to.
    Distribution,
}

/// What the machine has.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    /// LLVM's major version in rustup's nightly, if that has the sources of `core`.
    nightly_with_source: Option<u32>,
    /// A nightly without them.
    nightly_without_source: bool,
    /// The distribution's compiler is in the cache.
    cached: bool,
    /// `apt-get` and `dpkg-deb` are there.
    apt: bool,
}

/// What to do about it.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Nightly,
    Cached,
    /// Fetch the distribution's, for this reason.
    Fetch(&'static str),
}

fn choose(facts: Facts) -> Result<Choice> {
    let reason = match facts {
        Facts { nightly_with_source: Some(llvm), .. } if LINKER_LLVM.contains(&llvm) => {
            return Ok(Choice::Nightly);
        }
        Facts { cached: true, .. } => return Ok(Choice::Cached),
        Facts { nightly_with_source: Some(_), .. } => {
            "bpf-linker cannot be built for the LLVM of rustup's nightly"
        }
        Facts { nightly_without_source: true, .. } => "rustup's nightly lacks the component rust-src",
        _ => "rustup has no nightly",
    };
    if !facts.apt {
        bail!(
            "no compiler for {TARGET}: {reason}, and this is not a Debian-like system to fetch one from. \
             Install one with: rustup toolchain install nightly --component rust-src"
        );
    }
    Ok(Choice::Fetch(reason))
}

/// Finds or fetches the compiler.
pub(crate) fn ensure(cache: &Cache) -> Result<Toolchain> {
    let nightly = nightly_sysroot();
    let source =
        nightly.as_deref().filter(|sysroot| sysroot.join("lib/rustlib/src/rust/library/core").is_dir());
    let nightly_rustc = source.map(|sysroot| sysroot.join("bin/rustc"));
    let cached = cache.newest(ENTRY).filter(|(version, _)| is_new_enough(version));
    let facts = Facts {
        nightly_with_source: nightly_rustc.as_deref().map(llvm_major).transpose()?,
        nightly_without_source: nightly.is_some() && source.is_none(),
        cached: cached.is_some(),
        apt: debian::available(),
    };
    let (kind, rustc) = match (choose(facts)?, nightly_rustc, cached) {
        (Choice::Nightly, Some(rustc), _) => (Kind::Nightly, rustc),
        (Choice::Cached, _, Some((_, entry))) => (Kind::Distribution, entry.join("bin/rustc")),
        (Choice::Fetch(reason), _, _) => (Kind::Distribution, fetch(cache, reason)?),
        (choice, ..) => bail!("{choice:?} was chosen without the compiler that it needs"),
    };
    let llvm = llvm_major(&rustc)?;
    Ok(Toolchain { kind, rustc, llvm })
}

impl Toolchain {
    /// Cargo set up to compile with this toolchain, before its subcommand's arguments.
    pub(crate) fn cargo_build(&self) -> Command {
        let mut command = match self.kind {
            Kind::Nightly => {
                let mut command = Command::new("rustup");
                child::clean(&mut command);
                command.args(["run", "nightly", "cargo", "build", "-Z", "build-std=core"]);
                command.env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTC");
                command
            }
            Kind::Distribution => {
                let mut command = child::cargo();
                command.arg("build").env("RUSTC", &self.rustc).env("RUSTC_BOOTSTRAP", "1");
                command
            }
        };
        command.args(["--target", TARGET]);
        for settled_here in ["RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_BUILD_RUSTFLAGS", "RUSTC_WRAPPER"] {
            command.env_remove(settled_here);
        }
        command
    }
}

fn fetch(cache: &Cache, reason: &str) -> Result<PathBuf> {
    const HINT: &str = "no eBPF compiler could be fetched from the distribution; \
                        install one with: rustup toolchain install nightly --component rust-src";
    let packages = debian::resolve(cache, &PACKAGES).context(HINT)?;
    let version = debian::version(&packages, PACKAGES[0])?;
    if !is_new_enough(version) {
        let [major, minor] = OLDEST;
        return Err(anyhow!("{} {version} is older than {major}.{minor}", PACKAGES[0])).context(HINT);
    }
    let what = format!("eBPF compiler: fetching {} {version} from the distribution ({reason})", PACKAGES[0]);
    let entry = cache.entry(ENTRY, version, |folder| {
        progress::step("setup", &what, || {
            debian::unpack(&packages, &folder.join("root"), &cache.log())?;
            let rustc = debian::write_wrapper(folder, "rustc", "root/usr/bin/rustc")?;
            llvm_major(&rustc).context("the fetched compiler does not run")?;
            Ok(())
        })
    });
    Ok(entry.context(HINT)?.join("bin/rustc"))
}

fn is_new_enough(version: &str) -> bool {
    version_order(version).as_slice() >= OLDEST.as_slice()
}

/// The folder of rustup's toolchain `nightly`, without starting rustup.
fn nightly_sysroot() -> Option<PathBuf> {
    let home = std::env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".rustup")))?;
    std::fs::read_dir(home.join("toolchains")).ok()?.find_map(|entry| {
        let entry = entry.ok()?;
        // `nightly-HOST`, not a dated one: that is what `rustup run nightly` uses.
        let host = entry.file_name().to_str()?.strip_prefix("nightly-")?.to_owned();
        host.starts_with(std::env::consts::ARCH).then(|| entry.path())
    })
}

fn llvm_major(rustc: &Path) -> Result<u32> {
    let said = child::output(Command::new(rustc).arg("-vV").env_remove("RUSTUP_TOOLCHAIN"))?;
    parse_llvm_major(&said)
        .with_context(|| format!("{} does not tell the version of its LLVM", rustc.display()))
}

fn parse_llvm_major(said: &str) -> Option<u32> {
    said.lines().find_map(|line| line.strip_prefix("LLVM version: "))?.split('.').next()?.trim().parse().ok()
}

#[cfg(test)]
mod unit {
    use super::*;

    const LLVM: Option<u32> = Some(22);

    #[test]
    fn a_nightly_that_can_build_core_is_preferred() {
        let facts = Facts { nightly_with_source: LLVM, cached: true, apt: true, ..Facts::default() };
        assert_eq!(choose(facts).unwrap(), Choice::Nightly);
    }

    #[test]
    fn a_nightly_without_sources_gives_way_to_what_is_cached_and_then_to_the_distribution() {
        let facts = Facts { nightly_without_source: true, cached: true, ..Facts::default() };
        assert_eq!(choose(facts).unwrap(), Choice::Cached);
        let facts = Facts { nightly_without_source: true, apt: true, ..Facts::default() };
        assert_eq!(choose(facts).unwrap(), Choice::Fetch("rustup's nightly lacks the component rust-src"));
    }

    #[test]
    fn a_nightly_whose_llvm_the_linker_does_not_know_is_not_used() {
        let facts =
            Facts { nightly_with_source: Some(*LINKER_LLVM.end() + 1), apt: true, ..Facts::default() };
        assert!(matches!(choose(facts).unwrap(), Choice::Fetch(reason) if reason.contains("LLVM")));
    }

    #[test]
    fn with_nothing_at_hand_the_error_says_exactly_what_to_install() {
        let error = choose(Facts::default()).unwrap_err().to_string();
        assert!(error.contains("rustup toolchain install nightly --component rust-src"), "{error}");
    }

    #[test]
    fn a_compiler_that_the_kernel_programs_cannot_be_built_with_is_not_used() {
        assert!(is_new_enough("1.96.0+dfsg1-1~deb12u2") && is_new_enough("1.100.0"));
        assert!(!is_new_enough("1.85.0+dfsg3-1~deb12u3"));
    }

    #[test]
    fn the_llvm_version_is_read_from_what_rustc_says() {
        let said = "rustc 1.96.0 (built from a source tarball)\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(parse_llvm_major(said), Some(22));
        assert_eq!(parse_llvm_major("rustc 1.0\n"), None);
    }
}
