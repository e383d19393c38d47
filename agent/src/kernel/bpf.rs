// SPDX-License-Identifier: Apache-2.0
//! The few bpf(2) commands that aya 0.14 does not offer: uniform cgroup links (its `sockops` has none that can be
//! pinned and swapped), pins of them, and batches on arrays.
//!
//! Always true: each attribute struct is `repr(C)`, zeroed where unused and as long as the part of the kernel's union
//! that it stands for; the kernel takes a shorter attribute as zeros.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    path::Path,
};

const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;

/// Where a program hooks into a cgroup; values of the kernel's `bpf_attach_type`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttachType {
    SockOps = 3,
    Connect4 = 10,
    Connect6 = 11,
    GetPeerName4 = 29,
    GetPeerName6 = 30,
    GetSockName4 = 31,
    GetSockName6 = 32,
    SockRelease = 34,
}

/// Calls bpf(2).
///
/// # Safety
/// `attribute` is the part of `bpf_attr` that `command` reads, and every pointer in it is valid for what the command
/// does with it.
unsafe fn call<T>(command: libc::c_long, attribute: &mut T) -> io::Result<i32> {
    // SAFETY: the pointer and the length describe `attribute`; the rest is promised by the caller.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), std::mem::size_of::<T>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn raw(fd: impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd() as u32
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}

#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Opens what is pinned at `path`.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attribute = Object { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: `path` is a C string that outlives the call.
    let fd = unsafe { call(BPF_OBJ_GET, &mut attribute)? };
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pins `fd` at `path`.
pub(super) fn pin(fd: impl AsFd, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attribute = Object { path: path.as_ptr() as u64, fd: raw(fd), flags: 0 };
    // SAFETY: `path` is a C string that outlives the call.
    unsafe { call(BPF_OBJ_PIN, &mut attribute) }.map(drop)
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches `program` to `cgroup`, beside whatever else is attached there.
pub(super) fn link_create(program: impl AsFd, cgroup: impl AsFd, at: AttachType) -> io::Result<OwnedFd> {
    let mut attribute =
        LinkCreate { program: raw(program), target: raw(cgroup), attach_type: at as u32, flags: 0 };
    // SAFETY: no pointers.
    let fd = unsafe { call(BPF_LINK_CREATE, &mut attribute)? };
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// Swaps the program behind a link: each call runs the old one or the new one.
pub(super) fn link_update(link: impl AsFd, program: impl AsFd) -> io::Result<()> {
    let mut attribute = LinkUpdate { link: raw(link), program: raw(program), flags: 0, old_program: 0 };
    // SAFETY: no pointers.
    unsafe { call(BPF_LINK_UPDATE, &mut attribute) }.map(drop)
}

/// Detaches a link for good, whoever else holds it.
pub(super) fn link_detach(link: impl AsFd) -> io::Result<()> {
    let mut attribute = raw(link);
    // SAFETY: no pointers; the attribute is one u32.
    unsafe { call(BPF_LINK_DETACH, &mut attribute) }.map(drop)
}

#[repr(C)]
struct GetInfo {
    fd: u32,
    length: u32,
    info: u64,
}

/// Start of the kernel's `bpf_link_info`, with its cgroup part.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    reserved: u32,
    cgroup: u64,
    attach_type: u32,
    reserved2: u32,
}

/// Id of the cgroup that a link is attached to; 0 when that is gone.
pub(super) fn link_cgroup(link: impl AsFd) -> io::Result<u64> {
    let mut info = LinkInfo::default();
    let mut attribute = GetInfo {
        fd: raw(link),
        length: std::mem::size_of::<LinkInfo>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    // SAFETY: `info` outlives the call and is as long as `length` says.
    unsafe { call(BPF_OBJ_GET_INFO_BY_FD, &mut attribute)? };
    Ok(info.cgroup)
}

#[repr(C)]
#[derive(Default)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Writes `values` to consecutive indices of an array, in order.
pub(super) fn array_write<V: aya::Pod>(map: BorrowedFd<'_>, first: u32, values: &[V]) -> io::Result<()> {
    let keys: Vec<u32> = (first..).take(values.len()).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let mut attribute = Batch {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: keys.len() as u32,
        map: raw(map),
        ..Batch::default()
    };
    // SAFETY: `keys` and `values` hold `count` elements and outlive the call; `Pod` promises that values are bytes.
    unsafe { call(BPF_MAP_UPDATE_BATCH, &mut attribute) }.map(drop)
}

/// Elements that one batch reads.
const READ_AT_ONCE: u32 = 16_384;

/// Reads a whole array.
pub(super) fn array_read<V: aya::Pod + Default>(map: BorrowedFd<'_>, length: u32) -> io::Result<Vec<V>> {
    let mut all = vec![V::default(); length as usize];
    let mut keys = vec![0u32; READ_AT_ONCE as usize];
    let (mut done, mut position) = (0u32, 0u32);
    while done < length {
        let mut attribute = Batch {
            in_batch: if done == 0 { 0 } else { std::ptr::from_mut(&mut position) as u64 },
            out_batch: std::ptr::from_mut(&mut position) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: all[done as usize..].as_mut_ptr() as u64,
            count: READ_AT_ONCE.min(length - done),
            map: raw(map),
            ..Batch::default()
        };
        // SAFETY: `keys` and the rest of `all` have room for `count` elements; `Pod` promises that any bytes are values.
        let result = unsafe { call(BPF_MAP_LOOKUP_BATCH, &mut attribute) };
        done += attribute.count;
        match result {
            Ok(_) if attribute.count > 0 => {}
            // The end of the map.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
            Ok(_) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}
