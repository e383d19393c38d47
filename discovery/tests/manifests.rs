// SPDX-License-Identifier: Apache-2.0
//! A directory of manifests as a source. Tier 2: real files and real inotify.

use std::fs;
use std::path::Path;
use std::time::Duration;

use evenkeel_discovery::source::manifests::ManifestSource;
use evenkeel_discovery::source::{Change, Event, Source, SourceError};
use tempfile::TempDir;

/// How long anything may take before a test fails.
const DEADLINE: Duration = Duration::from_secs(20);

/// Writes a file as one should: under another name, then renamed.
fn put(directory: &Path, name: &str, text: &str) {
    let draft = directory.join(format!(".{name}.draft"));
    fs::write(&draft, text).unwrap();
    fs::rename(draft, directory.join(name)).unwrap();
}

fn node(name: &str, zone: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\n  labels: {{topology.kubernetes.io/zone: \"{zone}\"}}\n"
    )
}

/// Changes in short: `+NAME=ZONE`, `-NAME`, `ORIGIN!COUNT`, `synced`. Faultless origins are left out.
fn told(changes: &[Change]) -> Vec<String> {
    changes
        .iter()
        .filter_map(|change| match change {
            Change::Node(Event::Applied(node)) => {
                let zone = &node.metadata.labels.as_ref().unwrap()["topology.kubernetes.io/zone"];
                Some(format!("+{}={zone}", node.metadata.name.as_ref().unwrap()))
            }
            Change::Node(Event::Deleted(key)) => Some(format!("-{key}")),
            Change::Faults { faults, .. } if faults.is_empty() => None,
            Change::Faults { origin, faults } => Some(format!("{origin}!{}", faults.len())),
            Change::Synced => Some("synced".into()),
            other => panic!("{other:?}"),
        })
        .collect()
}

struct Watched {
    source: ManifestSource,
    directory: TempDir,
}

impl Watched {
    async fn over(files: &[(&str, String)]) -> (Self, Vec<String>) {
        let directory = TempDir::new().unwrap();
        let folder = directory.path().join("manifests");
        fs::create_dir(&folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
        let source = ManifestSource::open(folder).unwrap();
        let mut watched = Self { source, directory };
        let first = watched.next().await;
        (watched, first)
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("manifests")
    }

    /// The next batch that says something.
    async fn next(&mut self) -> Vec<String> {
        loop {
            let batch =
                tokio::time::timeout(DEADLINE, self.source.next()).await.expect("no change in time").unwrap();
            let told = told(&batch);
            if !told.is_empty() {
                return told;
            }
        }
    }

    /// Whatever batches come, until this has been told; all that was told.
    async fn until(&mut self, expected: &str) -> Vec<String> {
        let mut all = Vec::new();
        while !all.iter().any(|told| told == expected) {
            all.extend(self.next().await);
        }
        all
    }
}

#[tokio::test]
async fn everything_that_exists_is_one_batch_that_ends_with_synced() {
    let files = [
        ("b.yml", node("b", "z")),
        ("a.yaml", node("a", "z")),
        ("notes.txt", "x".into()),
        (".c.yaml", "[".into()),
    ];
    let (_watched, first) = Watched::over(&files).await;
    assert_eq!(first, ["+a=z", "+b=z", "synced"]);
}

#[tokio::test]
async fn a_file_is_added_changed_replaced_by_rename_and_removed() {
    let (mut watched, first) = Watched::over(&[]).await;
    assert_eq!(first, ["synced"]);
    let file = watched.path().join("n.yaml");
    fs::write(&file, node("n", "1")).unwrap();
    assert_eq!(watched.next().await, ["+n=1"]);
    fs::write(&file, node("n", "2")).unwrap();
    assert_eq!(watched.next().await, ["+n=2"]);
    put(&watched.path(), "n.yaml", &node("n", "3"));
    assert_eq!(watched.next().await, ["+n=3"]);
    fs::remove_file(&file).unwrap();
    assert_eq!(watched.next().await, ["-n"]);
}

#[tokio::test]
async fn renaming_a_file_deletes_nothing() {
    let (mut watched, _) = Watched::over(&[("n.yaml", node("n", "1"))]).await;
    for (from, to) in [("n.yaml", "m.yaml"), ("m.yaml", "z.yaml")] {
        fs::rename(watched.path().join(from), watched.path().join(to)).unwrap();
        put(&watched.path(), "other.yaml", &node("other", to));
        let told = watched.until(&format!("+other={to}")).await;
        assert!(!told.iter().any(|told| told.starts_with('-') || told.contains('!')), "{told:?}");
    }
}

#[tokio::test]
async fn a_broken_file_keeps_its_objects_until_it_is_fixed_or_removed() {
    let two = || format!("{}---\n{}", node("a", "1"), node("b", "1"));
    let (mut watched, _) = Watched::over(&[("n.yaml", two())]).await;
    put(&watched.path(), "n.yaml", &format!("{}---\nkind: [\n", node("a", "2")));
    assert_eq!(watched.next().await, ["n.yaml!1"], "not even the good document of it is taken");
    fs::write(watched.path().join("n.yaml"), "").unwrap();
    assert_eq!(watched.next().await, ["n.yaml!1"], "an empty file removes nothing");
    put(&watched.path(), "n.yaml", &two().replace("\"1\"", "\"3\""));
    assert_eq!(watched.next().await, ["+a=3", "+b=3"]);
    put(&watched.path(), "n.yaml", "kind: [\n");
    assert_eq!(watched.next().await, ["n.yaml!1"]);
    fs::remove_file(watched.path().join("n.yaml")).unwrap();
    assert_eq!(watched.next().await, ["-a", "-b"]);
}

#[tokio::test]
async fn a_file_that_is_being_written_is_read_when_its_writer_closes_it() {
    use std::io::Write;
    let (mut watched, _) = Watched::over(&[("n.yaml", node("n", "1"))]).await;
    let mut file = fs::File::create(watched.path().join("n.yaml")).unwrap();
    file.write_all(b"apiVersion: v1\n").unwrap();
    file.flush().unwrap();
    // Another file's change comes after those writes: had they been looked at, there would be a fault before it.
    put(&watched.path(), "other.yaml", &node("other", "1"));
    assert_eq!(watched.next().await, ["+other=1"]);
    file.write_all(node("n", "2").replace("apiVersion: v1\n", "").as_bytes()).unwrap();
    drop(file);
    assert_eq!(watched.next().await, ["+n=2"]);
}

#[tokio::test]
async fn a_directory_that_vanishes_keeps_its_objects_and_is_found_again() {
    let (mut watched, _) = Watched::over(&[("n.yaml", node("n", "1"))]).await;
    let path = watched.path();
    let aside = path.with_file_name("aside");
    fs::rename(&path, &aside).unwrap();
    assert_eq!(watched.until(&format!("{}!1", path.display())).await.len(), 1, "no object is deleted");
    fs::write(aside.join("m.yaml"), node("m", "1")).unwrap();
    fs::rename(&aside, &path).unwrap();
    assert_eq!(watched.until("+m=1").await, ["+m=1"]);
    fs::write(path.join("n.yaml"), node("n", "2")).unwrap();
    assert_eq!(watched.until("+n=2").await, ["+n=2"], "the new directory is watched");
}

#[tokio::test]
async fn a_swapped_link_as_of_a_mounted_config_map_is_noticed() {
    let (mut watched, _) = Watched::over(&[]).await;
    let path = watched.path();
    let version = |name: &str, zone: &str| {
        fs::create_dir(path.join(name)).unwrap();
        fs::write(path.join(name).join("n.yaml"), node("n", zone)).unwrap();
    };
    let swap = |target: &str| {
        std::os::unix::fs::symlink(target, path.join("..data_tmp")).unwrap();
        fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
    };
    version("..v1", "1");
    swap("..v1");
    std::os::unix::fs::symlink("..data/n.yaml", path.join("n.yaml")).unwrap();
    assert_eq!(watched.until("+n=1").await, ["+n=1"]);
    version("..v2", "2");
    swap("..v2");
    assert_eq!(watched.until("+n=2").await, ["+n=2"]);
}

#[tokio::test]
async fn a_directory_that_does_not_exist_is_named() {
    let error = ManifestSource::open("/does/not/exist".into()).unwrap_err();
    let SourceError::Watch { path, .. } = &error else { panic!("{error}") };
    assert_eq!(Path::new(path), Path::new("/does/not/exist"));
}
