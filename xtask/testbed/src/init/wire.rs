// SPDX-License-Identifier: Apache-2.0
//! Messages between a node's creator and its init: JSON, one per packet of a `SOCK_SEQPACKET` pair, at most one
//! descriptor each.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longest message; a request's argument list is far below.
const MAX: usize = 128 * 1024;

/// What a creator asks. `id` is the creator's and comes back in the answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) id: u64,
    pub(crate) request: Request,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Start a process.
    Spawn(SpawnRequest),
    /// Make a network namespace and bind it to this path, as a container runtime does.
    AddNetns(PathBuf),
    /// Unmount and unlink it, as a CNI plugin's delete does.
    DeleteNetns(PathBuf),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SpawnRequest {
    /// Program and arguments.
    pub(crate) argv: Vec<String>,
    /// Added to init's own environment.
    pub(crate) env: Vec<(String, String)>,
    /// Network namespace, by its path in the node; the node's own if `None`.
    pub(crate) netns: Option<PathBuf>,
    /// Folder of the cgroup, as mounted in the node.
    pub(crate) cgroup: PathBuf,
    pub(crate) stdout: PathBuf,
    pub(crate) stderr: PathBuf,
}

/// What init says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The node is set up. Carries a pidfd of init.
    Ready,
    /// It could not be set up; init ends.
    Failed(String),
    /// `Spawn` succeeded. Carries a pidfd of the process.
    Spawned { id: u64 },
    /// Another request succeeded.
    Done { id: u64 },
    /// A request failed.
    Refused { id: u64, why: String },
    /// The process that call `id` spawned has ended.
    Exited { id: u64, code: Option<i32>, signal: Option<i32> },
}

/// Sends one message, with a descriptor if given.
pub(crate) fn send<T: Serialize>(socket: RawFd, message: &T, fd: Option<RawFd>) -> Result<()> {
    let bytes = serde_json::to_vec(message).context("encode a message")?;
    let fds: Vec<RawFd> = fd.into_iter().collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    sendmsg::<UnixAddr>(socket, &[IoSlice::new(&bytes)], control, MsgFlags::MSG_NOSIGNAL, None)
        .context("send to the other end of a node")?;
    Ok(())
}

/// Receives one message; `None` when the other end is gone.
pub(crate) fn receive<T: DeserializeOwned>(socket: RawFd) -> Result<Option<(T, Option<OwnedFd>)>> {
    let mut bytes = vec![0u8; MAX];
    let mut control = nix::cmsg_space!(RawFd);
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = loop {
        match recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut buffers, Some(&mut control), flags) {
            Err(nix::errno::Errno::EINTR) => {}
            Err(nix::errno::Errno::ECONNRESET) => return Ok(None),
            other => break other.context("receive from the other end of a node")?,
        }
    };
    let mut fd = None;
    for part in message.cmsgs().context("read a message's descriptors")? {
        if let ControlMessageOwned::ScmRights(fds) = part {
            for raw in fds {
                // SAFETY: the kernel has just installed this descriptor for us and nobody else knows it.
                fd = Some(unsafe { OwnedFd::from_raw_fd(raw) });
            }
        }
    }
    let length = message.bytes;
    if length == 0 {
        return Ok(None);
    }
    let value = serde_json::from_slice(&bytes[..length]).context("decode a message")?;
    Ok(Some((value, fd)))
}
