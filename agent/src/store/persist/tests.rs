// SPDX-License-Identifier: Apache-2.0
//! Tier 1: the file reads back, and everything that is not it is refused by name.

use proptest::prelude::*;

use super::*;

fn sample() -> Vec<Accepted> {
    let resource = |type_url: &str, name: &str, body: &'static [u8]| Accepted {
        type_url: type_url.into(),
        name: name.into(),
        version: Version::of(body).to_string().into(),
        body: Bytes::from_static(body),
    };
    vec![resource("t1", "demo/a", b"one"), resource("t1", "demo/b", b""), resource("t2", "c", b"two")]
}

#[test]
fn what_is_saved_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    // The folder of the file is created.
    let path = folder.path().join("state").join(FILE_NAME);
    assert_eq!(load(&path).unwrap(), []);
    save(&path, &sample()).unwrap();
    assert_eq!(load(&path).unwrap(), sample());
    save(&path, &sample()[..1]).unwrap();
    assert_eq!(load(&path).unwrap(), sample()[..1]);
    save(&path, &[]).unwrap();
    assert_eq!(load(&path).unwrap(), []);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside the file");
}

#[test]
fn each_kind_of_damage_is_named_with_the_file() {
    let good = encode(&sample());
    let header_end = good.iter().position(|b| *b == b'\n').unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut undecodable = vec![0xff; 12];
    let header = format!("{MAGIC} {FORMAT} {} {}\n", Version::of(&undecodable), undecodable.len());
    undecodable.splice(0..0, header.into_bytes());
    let cases: [(&[u8], &str); 8] = [
        (b"", "does not begin with a \"evenkeel-last-good\" line"),
        (b"{\"some\": \"json\"}\n", "does not begin with"),
        (&[0u8; 4096], "does not begin with"),
        (b"evenkeel-last-good 7 00 0\n", "has format \"7\"; this agent reads format \"1\""),
        (&good[..header_end + 1], "has 0 bytes of payload where its header says"),
        (&good[..good.len() - 1], "bytes of payload where its header says"),
        (&flipped, "does not match its checksum"),
        (&undecodable, "the payload cannot be decoded"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    for (bytes, expected) in cases {
        fs::write(&path, bytes).unwrap();
        let error = load(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("last-good file {}: ", path.display())), "{error}");
        assert!(error.contains(expected), "\n{error}\n{expected}");
    }
}

#[test]
fn a_refused_file_is_set_aside_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    for content in ["first", "second"] {
        fs::write(&path, content).unwrap();
        let aside = set_aside(&path).unwrap();
        assert!(!path.exists());
        assert_eq!(fs::read_to_string(&aside).unwrap(), content);
        assert_eq!(aside.file_name().unwrap(), "last-good.corrupt");
    }
}

#[test]
fn a_save_that_fails_leaves_the_old_file_and_names_what_failed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    save(&path, &sample()).unwrap();
    // A folder in the way of the temporary file fails for root too.
    fs::create_dir(with_suffix(&path, ".new")).unwrap();
    let error = save(&path, &[]).unwrap_err();
    assert_eq!((error.operation, error.path), ("create", with_suffix(&path, ".new")));
    assert_eq!(load(&path).unwrap(), sample());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_single_change_of_the_file_is_noticed(at: prop::sample::Index, value: u8) {
        let mut bytes = encode(&sample());
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != value);
        bytes[at] = value;
        prop_assert!(decode(Path::new("f"), &bytes).is_err());
    }

    #[test]
    fn no_bytes_make_the_loader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), header: bool) {
        let mut file = if header { format!("{MAGIC} {FORMAT} ").into_bytes() } else { Vec::new() };
        file.extend(bytes);
        let _ = decode(Path::new("f"), &file);
    }
}

#[test]
fn two_agents_that_share_the_folder_write_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    let versions: Vec<Vec<Accepted>> = vec![sample(), sample()[..1].to_vec()];
    std::thread::scope(|scope| {
        for resources in &versions {
            let path = &path;
            scope.spawn(move || (0..50).for_each(|_| save(path, resources).unwrap()));
        }
        for _ in 0..200 {
            let seen = load(&path).unwrap();
            assert!(seen.is_empty() || versions.contains(&seen), "{seen:?}");
        }
    });
    assert!(versions.contains(&load(&path).unwrap()));
}

#[test]
fn an_agent_that_hangs_while_it_writes_is_not_waited_for_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let _held = lock(folder.path()).unwrap();
    let error = save(&folder.path().join(FILE_NAME), &sample()).unwrap_err().to_string();
    assert!(error.contains("cannot lock the folder, in which another agent may be writing"), "{error}");
}

#[test]
fn forgetting_deletes_what_is_ours_and_leaves_what_is_not() {
    let top = tempfile::tempdir().unwrap();
    let folder = top.path().join("state");
    assert!(!forget(&folder).unwrap(), "nothing to forget");
    let path = folder.join(FILE_NAME);
    save(&path, &sample()).unwrap();
    set_aside(&path).unwrap();
    save(&path, &sample()).unwrap();
    assert!(forget(&folder).unwrap());
    assert!(!folder.exists());

    save(&path, &sample()).unwrap();
    fs::write(folder.join("notes"), "").unwrap();
    assert!(forget(&folder).unwrap());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}
