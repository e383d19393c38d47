// SPDX-License-Identifier: Apache-2.0
//! That sets hold what they are given, and that equal ones hold it together.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::*;

fn add(set: &mut NameSet, names: &[&str]) {
    let names: BTreeSet<&str> = names.iter().copied().collect();
    set.add(&names.into_iter().collect::<Vec<_>>(), |name| name.into());
}

fn set(names: &[&str]) -> NameSet {
    let mut set = NameSet::default();
    add(&mut set, names);
    set
}

fn list(set: &NameSet) -> Vec<&str> {
    set.iter().map(|name| &**name).collect()
}

fn many(range: Range<usize>) -> Vec<String> {
    range.map(|number| format!("name-{number:04}")).collect()
}

fn grow(set: &mut NameSet, range: Range<usize>) {
    let names = many(range);
    set.add(&names.iter().map(String::as_str).collect::<Vec<_>>(), |name| name.into());
}

/// Whether two sets are one list in memory.
fn share(one: &NameSet, other: &NameSet) -> bool {
    matches!((&one.list, &other.list), (Some(one), Some(other)) if Arc::ptr_eq(one, other))
}

#[test]
fn names_are_held_once_and_in_order() {
    let mut set = set(&["b", "a", "c", "a"]);
    add(&mut set, &["aa", "b", "d", ""]);
    assert_eq!(list(&set), ["", "a", "aa", "b", "c", "d"]);
    assert!(set.contains("b") && !set.contains("bb"));
    assert_eq!((set.get("c").map(|name| &**name), set.get("cc")), (Some("c"), None));
    assert_eq!(set.len(), 6);
}

#[test]
fn what_is_removed_is_returned_and_phantoms_are_not() {
    let mut names = set(&["a", "b", "c", "d"]);
    let gone = names.remove_all(["d", "zz", "b", "b"]);
    assert_eq!(gone.iter().map(|name| &**name).collect::<Vec<_>>(), ["b", "d"]);
    let gone = names.keep_only(&["0".into(), "c".into()]);
    assert_eq!(gone.iter().map(|name| &**name).collect::<Vec<_>>(), ["a"]);
    assert_eq!(list(&names), ["c"]);
    assert!(names.remove_all(["c"]).len() == 1 && names.list.is_none());
}

#[test]
fn a_fingerprint_ignores_order_and_notices_everything_else() {
    let names = set(&["a", "b", "c"]);
    assert_eq!(names.fingerprint(), fingerprint(["c", "a", "b"]));
    for other in [&["a", "b"][..], &["a", "b", "d"], &["a", "b", "c", "c"], &[]] {
        assert_ne!(names.fingerprint(), fingerprint(other.iter().copied()));
    }
}

#[test]
fn sets_of_one_pool_that_come_to_the_same_names_are_one_list() {
    let pool = NamePool::default();
    let [mut one, mut other] = [(); 2].map(|()| NameSet::new(pool.clone()));
    for step in 0..4 {
        grow(&mut one, step * 100..step * 100 + 100);
        grow(&mut other, step * 100..step * 100 + 100);
        assert!(share(&one, &other), "after step {step}");
    }
    // On another way, too.
    let mut third = NameSet::new(pool);
    grow(&mut third, 50..500);
    grow(&mut third, 0..60);
    assert!(!share(&one, &third));
    third.remove_all(many(400..500).iter().map(String::as_str));
    assert!(share(&one, &third));
    one.keep_only(&many(20..40));
    assert_eq!((one.len(), other.len()), (20, 400), "a shared list does not change");
}

#[test]
fn other_pools_and_few_names_share_nothing() {
    let [mut one, mut other] = [(); 2].map(|()| NameSet::default());
    grow(&mut one, 0..100);
    grow(&mut other, 0..100);
    assert!(!share(&one, &other));
    let pool = NamePool::default();
    let [mut one, mut other] = [(); 2].map(|()| NameSet::new(pool.clone()));
    grow(&mut one, 0..WORTH_SHARING - 1);
    grow(&mut other, 0..WORTH_SHARING - 1);
    assert!(!share(&one, &other));
}

#[test]
fn a_list_that_only_has_the_same_fingerprint_is_not_taken() {
    let pool = NamePool::default();
    let names = many(0..100);
    let honest = fingerprint(names.iter().map(String::as_str));
    for forged in [many(1..101), many(0..99), many(0..101), Vec::new()] {
        let forged = forged.into_iter().map(Arc::from).collect();
        let forged = Arc::new(List::new(forged, honest));
        pool.publish(&forged);
        let [mut one, mut other] = [(); 2].map(|()| NameSet::new(pool.clone()));
        grow(&mut one, 0..100);
        grow(&mut other, 0..100);
        assert_eq!(list(&one), names);
        assert!(share(&one, &other), "the forged list is out of the way");
    }
}

proptest! {
    #[test]
    fn a_set_is_a_set_whoever_else_is_in_its_pool(
        steps in vec((0..3usize, 0..3u8, vec(0..40usize, 0..30)), 0..30),
    ) {
        let pool = NamePool::default();
        let mut sets = [(); 3].map(|()| NameSet::new(pool.clone()));
        let mut models: [BTreeSet<String>; 3] = Default::default();
        for (index, kind, numbers) in steps {
            let (set, model) = (&mut sets[index], &mut models[index]);
            let names: BTreeSet<String> = numbers.into_iter().flat_map(|n| many(n..n + 1)).collect();
            let sorted: Vec<&str> = names.iter().map(String::as_str).collect();
            match kind {
                0 => {
                    set.add(&sorted, |name| name.into());
                    model.extend(names);
                }
                1 => {
                    let gone = set.remove_all(sorted.into_iter().rev());
                    let expected: Vec<_> = model.intersection(&names).map(String::as_str).collect();
                    prop_assert_eq!(gone.iter().map(|name| &**name).collect::<Vec<_>>(), expected);
                    model.retain(|name| !names.contains(name));
                }
                _ => {
                    let gone = set.keep_only(&names.iter().cloned().collect::<Vec<_>>());
                    let expected: Vec<_> = model.difference(&names).map(String::as_str).collect();
                    prop_assert_eq!(gone.iter().map(|name| &**name).collect::<Vec<_>>(), expected);
                    model.retain(|name| names.contains(name));
                }
            }
            for (set, model) in sets.iter().zip(&models) {
                prop_assert_eq!(list(set), model.iter().map(String::as_str).collect::<Vec<_>>());
                prop_assert_eq!(set.fingerprint(), fingerprint(model.iter().map(String::as_str)));
            }
            for (one, other) in [(0, 1), (1, 2)] {
                let equal = models[one] == models[other] && models[one].len() >= WORTH_SHARING;
                prop_assert_eq!(share(&sets[one], &sets[other]), equal);
            }
        }
    }
}

proptest! {
    #[test]
    fn a_name_that_is_looked_for_again_is_found_if_it_is_there(
        held in vec("[a-c]{1,2}", 0..9), looks in vec(("[a-d]{1,2}", any::<bool>()), 0..40),
    ) {
        let names = set(&held.iter().map(String::as_str).collect::<Vec<_>>());
        for (name, own) in looks {
            // As a client's list has it, or as somebody else wrote it.
            let copy = own.then(|| names.get(&name)).flatten().cloned();
            let name = copy.unwrap_or_else(|| name.into());
            prop_assert_eq!(names.contains_again(&name), names.contains(&name), "{}", name);
        }
    }
}
