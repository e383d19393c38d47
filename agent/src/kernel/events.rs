// SPDX-License-Identifier: Apache-2.0
//! What the programs say at once: events for the agent, and log lines of exceptional paths.

use std::io;

use aya::maps::{Map, MapData, RingBuf};
use aya_log::EbpfLogger;
use evenkeel_abi::{Event, maps};
use tokio::io::unix::AsyncFd;

use super::KernelError;

/// The events of this agent's programs. One reader.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Events {
    pub(super) fn new(map: Map) -> Result<Self, KernelError> {
        let ring: RingBuf<MapData> = map.try_into().map_err(KernelError::map("open", maps::EVENTS))?;
        Ok(Self { ring: watch(ring)? })
    }

    /// The next event. Cancel-safe. Never ends by itself; pends for ever should the buffer break.
    pub async fn next(&mut self) -> Event {
        loop {
            // An item that is too short comes from a program that this agent does not know.
            let item = self.ring.get_mut().next().map(|bytes| decode(&bytes));
            match item {
                Some(Some(event)) => return event,
                Some(None) => continue,
                None => match self.ring.readable().await {
                    Ok(mut ready) => ready.clear_ready(),
                    Err(error) => {
                        tracing::error!(%error, "events from the kernel programs are lost from here on");
                        std::future::pending::<()>().await;
                    }
                },
            }
        }
    }
}

/// An event from its bytes.
fn decode(bytes: &[u8]) -> Option<Event> {
    let word = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
    let half = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    Some(Event { netns_cookie: word(0)?, time_ns: word(8)?, kind: half(16)?, tgid: half(20)? })
}

/// The log lines of this agent's programs. One reader.
pub struct KernelLog {
    logger: AsyncFd<EbpfLogger<Forward>>,
}

impl KernelLog {
    pub(super) fn new(object: &mut aya::Ebpf) -> Result<Self, KernelError> {
        let logger = EbpfLogger::init_with_logger(object, Forward).map_err(|error| KernelError::Bpf {
            operation: "open the log of",
            object: "the kernel programs".to_owned(),
            source: io::Error::other(error),
        })?;
        Ok(Self { logger: watch(logger)? })
    }

    /// Forwards lines until dropped.
    pub async fn run(mut self) {
        while let Ok(mut ready) = self.logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    }
}

fn watch<T: std::os::fd::AsRawFd>(ring: T) -> Result<AsyncFd<T>, KernelError> {
    // SAFETY: both kinds of ring own the descriptor of their map and keep it, the same one, until they are dropped.
    let watched = unsafe { AsyncFd::register_with_interest(ring, tokio::io::Interest::READABLE) };
    watched.map_err(|error| KernelError::Bpf {
        operation: "watch",
        object: "a ring buffer".to_owned(),
        source: error.into(),
    })
}

/// aya-log speaks `log`, the agent speaks `tracing`.
struct Forward;

impl log::Log for Forward {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let (line, text) = (record.line().unwrap_or(0), record.args());
        let file = record.file().unwrap_or("");
        match record.level() {
            log::Level::Error => tracing::error!(target: "evenkeel::ebpf", file, line, "{text}"),
            log::Level::Warn => tracing::warn!(target: "evenkeel::ebpf", file, line, "{text}"),
            _ => tracing::info!(target: "evenkeel::ebpf", file, line, "{text}"),
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_from_its_bytes() {
        let mut bytes = 7u64.to_ne_bytes().to_vec();
        bytes.extend(9u64.to_ne_bytes());
        bytes.extend(1u32.to_ne_bytes());
        bytes.extend(42u32.to_ne_bytes());
        assert_eq!(decode(&bytes), Some(Event { netns_cookie: 7, time_ns: 9, kind: 1, tgid: 42 }));
        assert_eq!(decode(&bytes[..23]), None);
    }
}
