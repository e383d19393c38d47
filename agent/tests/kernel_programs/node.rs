// SPDX-License-Identifier: Apache-2.0
//! A node in small: a cgroup, a BPF filesystem and a network namespace of its own, and sockets that belong to them.
//!
//! The hooks run for the cgroup and the namespace in which a socket was **made**, so a child process that lives there makes
//! the sockets and passes them to the test, which does everything else with them. Everything goes with the test: the child
//! dies with its parent, the mount with the thread's mount namespace, the cgroup in `Drop`.

use std::{
    fs,
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, SocketAddr, TcpListener},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use evenkeel_agent::{
    clock,
    kernel::{self, Config, Image, Kernel, ServiceImage, Weighted},
};
use nix::{
    cmsg_space,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
    sys::wait::waitpid,
    unistd::{ForkResult, Pid, fork},
};
use socket2::{Domain, Socket, Type};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// See the module.
pub(crate) struct Node {
    pub(crate) pins: PathBuf,
    cgroup: PathBuf,
    factory: UnixStream,
    child: Pid,
    _dir: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Node {
    pub(crate) fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests load kernel programs: run them as root");
        let dir = tempfile::tempdir().unwrap();
        let bpffs = dir.path().join("bpf");
        fs::create_dir(&bpffs).unwrap();
        // This thread's alone: other tests go on in theirs, and it ends with the thread.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("bpf"), &bpffs, Some("bpf"), MsFlags::empty(), none).unwrap();
        let root = kernel::cgroup::find(None, Path::new("/proc/self/mountinfo")).unwrap();
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let cgroup = root.join(format!("evenkeel-test-{}-{id}", std::process::id()));
        fs::create_dir(&cgroup).unwrap();
        let (factory, far) = UnixStream::pair().unwrap();
        let procs = cgroup.join("cgroup.procs");
        // SAFETY: the child only makes system calls and leaves with `_exit`.
        let child = match unsafe { fork() }.unwrap() {
            ForkResult::Child => make_sockets(&procs, &far),
            ForkResult::Parent { child } => child,
        };
        drop(far);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { pins: bpffs.join("evenkeel"), cgroup, factory, child, _dir: dir, _runtime: runtime }
    }

    pub(crate) fn config(&self) -> Config {
        Config { cgroup: Some(self.cgroup.clone()), ..Config::new(&self.pins) }
    }

    /// Opens the kernel as an agent that starts.
    pub(crate) fn open(&self) -> Kernel {
        self.try_open(&self.config()).unwrap()
    }

    pub(crate) fn try_open(&self, config: &Config) -> Result<Kernel, kernel::KernelError> {
        let _inside = self._runtime.enter();
        Kernel::open(config)
    }

    /// Runs a future on the node's runtime.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self._runtime.block_on(future)
    }

    /// Opens and claims, as an agent that is up.
    pub(crate) fn up(&self) -> Kernel {
        let kernel = self.open();
        let generation = kernel.heartbeat.next_generation().unwrap();
        kernel.heartbeat.claim(generation).unwrap();
        kernel
    }

    /// A TCP socket that was made inside.
    pub(crate) fn socket(&self, domain: Domain) -> Socket {
        let request = [u8::from(domain == Domain::IPV6)];
        sendmsg::<()>(self.factory.as_raw_fd(), &[IoSlice::new(&request)], &[], MsgFlags::empty(), None)
            .unwrap();
        let (mut byte, mut space) = ([0u8; 1], cmsg_space!([i32; 1]));
        let mut iov = [IoSliceMut::new(&mut byte)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(self.factory.as_raw_fd(), &mut iov, Some(&mut space), flags).unwrap();
        let fd = message.cmsgs().unwrap().find_map(|c| match c {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        let fd = fd.expect("the child could not make a socket");
        // SAFETY: received just now, nobody else has it.
        Socket::from(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// A socket for an address's family.
    pub(crate) fn socket_for(&self, address: SocketAddr) -> Socket {
        self.socket(Domain::for_address(address))
    }

    /// Connects a new socket.
    pub(crate) fn connect(&self, to: &str) -> io::Result<Socket> {
        let to: SocketAddr = to.parse().unwrap();
        let socket = self.socket_for(to);
        socket.connect(&to.into())?;
        Ok(socket)
    }

    /// Listens inside.
    pub(crate) fn listen(&self, on: &str) -> TcpListener {
        let on: SocketAddr = on.parse().unwrap();
        let socket = self.socket_for(on);
        socket.bind(&on.into()).unwrap();
        socket.listen(1024).unwrap();
        socket.into()
    }

    /// Cookie of the node's network namespace.
    pub(crate) fn cookie(&self) -> u64 {
        const SO_NETNS_COOKIE: i32 = 71;
        let socket = self.socket(Domain::IPV4);
        let (mut cookie, mut length) = (0u64, 8u32);
        // SAFETY: the option writes at most `length` bytes to `cookie`.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_NETNS_COOKIE,
                std::ptr::from_mut(&mut cookie).cast(),
                &mut length,
            )
        };
        assert_eq!(result, 0);
        cookie
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = kernel::detach(&self.pins);
        let _ = self.factory.shutdown(std::net::Shutdown::Both);
        let _ = waitpid(self.child, None);
        // The kernel takes an instant to see the last process go.
        let until = Instant::now() + Duration::from_secs(2);
        while fs::remove_dir(&self.cgroup).is_err() && Instant::now() < until {
            std::thread::yield_now();
        }
    }
}

/// The child: moves in, then answers each byte with a socket.
fn make_sockets(procs: &Path, far: &UnixStream) -> ! {
    let served = serve(procs, far);
    // SAFETY: no destructors of the parent's may run in this copy of it.
    unsafe { libc::_exit(i32::from(served.is_err())) }
}

fn serve(procs: &Path, far: &UnixStream) -> io::Result<()> {
    let keep = far.as_raw_fd() as libc::c_uint;
    // SAFETY: plain system calls. The descriptors of other tests, copied by the fork, would keep their sockets open.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::close_range(3, keep - 1, 0);
        libc::close_range(keep + 1, libc::c_uint::MAX, 0);
    }
    fs::write(procs, "0")?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    loopback_up()?;
    loop {
        let mut byte = [0u8; 1];
        let mut iov = [IoSliceMut::new(&mut byte)];
        if recvmsg::<()>(far.as_raw_fd(), &mut iov, None, MsgFlags::empty())?.bytes == 0 {
            return Ok(());
        }
        let domain = if byte[0] == 0 { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        let fds = [socket.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(far.as_raw_fd(), &[IoSlice::new(&[0])], &rights, MsgFlags::empty(), None)?;
    }
}

fn loopback_up() -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: all zero is a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request outlives the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// What is dialled, flags, endpoints with weights.
pub(crate) type Port<'a> = (&'a str, u32, &'a [(&'a str, u32)]);

/// An image of these ports.
pub(crate) fn image(ports: &[Port<'_>]) -> Image {
    let mut image = Image::default();
    for (dialled, flags, endpoints) in ports {
        let dialled: SocketAddr = dialled.parse().unwrap();
        let key = evenkeel_abi::ServiceKey::new(dialled.ip().into(), dialled.port(), TCP);
        let weighted = |(address, weight): &(&str, u32)| Weighted {
            backend: kernel::backend(address.parse().unwrap(), TCP),
            weight: *weight,
        };
        image.services.insert(key, ServiceImage::new(*flags, endpoints.iter().map(weighted).collect()));
    }
    image
}

pub(crate) const TCP: u8 = evenkeel_abi::PROTOCOL_TCP;

/// Publishes and expects it to go in whole.
pub(crate) fn publish(kernel: &mut Kernel, image: Image) -> kernel::Report {
    let report = kernel.writer.publish_image(image, now());
    assert!(report.errors.is_empty() && !report.superseded, "{report:?}");
    report
}

pub(crate) fn now() -> Duration {
    Duration::from_nanos(clock::monotonic_ns())
}

/// A counter by its name.
pub(crate) fn count(kernel: &Kernel, name: &str) -> u64 {
    kernel.counters.read().unwrap().into_iter().find(|(_, n, _)| *n == name).unwrap().2
}

/// Waits until something holds. A socket is closed with its last descriptor, and a child that another test is just forking
/// has a copy of ours for an instant.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < until, "never happened: {what}");
        std::thread::yield_now();
    }
}

/// Open sockets counted on an address.
pub(crate) fn load(kernel: &Kernel, address: &str) -> u64 {
    kernel.loads.get(address.parse().unwrap(), TCP).unwrap()
}

pub(crate) fn peer(socket: &Socket) -> SocketAddr {
    socket.peer_addr().unwrap().as_socket().unwrap()
}

pub(crate) fn local(socket: &Socket) -> IpAddr {
    socket.local_addr().unwrap().as_socket().unwrap().ip()
}
