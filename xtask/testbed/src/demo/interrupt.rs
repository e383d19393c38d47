// SPDX-License-Identifier: Apache-2.0
//! Ctrl-C and SIGTERM as an error that unwinds, so that everything is removed on the way out.
//!
//! All waiting of the demo goes through here. Deliberately not here: what is removed; that is the fabric's own affair.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

/// Whether somebody asked to stop. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Interrupt(Arc<(Mutex<bool>, Condvar)>);

impl Interrupt {
    /// Takes over SIGINT, SIGTERM and SIGHUP of this process.
    pub(super) fn install() -> Result<Self> {
        let interrupt = Self::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let guard = runtime.enter();
        let mut signals = Vec::new();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            signals.push(signal(kind).context("cannot listen for signals")?);
        }
        drop(guard);
        let shared = interrupt.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            let any = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
            let _signal = runtime.block_on(futures_util::future::select_all(any));
            shared.set();
        })?;
        Ok(interrupt)
    }

    pub(super) fn set(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Waits for `duration`.
    ///
    /// # Errors
    /// Somebody asked to stop.
    pub(super) fn sleep(&self, duration: Duration) -> Result<()> {
        let (flag, changed) = &*self.0;
        let flag = flag.lock().unwrap_or_else(PoisonError::into_inner);
        let (flag, _) =
            changed.wait_timeout_while(flag, duration, |set| !*set).unwrap_or_else(PoisonError::into_inner);
        if *flag { bail!("interrupted") } else { Ok(()) }
    }

    /// Polls until `condition` gives something; the error names `what` and the last reason.
    pub(super) fn until<T>(
        &self,
        what: &str,
        deadline: Duration,
        mut condition: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        /// Short against what is awaited, long against what a look costs.
        const LOOK_EVERY: Duration = Duration::from_millis(15);
        let end = Instant::now() + deadline;
        loop {
            match condition() {
                Ok(value) => return Ok(value),
                Err(last) if Instant::now() >= end => {
                    return Err(last.context(format!("not in {deadline:?}: {what}")));
                }
                Err(_) => self.sleep(LOOK_EVERY)?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_ends_every_wait_at_once() {
        let interrupt = Interrupt::default();
        interrupt.sleep(Duration::ZERO).expect("nobody has asked yet");
        interrupt.set();
        let began = Instant::now();
        assert!(interrupt.sleep(Duration::from_secs(60)).is_err());
        assert!(interrupt.until("never", Duration::from_secs(60), || bail!("no") as Result<()>).is_err());
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_condition_that_never_holds_names_what_was_awaited_and_why_not() {
        let error =
            Interrupt::default().until("the plan", Duration::ZERO, || bail!("11 of 12") as Result<()>);
        assert_eq!(format!("{:#}", error.expect_err("it never holds")), "not in 0ns: the plan: 11 of 12");
    }
}
