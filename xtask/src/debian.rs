// SPDX-License-Identifier: Apache-2.0
//! Packages of a Debian-like distribution, unpacked privately: nothing is installed on the system, no maintainer
//! script runs, no privileges are needed. Which packages are needed, besides what the machine has, is asked of
//! apt's own resolver.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cache::Cache;
use crate::{child, path_lookup, progress};

/// Never unpacked: a second C library beside the system's dynamic loader breaks every program that sees it.
const NEVER: [&str; 3] = ["libc6", "libc-bin", "libcrypt1"];

/// One package at one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// Whether this machine has the tools of a Debian-like distribution.
pub(crate) fn available() -> bool {
    ["apt-get", "dpkg-deb"].iter().all(|tool| path_lookup::find(tool).is_some())
}

/// The named packages at the versions that apt would choose, and what they need that the machine lacks. Fetches
/// the package lists first if they do not know a name.
pub(crate) fn resolve(cache: &Cache, names: &[&str]) -> Result<Vec<Package>> {
    match simulate(names) {
        Err(error) if is_unknown_package(&format!("{error:#}")) => update_and_simulate(cache, names),
        result => result,
    }
    .with_context(|| format!("the distribution's packages do not resolve: {}", names.join(", ")))
}

fn update_and_simulate(cache: &Cache, names: &[&str]) -> Result<Vec<Package>> {
    // apt refuses instead of waiting when two clones update. Not the cache's own lock: this one's caller may hold it.
    let _lock = cache.lock("apt-lock")?;
    if let Ok(packages) = simulate(names) {
        return Ok(packages); // Another clone fetched the lists while this one waited.
    }
    progress::say("setup", format!("the package lists do not know {}: apt-get update", names.join(", ")));
    child::output(apt().arg("update")).context("cannot fetch the package lists (this needs root)")?;
    simulate(names)
}

/// The version of `name` among resolved packages.
pub(crate) fn version<'a>(packages: &'a [Package], name: &str) -> Result<&'a str> {
    packages
        .iter()
        .find(|package| package.name == name)
        .map(|package| package.version.as_str())
        .with_context(|| format!("apt did not resolve {name}"))
}

/// Downloads the packages and unpacks them into `root`.
pub(crate) fn unpack(packages: &[Package], root: &Path, log: &Path) -> Result<()> {
    let downloads = root.with_extension("debs");
    fs::create_dir_all(&downloads)?;
    fs::create_dir_all(root)?;
    let wanted = packages.iter().map(|package| format!("{}={}", package.name, package.version));
    child::run_logged("setup", apt().arg("download").args(wanted).current_dir(&downloads), log)?;
    for entry in fs::read_dir(&downloads)? {
        child::output(Command::new("dpkg-deb").arg("-x").arg(entry?.path()).arg(root))?;
    }
    fs::remove_dir_all(&downloads)?;
    Ok(())
}

/// The folders under `root` that hold shared libraries for the dynamic loader, relative to `root`.
pub(crate) fn library_folders(root: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for parent in ["usr/lib", "lib"] {
        let Ok(entries) = fs::read_dir(root.join(parent)) else { continue };
        for entry in entries {
            let name = entry?.file_name();
            // Multiarch folders: x86_64-linux-gnu, aarch64-linux-gnu, arm-linux-gnueabihf …
            if name.to_string_lossy().contains("-linux-gnu") {
                folders.push(Path::new(parent).join(name));
            }
        }
    }
    Ok(folders)
}

fn simulate(names: &[&str]) -> Result<Vec<Package>> {
    // --reinstall: the named packages are wanted here even if the system has them.
    let flags = ["install", "--simulate", "--reinstall", "--no-install-recommends"];
    Ok(parse_simulation(&child::output(apt().args(flags).args(names))?))
}

/// Reads `Inst NAME [OLD] (NEW ORIGIN …) …` lines.
fn parse_simulation(text: &str) -> Vec<Package> {
    text.lines()
        .filter_map(|line| {
            let name = line.strip_prefix("Inst ")?.split(' ').next()?;
            let version = line.split_once(" (")?.1.split([' ', ')']).next()?;
            Some(Package { name: name.to_owned(), version: version.to_owned() })
        })
        .filter(|package| !NEVER.contains(&package.name.as_str()))
        .collect()
}

fn is_unknown_package(error: &str) -> bool {
    ["Unable to locate package", "has no installation candidate", "Couldn't find any package"]
        .iter()
        .any(|sign| error.contains(sign))
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    // The downloads go to a folder of this user's, which apt's own user may not enter.
    command.env("LC_ALL", "C").args(["-o", "APT::Sandbox::User=root"]);
    command
}

/// Writes `bin/NAME` into `entry`: starts `program` (relative to `entry`) with the libraries under `entry/root`.
/// The wrapper finds its folder by its own path, so that the entry can be renamed.
pub(crate) fn write_wrapper(entry: &Path, name: &str, program: &str) -> Result<PathBuf> {
    write_wrapper_of_many(entry, name, program, "")
}

/// As [`write_wrapper`], of a program that is many in one and is told by its first argument which it is to be.
pub(crate) fn write_wrapper_of_many(entry: &Path, name: &str, program: &str, first: &str) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;

    if !entry.join(program).exists() {
        bail!("the unpacked packages have no {program}");
    }
    let folders = library_folders(&entry.join("root"))?;
    // iptables has its extensions in a folder that it knows by an absolute path.
    let extensions = folders.iter().map(|folder| folder.join("xtables"));
    let extensions = extensions.into_iter().find(|folder| entry.join("root").join(folder).is_dir());
    let extensions = extensions.map_or(String::new(), |folder| {
        format!("export XTABLES_LIBDIR=\"$here/root/{}\"\n", folder.display())
    });
    let libraries =
        folders.iter().map(|folder| format!("$here/root/{}", folder.display())).collect::<Vec<_>>().join(":");
    let search = if libraries.is_empty() {
        String::new()
    } else {
        format!("export LD_LIBRARY_PATH=\"{libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"\n")
    };
    let text = format!(
        "#!/bin/sh\n\
         # Starts the private {name} with its private libraries. Call it by its absolute path.\n\
         here=${{0%/bin/*}}\n\
         {search}\
         {extensions}\
         exec \"$here/{program}\" {first} \"$@\"\n"
    );
    let path = entry.join("bin").join(name);
    fs::create_dir_all(entry.join("bin"))?;
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

#[cfg(test)]
mod unit {
    use super::*;

    const SIMULATION: &str = "\
NOTE: This is only a simulation!
Reading package lists...
Remv rustc [1.63.0+dfsg1-2]
Inst libxml2 [2.9.14+dfsg-1.3~deb12u5] (2.9.14+dfsg-1.3~deb12u6 Debian:12.15/oldstable [amd64])
Inst libc6 [2.36-9] (2.36-10 Debian:12.15/oldstable [amd64]) []
Inst libllvm22 (1:22.1.8-1~deb12u1 Debian-Security:12/oldstable-security [amd64])
Inst rustc-web (1.96.0+dfsg1-1~deb12u2 Debian-Security:12/oldstable-security [amd64])
Conf rustc-web (1.96.0+dfsg1-1~deb12u2 Debian-Security:12/oldstable-security [amd64])
";

    #[test]
    fn a_simulation_gives_new_versions_without_the_c_library() {
        let packages = parse_simulation(SIMULATION);
        let names: Vec<_> = packages.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["libxml2", "libllvm22", "rustc-web"]);
        assert_eq!(version(&packages, "libxml2").unwrap(), "2.9.14+dfsg-1.3~deb12u6");
        assert_eq!(version(&packages, "libllvm22").unwrap(), "1:22.1.8-1~deb12u1");
        assert!(version(&packages, "rustc").unwrap_err().to_string().contains("rustc"));
    }

    #[test]
    fn only_a_name_that_the_lists_lack_makes_them_be_fetched() {
        assert!(is_unknown_package("apt-get failed: E: Unable to locate package rustc-web"));
        assert!(is_unknown_package("E: Package 'nftables' has no installation candidate"));
        assert!(!is_unknown_package("E: Could not get lock /var/lib/dpkg/lock"));
    }

    #[test]
    fn a_wrapper_starts_its_program_with_private_libraries_also_after_a_rename() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().join("made");
        fs::create_dir_all(made.join("root/usr/lib/x86_64-linux-gnu")).unwrap();
        fs::create_dir_all(made.join("root/usr/bin")).unwrap();
        let program = made.join("root/usr/bin/tool");
        fs::write(&program, "#!/bin/sh\necho \"$LD_LIBRARY_PATH|$1\"\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        write_wrapper(&made, "tool", "root/usr/bin/tool").unwrap();

        let installed = dir.path().join("installed");
        fs::rename(&made, &installed).unwrap();
        let mut command = Command::new(installed.join("bin/tool"));
        let said = child::output(command.arg("two words").env("LD_LIBRARY_PATH", "/other")).unwrap();
        let library = installed.join("root/usr/lib/x86_64-linux-gnu");
        assert_eq!(said.trim(), format!("{}:/other|two words", library.display()));
    }

    #[test]
    fn a_package_without_the_program_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let error = write_wrapper(dir.path(), "tool", "root/usr/bin/tool").unwrap_err();
        assert!(error.to_string().contains("root/usr/bin/tool"));
    }
}
