// SPDX-License-Identifier: Apache-2.0
//! Container images as archives, written without a container engine: files go in, a tar comes out.
//!
//! The archive is an OCI image layout (<https://github.com/opencontainers/image-spec/blob/main/image-layout.md>) with
//! the `manifest.json` of `docker save` beside it, so that `ctr images import`, `skopeo copy oci-archive:` and
//! `docker load` all read it. Images may share layers.
//!
//! What must always be true: the same input gives the same bytes (no clocks, no owners, sorted names), so that an
//! image's digest says whether anything in it changed.
//!
//! Deliberately not here: what belongs into an image, compression (archives stay on this machine), and registries.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Every file is from then: the archive has no clock.
const CREATED: &str = "1970-01-01T00:00:00Z";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Files of an image, before they become a layer. Paths are relative to the image's root; folders above a path are
/// made by themselves.
#[derive(Clone, Debug, Default)]
pub struct Files(BTreeMap<String, Entry>);

#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Folder { mode: u32 },
    File { mode: u32, content: Vec<u8> },
    Link { target: String },
}

impl Files {
    /// No files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file with its permissions; one of the same path is replaced.
    #[must_use]
    pub fn file(mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.put(path, Entry::File { mode, content: content.into() });
        self
    }

    /// Adds an empty folder with its permissions.
    #[must_use]
    pub fn folder(mut self, path: &str, mode: u32) -> Self {
        self.put(path, Entry::Folder { mode });
        self
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn link(mut self, path: &str, target: impl Into<String>) -> Self {
        self.put(path, Entry::Link { target: target.into() });
        self
    }

    /// All of them, a folder before what is in it.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.0.iter()
    }

    fn put(&mut self, path: &str, entry: Entry) {
        let path = path.trim_matches('/');
        for (end, _) in path.match_indices('/') {
            self.0.entry(path[..end].to_owned()).or_insert(Entry::Folder { mode: 0o755 });
        }
        self.0.insert(path.to_owned(), entry);
    }
}

/// A layer: its tar and the digest of that. Cheap to clone, to be shared by images.
#[derive(Debug, Clone)]
pub struct Layer(Blob);

impl Layer {
    /// Packs the files.
    ///
    /// # Errors
    /// A path does not fit a tar header.
    pub fn new(files: Files) -> io::Result<Self> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, entry) in files.0 {
            match entry {
                Entry::Folder { mode } => {
                    tar.append_data(&mut header(tar::EntryType::Directory, mode, 0), &path, io::empty())?;
                }
                Entry::File { mode, content } => {
                    let mut header = header(tar::EntryType::Regular, mode, content.len());
                    tar.append_data(&mut header, &path, content.as_slice())?;
                }
                Entry::Link { target } => {
                    tar.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), &path, &target)?;
                }
            }
        }
        Ok(Self(Blob::new(tar.into_inner()?)))
    }
}

/// What a container of the image runs, see the image specification's `config.md`.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// `UID[:GID]`; root if empty.
    pub user: String,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// Facts about the image, such as `org.opencontainers.image.version`.
    pub labels: BTreeMap<String, String>,
}

/// One image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its full name, `HOST/NAME:TAG`.
    pub reference: String,
    /// From the bottom up.
    pub layers: Vec<Layer>,
    /// What it runs.
    pub config: Config,
}

/// The archive of all `images`, for machines of `architecture` as Rust names them (`x86_64`, `aarch64`).
///
/// # Errors
/// `out` cannot be written.
pub fn write(images: &[Image], architecture: &str, out: impl Write) -> io::Result<()> {
    let mut blobs = BTreeMap::new();
    let mut keep = |blob: &Blob| {
        blobs.insert(blob.digest.clone(), Arc::clone(&blob.bytes));
    };
    let (mut index, mut docker) = (Vec::new(), Vec::new());
    for image in images {
        let config = Blob::json(&config(image, architecture));
        let manifest = Blob::json(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(CONFIG),
            "layers": image.layers.iter().map(|layer| layer.0.descriptor(LAYER)).collect::<Vec<_>>(),
        }));
        image.layers.iter().for_each(|layer| keep(&layer.0));
        keep(&config);
        keep(&manifest);
        index.push(entry(&manifest, &image.reference));
        docker.push(json!({
            "Config": config.path(),
            "RepoTags": [image.reference],
            "Layers": image.layers.iter().map(|layer| layer.0.path()).collect::<Vec<_>>(),
        }));
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": index });

    let mut tar = tar::Builder::new(out);
    let mut add = |path: &str, bytes: &[u8]| {
        tar.append_data(&mut header(tar::EntryType::Regular, 0o644, bytes.len()), path, bytes)
    };
    add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    for (digest, bytes) in &blobs {
        add(&format!("blobs/sha256/{digest}"), bytes)?;
    }
    add("index.json", index.to_string().as_bytes())?;
    add("manifest.json", Value::from(docker).to_string().as_bytes())?;
    tar.into_inner()?.flush()
}

fn config(image: &Image, architecture: &str) -> Value {
    let Config { entrypoint, user, env, labels } = &image.config;
    let layers = &image.layers;
    json!({
        "architecture": go_architecture(architecture),
        "os": "linux",
        "created": CREATED,
        "config": {
            "Entrypoint": entrypoint, "User": user, "Env": env, "Labels": labels, "WorkingDir": "/",
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|layer| layer.0.digest()).collect::<Vec<_>>(),
        },
        "history": layers.iter().map(|_| json!({ "created": CREATED })).collect::<Vec<_>>(),
    })
}

/// An image in the index. The first annotation is the specification's, the second is how containerd knows full names.
fn entry(manifest: &Blob, reference: &str) -> Value {
    let mut descriptor = manifest.descriptor(MANIFEST);
    let tag = reference.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    descriptor["annotations"] =
        json!({ "org.opencontainers.image.ref.name": tag, "io.containerd.image.name": reference });
    descriptor
}

/// The name that Go, and with it the image specification, has for an architecture.
fn go_architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[derive(Debug, Clone)]
struct Blob {
    bytes: Arc<Vec<u8>>,
    digest: String,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        let digest = Sha256::digest(&bytes);
        let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { bytes: Arc::new(bytes), digest }
    }

    fn json(value: &Value) -> Self {
        Self::new(value.to_string().into_bytes())
    }

    fn digest(&self) -> String {
        format!("sha256:{}", self.digest)
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest)
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest(), "size": self.bytes.len() })
    }
}

fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(images: &[Image]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(images, "x86_64", &mut bytes).unwrap();
        bytes
    }

    fn image(reference: &str, layers: &[Layer]) -> Image {
        let config = Config { entrypoint: vec!["/bin/x".into()], user: "65532".into(), ..Config::default() };
        Image { reference: reference.into(), layers: layers.to_vec(), config }
    }

    fn names(tar: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().unwrap();
        entries.map(|entry| entry.unwrap().path().unwrap().to_string_lossy().into_owned()).collect()
    }

    fn read(tar: &[u8], path: &str) -> Vec<u8> {
        let mut archive = tar::Archive::new(tar);
        let mut entries = archive.entries().unwrap().map(Result::unwrap);
        let mut entry = entries.find(|entry| entry.path().unwrap().to_string_lossy() == path).unwrap();
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        bytes
    }

    fn json_at(tar: &[u8], path: &str) -> Value {
        serde_json::from_slice(&read(tar, path)).unwrap()
    }

    #[test]
    fn the_same_files_give_the_same_bytes_in_whatever_order_they_come() {
        let one = Layer::new(Files::new().file("bin/x", 0o755, "x").file("etc/y", 0o644, "y")).unwrap();
        let two = Layer::new(Files::new().file("/etc/y", 0o644, "y").file("/bin/x", 0o755, "x")).unwrap();
        assert_eq!(archive(&[image("l/x:1", &[one])]), archive(&[image("l/x:1", &[two])]));
    }

    #[test]
    fn another_mode_or_content_gives_another_digest() {
        let digest =
            |mode, content: &str| Layer::new(Files::new().file("x", mode, content)).unwrap().0.digest;
        assert_ne!(digest(0o755, "x"), digest(0o644, "x"));
        assert_ne!(digest(0o755, "x"), digest(0o755, "y"));
    }

    #[test]
    fn folders_above_a_file_come_before_it_and_keep_a_mode_that_was_given() {
        let files = Files::new().folder("tmp", 0o1777).file("tmp/a/b", 0o644, "").link("lib", "usr/lib");
        let layer = Layer::new(files).unwrap();
        assert_eq!(names(&layer.0.bytes), ["lib", "tmp", "tmp/a", "tmp/a/b"]);
        let mut archive = tar::Archive::new(layer.0.bytes.as_slice());
        let modes: Vec<u32> =
            archive.entries().unwrap().map(|entry| entry.unwrap().header().mode().unwrap()).collect();
        assert_eq!(modes, [0o777, 0o1777, 0o755, 0o644]);
    }

    #[test]
    fn a_path_longer_than_a_tar_headers_name_is_kept_whole() {
        let path = format!("{}/end", "long/".repeat(40).trim_end_matches('/'));
        let layer = Layer::new(Files::new().file(&path, 0o644, "x")).unwrap();
        assert_eq!(names(&layer.0.bytes).last(), Some(&path));
    }

    #[test]
    fn every_digest_that_is_named_is_there_with_its_size_and_a_shared_layer_once() {
        let shared = Layer::new(Files::new().file("bin/x", 0o755, "x")).unwrap();
        let own = Layer::new(Files::new().file("bin/y", 0o755, "y")).unwrap();
        let both = [shared, own];
        let images = [image("localhost/a:1", &both[..1]), image("localhost/b:2", &both)];
        let tar = archive(&images);
        let index = json_at(&tar, "index.json");
        for (n, manifest) in index["manifests"].as_array().unwrap().iter().enumerate() {
            assert_eq!(manifest["annotations"]["io.containerd.image.name"], images[n].reference.as_str());
            let path = |of: &Value| of["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
            let inner = json_at(&tar, &path(manifest));
            let layers = inner["layers"].as_array().unwrap();
            for blob in layers.iter().chain([manifest, &inner["config"]]) {
                let bytes = read(&tar, &path(blob));
                assert_eq!(blob["size"], bytes.len());
                assert_eq!(path(blob), Blob::new(bytes).path());
            }
            let config = json_at(&tar, &path(&inner["config"]));
            let digests: Vec<_> = layers.iter().map(|layer| layer["digest"].clone()).collect();
            assert_eq!(config["rootfs"]["diff_ids"], Value::from(digests));
            assert_eq!(config["architecture"], "amd64");
            assert_eq!(json_at(&tar, "manifest.json")[n]["Config"], path(&inner["config"]));
        }
        // Layout file, two indices; two layers, two configurations, two manifests.
        assert_eq!(names(&tar).len(), 3 + 6);
    }
}
