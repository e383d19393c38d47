// SPDX-License-Identifier: Apache-2.0
//! The project's two images, from the binaries that cargo built and exactly the shared libraries that they need. No base
//! image, no shell: what is not in an image cannot be misused in it. `cargo xtask image` writes them for users, and tests
//! of a cluster for themselves.
//!
//! What must always be true: the same binaries give the same bytes; the files of the Dockerfile's images are these files,
//! because it copies the tree that `--unpacked` writes.
//!
//! Deliberately not here: CA certificates (each program is told the one CA that it trusts), time zones (logs are in UTC).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{Config, Files, Image, Layer, add_program, needed, unpack, write};

/// No account of the machine that built it; the one that distroless images made customary.
const UNPRIVILEGED: &str = "65532:65532";
/// Names for the two users, for programs that print them.
const PASSWD: &str = "root:x:0:0:root:/:/\nevenkeel:x:65532:65532:evenkeel:/:/\n";
const GROUP: &str = "root:x:0:\nevenkeel:x:65532:\n";
/// Host names are looked up in the pod's hosts file, then asked of the cluster's DNS. Without this file the C library asks DNS
/// first, and `localhost` depends on the network.
const NSSWITCH: &str = "hosts: files dns\n";
/// The C library loads these by name when it resolves a host; those of version 2.34 and later have them built in.
const RESOLVER: [&str; 3] = ["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"];

/// An image of ours.
struct Recipe {
    /// Its name, and that of its archive.
    name: &'static str,
    /// Its program, which it starts.
    program: &'static str,
    user: &'static str,
}

/// The agent needs root, for what it is allowed with it: see SECURITY.md.
const RECIPES: [Recipe; 2] = [
    Recipe { name: "evenkeel", program: "evenkeel", user: "0:0" },
    Recipe { name: "evenkeel-discovery", program: "evenkeel-discovery", user: UNPRIVILEGED },
];

/// Where images come from and go to.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The folder of the built binaries.
    pub binaries: &'a Path,
    /// The folder for the archives; made if need be.
    pub out: &'a Path,
    /// What stands before the name, `localhost` or a registry.
    pub registry: &'a str,
    /// The tag.
    pub version: &'a str,
    /// Folder trees instead of archives.
    pub unpacked: bool,
}

/// Writes all images; returns what was written.
///
/// # Errors
/// `registry` cannot be part of a name, a binary was not built, or `out` cannot be written.
pub fn write_all(options: &Options<'_>) -> Result<Vec<PathBuf>> {
    let Options { binaries, out, registry, version, unpacked } = options;
    if registry.is_empty() || registry.ends_with('/') || registry.contains(char::is_whitespace) {
        bail!(
            "--registry {registry:?}: give a host, and folders if need be, e.g. localhost or registry.example/team"
        );
    }
    fs::create_dir_all(out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    RECIPES
        .iter()
        .map(|recipe| {
            let files = recipe.files(binaries)?;
            if *unpacked {
                let folder = out.join(recipe.name);
                // What an earlier build left there would stay in the image.
                if folder.exists() {
                    fs::remove_dir_all(&folder)
                        .with_context(|| format!("cannot clear {}", folder.display()))?;
                }
                unpack(&files, &folder).with_context(|| format!("cannot write {}", folder.display()))?;
                return Ok(folder);
            }
            let image = recipe.image(files, registry, version)?;
            let path = out.join(format!("{}.tar", recipe.name));
            write_archive(&image, &path).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        })
        .collect()
}

/// Whole or not at all: a node may be importing an older one.
fn write_archive(image: &Image, path: &Path) -> Result<()> {
    let unfinished = path.with_extension("tar.new");
    write(std::slice::from_ref(image), std::env::consts::ARCH, BufWriter::new(File::create(&unfinished)?))?;
    fs::rename(&unfinished, path)?;
    Ok(())
}

impl Recipe {
    fn files(&self, binaries: &Path) -> Result<Files> {
        let program = binaries.join(self.program);
        let files = Files::new().file("etc/passwd", 0o644, PASSWD).file("etc/group", 0o644, GROUP).file(
            "etc/nsswitch.conf",
            0o644,
            NSSWITCH,
        );
        let mut files = add_program(files, &format!("usr/bin/{}", self.program), &program)?;
        for library in resolver(&needed(&program)?) {
            let content = fs::read(&library).with_context(|| format!("cannot read {}", library.display()))?;
            files = files.file(&library.to_string_lossy(), 0o755, content);
        }
        Ok(files)
    }

    fn image(&self, files: Files, registry: &str, version: &str) -> Result<Image> {
        let label = |name: &str, value: &str| (format!("org.opencontainers.image.{name}"), value.to_owned());
        let config = Config {
            entrypoint: vec![format!("/usr/bin/{}", self.program)],
            user: self.user.to_owned(),
            env: vec!["PATH=/usr/bin".to_owned()],
            labels: BTreeMap::from([
                label("title", self.name),
                label("version", version),
                label("licenses", "Apache-2.0"),
            ]),
        };
        let reference = format!("{registry}/{}:{version}", self.name);
        Ok(Image { reference, layers: vec![Layer::new(files)?], config })
    }
}

/// The parts of the resolver that lie beside the C library and are loaded by name.
fn resolver(libraries: &[PathBuf]) -> Vec<PathBuf> {
    let c_library = libraries.iter().find(|path| path.file_name().is_some_and(|name| name == "libc.so.6"));
    let Some(folder) = c_library.and_then(|path| path.parent()) else { return Vec::new() };
    RESOLVER.iter().map(|name| folder.join(name)).filter(|path| path.is_file()).collect()
}

#[cfg(test)]
mod unit {
    use std::process::Command;

    use super::*;

    /// This test program stands for the project's: it is dynamic, as they are.
    fn binaries() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for recipe in &RECIPES {
            fs::copy(std::env::current_exe().unwrap(), dir.path().join(recipe.program)).unwrap();
        }
        dir
    }

    fn options<'a>(binaries: &'a Path, out: &'a Path, unpacked: bool) -> Options<'a> {
        Options { binaries, out, registry: "localhost", version: "1.2.3", unpacked }
    }

    #[test]
    fn the_same_binaries_give_the_same_archives() {
        let (binaries, one, two) = (binaries(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = write_all(&options(binaries.path(), one.path(), false)).unwrap();
        let second = write_all(&options(binaries.path(), two.path(), false)).unwrap();
        assert_eq!(first, [one.path().join("evenkeel.tar"), one.path().join("evenkeel-discovery.tar")]);
        for (first, second) in first.iter().zip(&second) {
            assert!(fs::read(first).unwrap() == fs::read(second).unwrap(), "{} differs", first.display());
        }
        assert_eq!(fs::read_dir(one.path()).unwrap().count(), 2, "no unfinished archive stays");
    }

    #[test]
    fn a_program_runs_with_nothing_but_the_files_of_its_image() {
        let (binaries, out) = (binaries(), tempfile::tempdir().unwrap());
        let trees = write_all(&options(binaries.path(), out.path(), true)).unwrap();
        for (tree, recipe) in trees.iter().zip(&RECIPES) {
            let mut chroot = Command::new("chroot");
            chroot.arg(tree).arg(format!("/usr/bin/{}", recipe.program)).arg("--list");
            let output = chroot.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "root is needed: {output:?}");
            assert!(said.contains("a_program_runs_with_nothing_but_the_files_of_its_image"), "{said}");
        }
    }

    #[test]
    fn a_registry_that_cannot_be_part_of_a_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for registry in ["", "localhost/", "my registry"] {
            let options = Options { registry, ..options(dir.path(), dir.path(), false) };
            let error = write_all(&options).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--registry {registry:?}")), "{error}");
        }
    }

    #[test]
    fn a_binary_that_was_not_built_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = write_all(&options(dir.path(), dir.path(), false)).unwrap_err();
        assert!(format!("{error:#}").contains("/evenkeel: No such file"), "{error:#}");
    }
}
