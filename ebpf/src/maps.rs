// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The maps, under the names and sizes of the ABI, and the few ways in which the programs read and change them.
//!
//! Always true: a value read from a hash is copied at once and never kept as a reference, because the kernel may
//! reuse an element that was replaced.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf, SockHash};
use evenkeel_abi::{
    Backend, Control, Counter, ListenerKey, Origin, OriginKey, PodAddresses, Process, Service, ServiceKey,
    Slot, SocketState, maps as abi,
};

#[map]
static SERVICES: HashMap<ServiceKey, Service> =
    HashMap::with_max_entries(abi::SERVICES_LEN, BPF_F_NO_PREALLOC);
#[map]
static SLOTS: Array<Slot> = Array::with_max_entries(abi::SLOTS_LEN, 0);
#[map]
static BACKENDS: Array<Backend> = Array::with_max_entries(abi::BACKENDS_LEN, 0);
#[map]
static LOADS: Array<u64> = Array::with_max_entries(abi::BACKENDS_LEN, BPF_F_MMAPABLE);
#[map]
static CONTROL: Array<u64> = Array::with_max_entries(Control::LEN, 0);
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::LEN, 0);
#[map]
pub static LISTENERS: SockHash<ListenerKey> = SockHash::with_max_entries(abi::LISTENERS_LEN, 0);
#[map]
static PODS: HashMap<u64, PodAddresses> = HashMap::with_max_entries(abi::PODS_LEN, BPF_F_NO_PREALLOC);
#[map]
static ORIGINS: LruHashMap<OriginKey, Origin> = LruHashMap::with_max_entries(abi::ORIGINS_LEN, 0);
#[map]
pub static REPORTED: LruHashMap<u64, u64> = LruHashMap::with_max_entries(abi::REPORTED_LEN, 0);
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(abi::EVENTS_BYTES, 0);
#[map]
static PROCESS: Array<Process> = Array::with_max_entries(1, 0);
#[btf_map]
pub static SOCKETS: SkStorage<SocketState> = SkStorage::new();

/// The Service port at `key`. An address that is not opted in costs exactly one lookup.
///
/// A hit is looked up twice. An element that the agent replaces or removes goes back to the kernel's allocator at
/// once and may become another Service's while this program reads it; a copy that is still under the same key
/// afterwards was read whole and is ours. Otherwise the caller leaves the connect alone.
#[inline(always)]
pub fn service(key: &ServiceKey) -> Lookup {
    // SAFETY: copied at once, and trusted only after the second lookup.
    let Some(first) = (unsafe { SERVICES.get(key) }).copied() else { return Lookup::Miss };
    // SAFETY: as above.
    match unsafe { SERVICES.get(key) } {
        Some(second) if *second == first => Lookup::Hit(first),
        _ => Lookup::Changing,
    }
}

/// What [`service`] found.
pub enum Lookup {
    /// Not opted in.
    Miss,
    /// Opted in.
    Hit(Service),
    /// The agent replaced the entry at this very moment.
    Changing,
}

/// The slot at an absolute index.
#[inline(always)]
pub fn slot(index: u32) -> Option<Slot> {
    SLOTS.get(index).copied()
}

/// The backend at `index`, unless the index is free.
#[inline(always)]
pub fn backend(index: u32) -> Option<Backend> {
    BACKENDS.get(index).copied().filter(|backend| !backend.address.is_none())
}

/// Open sockets of a backend.
#[inline(always)]
pub fn load(index: u32) -> Option<u64> {
    // A plain read: another CPU may change it meanwhile, and the choice needs no exact number.
    LOADS.get(index).copied()
}

/// Adds `by` to the open sockets of a backend, atomically.
#[inline(always)]
pub fn add_load(index: u32, by: i64) {
    if let Some(cell) = LOADS.get_ptr_mut(index) {
        // SAFETY: `cell` is an aligned u64 of the array, checked by the lookup; the instruction is atomic.
        unsafe {
            core::arch::asm!("lock *(u64 *)({p} + 0) += {v}", p = in(reg) cell, v = in(reg) by);
        }
    }
}

/// One of the numbers by which the agent steers.
#[inline(always)]
pub fn control(which: Control) -> u64 {
    CONTROL.get(which as u32).copied().unwrap_or(0)
}

/// The agent that loaded this program.
#[inline(always)]
pub fn process() -> Option<Process> {
    PROCESS.get(0).copied()
}

/// Writes that the agent of `generation` has died, if it owns the node.
#[inline(always)]
pub fn depart(generation: u64) {
    if control(Control::Generation) == generation
        && let Some(cell) = CONTROL.get_ptr_mut(Control::Departed as u32)
    {
        // SAFETY: an aligned u64 of the array, checked by the lookup; one store.
        unsafe { cell.write_volatile(generation) }
    }
}

/// The addresses of the pod that owns a namespace.
#[inline(always)]
pub fn pod(netns_cookie: u64) -> Option<PodAddresses> {
    // SAFETY: copied at once. A copy that turned into another pod's could only misname a socket whose own pod was
    // removed in the same instant.
    unsafe { PODS.get(netns_cookie) }.copied()
}

/// Records where a handed-over connection wanted to go.
#[inline(always)]
pub fn record_origin(key: &OriginKey, origin: &Origin) -> bool {
    ORIGINS.insert(key, origin, 0).is_ok()
}
