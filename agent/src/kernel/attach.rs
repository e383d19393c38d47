// SPDX-License-Identifier: Apache-2.0
//! Attaches the programs with links that are pinned, swaps programs behind links that are pinned already, and takes
//! everything away.
//!
//! Always true: whatever `connect` relies on is there before `connect` is, and goes after it. Other programs on the
//! cgroup are never touched.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use aya::{Ebpf, programs::Program};
use evenkeel_abi::programs;

use super::{KernelError, bpf, bpf::AttachType, loader};

/// Every program with its hook, in the order in which they are attached.
const ORDER: [(&str, AttachType); 8] = [
    (programs::SOCKOPS, AttachType::SockOps),
    (programs::SOCK_RELEASE, AttachType::SockRelease),
    (programs::GETPEERNAME4, AttachType::GetPeerName4),
    (programs::GETPEERNAME6, AttachType::GetPeerName6),
    (programs::GETSOCKNAME4, AttachType::GetSockName4),
    (programs::GETSOCKNAME6, AttachType::GetSockName6),
    (programs::CONNECT4, AttachType::Connect4),
    (programs::CONNECT6, AttachType::Connect6),
];

/// Where the link of a program is pinned.
fn pin_of(pins: &Path, program: &str) -> PathBuf {
    pins.join(format!("link-{program}"))
}

/// Loads every program into the kernel, then attaches all of them to `cgroup`. When the kernel refuses one, nothing has
/// been attached or swapped.
pub(super) fn attach(object: &mut Ebpf, cgroup: &Path, pins: &Path) -> Result<(), KernelError> {
    for (name, _) in ORDER {
        load(object, name)?;
    }
    let folder = fs::File::open(cgroup).map_err(|source| KernelError::File {
        operation: "open cgroup",
        path: cgroup.to_owned(),
        source,
    })?;
    let id = folder
        .metadata()
        .map_err(|source| KernelError::File { operation: "inspect cgroup", path: cgroup.to_owned(), source })?
        .ino();
    for (name, at) in ORDER {
        let program = object.program(name).ok_or(KernelError::Lacks { what: "program", name })?;
        let fd = program.fd().map_err(|source| KernelError::Program { program: name, source })?;
        one(name, at, fd.as_fd(), (folder.as_fd(), id), &pin_of(pins, name))?;
    }
    Ok(())
}

fn load(object: &mut Ebpf, name: &'static str) -> Result<(), KernelError> {
    let program = object.program_mut(name).ok_or(KernelError::Lacks { what: "program", name })?;
    match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::SockOps(program) => program.load(),
        _ => return Err(KernelError::Lacks { what: "program", name }),
    }
    .map_err(|source| KernelError::Program { program: name, source })
}

/// Swaps the program behind the pinned link, or attaches it anew where there is no link that is still on this cgroup.
fn one(
    name: &str,
    at: AttachType,
    program: BorrowedFd<'_>,
    (cgroup, id): (BorrowedFd<'_>, u64),
    pin: &Path,
) -> Result<(), KernelError> {
    let failed =
        |operation| move |source| KernelError::Bpf { operation, object: format!("program {name}"), source };
    if let Some(link) = loader::open(pin)? {
        let here = bpf::link_cgroup(&link).map_err(failed("inspect the link of"))? == id;
        if here && bpf::link_update(&link, program).is_ok() {
            return Ok(());
        }
        // Its cgroup is gone or is not ours any more. It goes first: two copies would return each other's counts.
        release(link, name)?;
        loader::remove(pin.to_owned())?;
    }
    let link = bpf::link_create(program, cgroup, at).map_err(failed("attach"))?;
    bpf::pin(&link, pin).map_err(failed("pin the link of"))
}

/// Detaches a link; one whose cgroup is gone is detached already.
fn release(link: OwnedFd, name: &str) -> Result<(), KernelError> {
    match bpf::link_detach(&link) {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(()),
        Err(source) => {
            Err(KernelError::Bpf { operation: "detach", object: format!("program {name}"), source })
        }
    }
}

/// Detaches all programs, `connect` first, and removes all pins and their folder. Returns what was there. What is not ours
/// is left, and with it the folder.
pub fn detach(pins: &Path) -> Result<Vec<String>, KernelError> {
    let mut removed = Vec::new();
    for (name, _) in ORDER.into_iter().rev() {
        let pin = pin_of(pins, name);
        if let Some(link) = loader::open(&pin)? {
            release(link, name)?;
            loader::remove(pin)?;
            removed.push(format!("link-{name}"));
        }
    }
    removed.extend(loader::unpin_maps(pins)?);
    match fs::remove_dir(pins) {
        Ok(()) => Ok(removed),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(removed),
        Err(source) => {
            Err(KernelError::File { operation: "remove the pins' folder", path: pins.to_owned(), source })
        }
    }
}
