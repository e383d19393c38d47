// SPDX-License-Identifier: Apache-2.0
//! Network namespaces: opening, entering and leaving them, and their cookies.
//!
//! Sockets belong to the namespace they were made in, not to the thread that uses them; so a namespace is entered only for
//! the system calls that make a socket or read addresses (2 to 7 µs), without an `await` between. [`Inside`] brings the
//! thread back when dropped, also by a panic; where that fails the process aborts, because every later socket of this thread
//! would be made in a stranger's namespace.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
    sync::Arc,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::statfs::{NSFS_MAGIC, fstatfs},
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};

use crate::proxy::Sockets;

/// `SO_NETNS_COOKIE` (Linux 5.14), the same number on all architectures that have eBPF but SPARC and PA-RISC.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The namespace the agent itself runs in.
#[derive(Clone, Debug)]
pub struct HostNamespace {
    file: Arc<File>,
    cookie: u64,
}

impl HostNamespace {
    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// `/proc` is not mounted, or the kernel is older than 5.14.
    pub fn current() -> io::Result<Self> {
        let file = Arc::new(File::open("/proc/thread-self/ns/net")?);
        let probe = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), Some(Protocol::TCP))?;
        Ok(Self { file, cookie: netns_cookie(&probe)? })
    }

    /// Its cookie.
    #[must_use]
    pub const fn cookie(&self) -> u64 {
        self.cookie
    }
}

/// A pod's namespace. Holding it keeps the namespace alive.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    host: HostNamespace,
    cookie: u64,
}

impl Namespace {
    /// Opens a namespace file. `None` when the file is there but is no namespace (yet): it is made before the namespace is
    /// mounted onto it.
    ///
    /// # Errors
    /// The file cannot be opened, or its namespace cannot be entered (no `CAP_SYS_ADMIN`).
    pub fn open(path: &Path, host: &HostNamespace) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        if fstatfs(&file)?.filesystem_type() != NSFS_MAGIC {
            return Ok(None);
        }
        let mut namespace = Self { file, host: host.clone(), cookie: 0 };
        let probe = namespace.stream(Domain::IPV4)?;
        namespace.cookie = netns_cookie(&probe)?;
        Ok(Some(namespace))
    }

    /// Its cookie: a number that the kernel never uses twice while it runs.
    #[must_use]
    pub const fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Runs `work` in the namespace, on this thread.
    ///
    /// # Errors
    /// Entering failed, or what `work` says.
    pub fn inside<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let _inside = Inside::enter(&self.file, &self.host.file)?;
        work()
    }
}

impl Sockets for Namespace {
    fn stream(&self, domain: Domain) -> io::Result<Socket> {
        self.inside(|| Socket::new(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP)))
    }
}

/// A shared namespace makes sockets too, so that the pod's task and the proxy hold the same one.
impl Sockets for Arc<Namespace> {
    fn stream(&self, domain: Domain) -> io::Result<Socket> {
        self.as_ref().stream(domain)
    }
}

/// This thread is in another namespace until this is dropped.
struct Inside<'a> {
    home: &'a File,
}

impl<'a> Inside<'a> {
    fn enter(namespace: &File, home: &'a File) -> io::Result<Self> {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        Ok(Self { home })
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if let Err(error) = setns(self.home, CloneFlags::CLONE_NEWNET) {
            tracing::error!(%error, "cannot return to the agent's own network namespace");
            std::process::abort();
        }
    }
}

/// Cookie of the namespace a socket belongs to.
///
/// # Errors
/// The kernel is older than 5.14.
pub fn netns_cookie(socket: &impl AsFd) -> io::Result<u64> {
    let (mut cookie, mut length) = (0u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: `cookie` and `length` outlive the call, and `length` is the size of `cookie`; the descriptor is borrowed, so
    // open for the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// A descriptor that becomes readable when the process ends.
///
/// # Errors
/// There is no such process.
pub(super) fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just returned this descriptor, close-on-exec, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// Lets a descriptor be awaited.
pub(super) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by what is registered, which neither replaces it nor closes it while it is registered.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}
