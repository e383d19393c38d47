// SPDX-License-Identifier: Apache-2.0
//! Tier 1: memory does go back. In one test, because that is read from the process as a whole.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

/// Resident memory of this process, in kB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn what_is_freed_goes_back_whatever_small_pieces_stay() {
    evenkeel_heap::keep_large_blocks_apart();
    small_blocks();
    large_blocks();
}

/// Each is followed by a small one that stays.
fn large_blocks() {
    // With its own way glibc would take the others from its heap after this one.
    drop(vec![1_u8; 1 << 20]);
    let before = resident();
    let blocks: Vec<_> = (0..100).map(|_| (vec![1_u8; 500_000], Box::new([1_u8; 100]))).collect();
    assert!(resident() > before + 40_000);
    let small: Vec<_> = blocks.into_iter().map(|(_, small)| small).collect();
    let after = resident();
    assert!(after < before + 5_000, "{before} kB before, {after} kB after");
    assert_eq!(small.len(), 100);
}

fn small_blocks() {
    let mut pieces: Vec<Box<[u8; 1000]>> = (0..50_000).map(|_| Box::new([1; 1000])).collect();
    pieces.drain(..49_900);
    let before = resident();
    assert!(evenkeel_heap::give_back());
    let after = resident();
    assert!(after + 40_000 < before, "{before} kB before, {after} kB after");
    assert_eq!(pieces.len(), 100);
}
