// SPDX-License-Identifier: Apache-2.0
//! Small TCP peers for tests of connections: a server that says who it is and whom it sees, and clients that count what
//! they got. All are subcommands, run inside pods.
//!
//! Deliberately not here: HTTP/2 and load ([`crate::peer`]).

pub mod connect;
pub mod echo;
pub mod reconnect;

/// `ECONNREFUSED` and the like; a timeout of our own is `timeout`.
fn error_name(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => "timeout".into(),
        Some(code) => format!("{:?}", nix::errno::Errno::from_raw(code)),
        None if error.kind() == std::io::ErrorKind::TimedOut => "timeout".into(),
        None => error.to_string(),
    }
}
