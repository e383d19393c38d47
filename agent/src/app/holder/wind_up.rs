// SPDX-License-Identifier: Apache-2.0
//! What becomes of a dead agent's descriptors.
//!
//! Always true: a connection is kept until its client has said something or the time is over, since before its first byte a
//! client may not have seen that its connect succeeded; listeners are kept until the time is over. All other connections are
//! closed at once, so that who has lost a request with the agent learns it as early as without a holder. What is no TCP socket
//! is closed last: it can take its time (a link to a tracepoint waits for all CPUs).

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    time::Instant,
};

use nix::{
    dir::Dir,
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::stat::Mode,
};
use socket2::SockRef;

/// `TCP_LISTEN` (the kernel's `tcp_states.h`).
const LISTEN: u8 = 10;

/// Closes `descriptors`; those that somebody may be about to look at, by `until`.
pub(super) fn wind_up(descriptors: Vec<OwnedFd>, until: Instant) {
    let (mut last, mut unheard) = (Vec::new(), Vec::new());
    for descriptor in descriptors {
        match kind(&descriptor) {
            Kind::Used => drop(descriptor),
            Kind::Unheard => unheard.push(descriptor),
            Kind::Listener | Kind::Other => last.push(descriptor),
        }
    }
    close_when_heard(unheard, until);
    drop(last);
}

/// Closes each connection as soon as its client says something, all of them at `until`.
fn close_when_heard(mut unheard: Vec<OwnedFd>, until: Instant) {
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        let mut polled: Vec<_> =
            unheard.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
        // Rounded up: a wait of zero would not wait.
        let left = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        if poll(&mut polled, left).is_err() {
            return;
        }
        let silent: Vec<bool> = polled.iter().map(|fd| fd.any() == Some(false)).collect();
        unheard = unheard.into_iter().zip(silent).filter_map(|(fd, silent)| silent.then_some(fd)).collect();
    }
}

/// All descriptors of this process, standard input and output among them.
///
/// # Safety
/// Nobody else uses or closes any of them: there is no other thread, and no owner of one is alive or will be dropped.
pub(super) unsafe fn inherited() -> io::Result<Vec<OwnedFd>> {
    let mut folder = Dir::open("/proc/self/fd", OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let own = folder.as_raw_fd();
    let numbers = folder.iter().filter_map(|entry| entry.ok()?.file_name().to_str().ok()?.parse().ok());
    let others: Vec<RawFd> = numbers.filter(|number| *number != own).collect();
    // SAFETY: each is open, and the caller says that nobody else has it.
    Ok(others.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A TCP socket that listens.
    Listener,
    /// A TCP connection to a client, which has said nothing yet.
    Unheard,
    /// Any other TCP connection: its client has said something, or its other end is an endpoint or discovery.
    Used,
    /// No TCP socket.
    Other,
}

fn kind(descriptor: &OwnedFd) -> Kind {
    match tcp_info(descriptor.as_fd()) {
        Some(info) if info.tcpi_state == LISTEN => Kind::Listener,
        Some(info) if info.tcpi_bytes_received == 0 && is_to_a_client(descriptor) => Kind::Unheard,
        Some(_) => Kind::Used,
        None => Kind::Other,
    }
}

/// Clients are served on loopback, in their own pods; endpoints are spoken to from the pod's address.
fn is_to_a_client(descriptor: &OwnedFd) -> bool {
    let local = SockRef::from(descriptor).local_addr().ok().and_then(|address| address.as_socket());
    local.is_some_and(|local| local.ip().is_loopback())
}

/// What the kernel knows of a TCP socket (tcp(7)); `None` of everything else.
fn tcp_info(descriptor: BorrowedFd<'_>) -> Option<libc::tcp_info> {
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `info` and `length` outlive the call, and `length` is the size of `info`; the descriptor is borrowed, so open.
    let result = unsafe {
        libc::getsockopt(
            descriptor.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    // SAFETY: it holds numbers only, for which zero is a value, so it is initialised whatever the kernel has written.
    (result == 0).then(|| unsafe { info.assume_init() })
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read as _, Write as _},
        net::{TcpListener, TcpStream},
        time::Duration,
    };

    use super::*;

    /// Longest wait for what takes microseconds.
    const SOON: Duration = Duration::from_secs(10);

    struct Pair {
        client: TcpStream,
        server: OwnedFd,
    }

    fn pair(listener: &TcpListener) -> Pair {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        Pair { client, server: listener.accept().unwrap().0.into() }
    }

    /// Whether the server's end is open: nothing to read, and no end.
    fn is_kept(client: &mut TcpStream) -> bool {
        client.set_nonblocking(true).unwrap();
        let kept = client.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        client.set_nonblocking(false).unwrap();
        kept
    }

    /// Waits for the end.
    fn ended(client: &mut TcpStream) -> bool {
        match client.read(&mut [0]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    #[test]
    fn a_client_that_has_said_something_is_told_at_once_and_the_others_when_it_is_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (mut talks, mut silent, mut late) = (pair(&listener), pair(&listener), pair(&listener));
        talks.client.write_all(b"x").unwrap();
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        let descriptors = vec![talks.server, silent.server, late.server, listener.into(), file.into()];
        let until = Instant::now() + Duration::from_secs(2);
        std::thread::scope(|scope| {
            scope.spawn(|| wind_up(descriptors, until));
            assert!(ended(&mut talks.client));
            assert!(is_kept(&mut silent.client) && is_kept(&mut late.client));
            drop(TcpStream::connect(address).expect("the listener is kept"));
            late.client.write_all(b"x").unwrap();
            assert!(ended(&mut late.client));
            assert!(is_kept(&mut silent.client));
            assert!(Instant::now() < until, "this machine is too slow for this test to show anything");
            assert!(ended(&mut silent.client));
            assert!(Instant::now() >= until);
        });
        assert!(TcpStream::connect(address).is_err(), "the listener is gone");
    }

    #[test]
    fn what_is_no_tcp_socket_is_told_apart() {
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (pipe, _) = std::os::unix::net::UnixStream::pair().unwrap();
        for other in [OwnedFd::from(file), datagrams.into(), pipe.into()] {
            assert_eq!(kind(&other), Kind::Other);
        }
        assert_eq!(kind(&TcpListener::bind("127.0.0.1:0").unwrap().into()), Kind::Listener);
    }
}
