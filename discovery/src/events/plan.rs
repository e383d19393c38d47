// SPDX-License-Identifier: Apache-2.0
//! Which fault is to be told as an Event next: what stands, what was told when, and how fast may be told.
//!
//! What must always be true: a standing fault is told sooner or later, however many there are; the same fault is not told
//! more often than [`AGAIN`]; memory is bounded by the faults that stand. Pure: time is an argument.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::fault::{Fault, FaultKind};
use crate::source::ObjectKey;

/// Faults of one Service that are told. More of them teach nobody.
const PER_SERVICE: usize = 8;
/// The least time between two Events about the same fault, for one that comes and goes.
const AGAIN: Duration = Duration::from_secs(60);
/// Events are kept for an hour by default (`--event-ttl`): a fault that stands is told anew before.
const REPEAT: Duration = Duration::from_secs(30 * 60);
/// After a failure.
const RETRY: Duration = Duration::from_secs(30);
/// Events per second over all Services, and how many at once after a pause.
const RATE: f64 = 5.0;
const BURST: f64 = 25.0;
/// So many faults told may be remembered without a look at their age.
const CROWDED: usize = 1024;

/// An Event to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// The Service.
    pub(super) service: ObjectKey,
    /// The fault.
    pub(super) fault: Fault,
    /// How often it has been told, this time included.
    pub(super) count: u32,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Write this, then say how it went.
    Tell(Note),
    /// Nothing before this moment.
    Wait(Instant),
    /// Nothing until something changes.
    Idle,
}

/// All standing faults and when each is due.
#[derive(Debug)]
pub(super) struct Plan {
    standing: HashMap<ObjectKey, Vec<Fault>>,
    told: HashMap<(ObjectKey, Fault), Told>,
    /// When there are as many told, old ones are forgotten.
    crowded: usize,
    /// By due time, then order of arrival. What is mended meanwhile is passed over when its time comes.
    due: BTreeMap<(Instant, u64), (ObjectKey, Fault)>,
    /// Those in `due`, which has nothing twice.
    scheduled: HashSet<(ObjectKey, Fault)>,
    arrivals: u64,
    tokens: f64,
    refilled: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    at: Instant,
    count: u32,
}

impl Plan {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            standing: HashMap::new(),
            told: HashMap::new(),
            crowded: CROWDED,
            due: BTreeMap::new(),
            scheduled: HashSet::new(),
            arrivals: 0,
            tokens: BURST,
            refilled: now,
        }
    }

    /// These are all faults of a Service now.
    pub(super) fn set(&mut self, service: &ObjectKey, faults: &[Fault], now: Instant) {
        // On what a version does not act yet is no mistake of the user's.
        let mut faults: Vec<Fault> =
            faults.iter().filter(|fault| fault.kind != FaultKind::NoEffect).cloned().collect();
        faults.sort();
        faults.dedup();
        faults.truncate(PER_SERVICE);
        let before = self.standing.remove(service).unwrap_or_default();
        for fault in faults.iter().filter(|fault| !before.contains(fault)) {
            let told = self.told.get(&(service.clone(), fault.clone()));
            self.schedule(told.map_or(now, |told| now.max(told.at + AGAIN)), service, fault);
        }
        if !faults.is_empty() {
            self.standing.insert(service.clone(), faults);
        }
    }

    /// What to do at `now`. A note that is given out has to come back through [`Plan::told`] or [`Plan::failed`].
    pub(super) fn next(&mut self, now: Instant) -> Next {
        let passed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.tokens = BURST.min(passed.mul_add(RATE, self.tokens));
        self.refilled = now;
        loop {
            let Some(entry) = self.due.first_entry() else { return Next::Idle };
            let at = entry.key().0;
            let (service, fault) = entry.get();
            let stands = self.standing.get(service).is_some_and(|faults| faults.contains(fault));
            if stands && at > now {
                return Next::Wait(at);
            }
            if stands && self.tokens < 1.0 {
                return Next::Wait(now + Duration::from_secs_f64((1.0 - self.tokens) / RATE));
            }
            let key = entry.remove();
            self.scheduled.remove(&key);
            if stands {
                self.tokens -= 1.0;
                let count = self.told.get(&key).map_or(1, |told| told.count.saturating_add(1));
                let (service, fault) = key;
                return Next::Tell(Note { service, fault, count });
            }
        }
    }

    /// The Event is written.
    pub(super) fn told(&mut self, note: Note, now: Instant) {
        let Note { service, fault, count } = note;
        if self.stands(&service, &fault) {
            self.schedule(now + REPEAT, &service, &fault);
        }
        self.told.insert((service, fault), Told { at: now, count });
        if self.told.len() >= self.crowded {
            self.told.retain(|_, told| now.saturating_duration_since(told.at) < REPEAT * 2);
            self.crowded = CROWDED.max(self.told.len() * 2);
        }
    }

    /// It is not, for now.
    pub(super) fn failed(&mut self, note: &Note, now: Instant) {
        if self.stands(&note.service, &note.fault) {
            self.schedule(now + RETRY, &note.service, &note.fault);
        }
    }

    fn stands(&self, service: &ObjectKey, fault: &Fault) -> bool {
        self.standing.get(service).is_some_and(|faults| faults.contains(fault))
    }

    fn schedule(&mut self, at: Instant, service: &ObjectKey, fault: &Fault) {
        let key = (service.clone(), fault.clone());
        if self.scheduled.insert(key.clone()) {
            self.arrivals += 1;
            self.due.insert((at, self.arrivals), key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> ObjectKey {
        ObjectKey::new("demo", "web")
    }

    fn fault(text: &str) -> Fault {
        Fault::new(FaultKind::Option, text)
    }

    fn tell(plan: &mut Plan, now: Instant) -> Note {
        match plan.next(now) {
            Next::Tell(note) => note,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_fault_is_told_once_and_again_before_the_event_expires() {
        let start = Instant::now();
        let mut plan = Plan::new(start);
        plan.set(&web(), &[fault("a")], start);
        let note = tell(&mut plan, start);
        assert_eq!(note, Note { service: web(), fault: fault("a"), count: 1 });
        plan.told(note, start);
        plan.set(&web(), &[fault("a")], start);
        assert_eq!(plan.next(start), Next::Wait(start + REPEAT));
        assert_eq!(tell(&mut plan, start + REPEAT).count, 2);
    }

    #[test]
    fn a_fault_that_comes_and_goes_is_not_told_each_time() {
        let start = Instant::now();
        let mut plan = Plan::new(start);
        plan.set(&web(), &[fault("a")], start);
        let note = tell(&mut plan, start);
        plan.set(&web(), &[], start);
        plan.told(note, start);
        assert_eq!(plan.next(start), Next::Idle);
        for _ in 0..10 {
            plan.set(&web(), &[fault("a")], start + Duration::from_secs(1));
            plan.set(&web(), &[], start + Duration::from_secs(1));
        }
        plan.set(&web(), &[fault("a")], start + Duration::from_secs(2));
        assert_eq!(plan.next(start + Duration::from_secs(2)), Next::Wait(start + AGAIN));
        assert_eq!(plan.due.len(), 1);
    }

    #[test]
    fn ten_thousand_faulty_services_are_told_slowly_but_all() {
        let start = Instant::now();
        let mut plan = Plan::new(start);
        for number in 0..10_000 {
            plan.set(&ObjectKey::new("demo", number.to_string()), &[fault("a")], start);
        }
        let (mut now, mut told) = (start, 0);
        while now < start + REPEAT {
            match plan.next(now) {
                Next::Tell(note) => {
                    told += 1;
                    plan.told(note, now);
                }
                Next::Wait(until) => now = until.max(now + Duration::from_millis(1)),
                Next::Idle => break,
            }
        }
        let seconds = u32::try_from((now - start).as_secs()).unwrap();
        assert!(told <= 25 + 5 * (seconds + 1), "{told} in {seconds} s");
        assert!(told > 8_000, "{told}");
    }

    #[test]
    fn what_fails_is_tried_again_and_what_is_mended_is_not() {
        let start = Instant::now();
        let mut plan = Plan::new(start);
        plan.set(&web(), &[fault("a")], start);
        let note = tell(&mut plan, start);
        plan.failed(&note, start);
        assert_eq!(plan.next(start), Next::Wait(start + RETRY));
        plan.set(&web(), &[], start);
        assert_eq!(plan.next(start + RETRY), Next::Idle);
    }

    #[test]
    fn of_many_faults_of_one_service_some_are_told() {
        let start = Instant::now();
        let mut plan = Plan::new(start);
        let many: Vec<Fault> = (0..100).map(|number| fault(&number.to_string())).collect();
        plan.set(&web(), &many, start);
        assert_eq!(plan.due.len(), PER_SERVICE);
    }
}
