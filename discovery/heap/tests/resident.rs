// SPDX-License-Identifier: Apache-2.0
//! Tier 1: memory does go back. Alone in its process, because that is read from the process as a whole.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

/// Resident memory of this process, in kB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn what_a_few_small_pieces_at_the_end_hold_back_goes_back() {
    let mut pieces: Vec<Box<[u8; 1000]>> = (0..50_000).map(|_| Box::new([1; 1000])).collect();
    pieces.drain(..49_900);
    let before = resident();
    assert!(evenkeel_heap::give_back());
    let after = resident();
    assert!(after + 40_000 < before, "{before} kB before, {after} kB after");
    assert_eq!(pieces.len(), 100);
}
