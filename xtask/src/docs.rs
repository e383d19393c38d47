// SPDX-License-Identifier: Apache-2.0
//! What the documents at the root promise about the tree: links lead to files, and tests that they name exist.

use std::fs;
use std::path::{Path, PathBuf};

const DOCUMENTS: [&str; 5] =
    ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the workspace").to_owned()
}

/// Text and target of each inline link.
fn links(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.match_indices("](").filter_map(|(at, _)| {
        let shown = text[..at].rsplit_once('[')?.1;
        let (target, _) = text[at + 2..].split_once(')')?;
        Some((shown, target))
    })
}

#[test]
fn links_lead_to_files_and_named_tests_exist() {
    let mut tests = 0;
    for document in DOCUMENTS {
        let text = fs::read_to_string(root().join(document)).expect(document);
        for (shown, target) in links(&text).filter(|(_, target)| !target.contains("://")) {
            let path = root().join(target.split('#').next().unwrap_or_default());
            assert!(path.exists(), "{document}: [{shown}]({target}) leads nowhere");
            let Some(test) = shown.strip_prefix('`').and_then(|name| name.strip_suffix('`')) else {
                continue;
            };
            if target.ends_with(".rs") && !test.contains(['/', '.']) {
                let source = fs::read_to_string(&path).expect(target);
                assert!(source.contains(&format!("fn {test}(")), "{document}: {target} has no test {test}");
                tests += 1;
            }
        }
    }
    assert!(tests > 25, "the invariants name {tests} tests only");
}

#[test]
fn a_link_is_taken_apart() {
    let found: Vec<_> = links("see [`a`](b.rs), [c](d.md#e) and [f] (g)").collect();
    assert_eq!(found, [("`a`", "b.rs"), ("c", "d.md#e")]);
}
