// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The promise to aya that these records may be copied to and from maps as bytes. Userspace only.

use crate::{
    Address, Backend, Event, ListenerKey, Origin, OriginKey, PodAddresses, Process, Service, ServiceKey,
    Slot, SocketState,
};

macro_rules! pod {
    ($($t:ty),* $(,)?) => { $(
        // SAFETY: `repr(C)`, `Copy`, no padding (asserted beside each type), every bit pattern is a value.
        unsafe impl aya::Pod for $t {}
    )* };
}

pod!(
    Address,
    Backend,
    Event,
    ListenerKey,
    Origin,
    OriginKey,
    PodAddresses,
    Process,
    Service,
    ServiceKey,
    Slot,
    SocketState
);
