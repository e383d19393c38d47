// SPDX-License-Identifier: Apache-2.0
//! Events of the file, as the model has them: one action each, names resolved.

use std::ops::Range;

use toml::Spanned;

use super::{
    error::Fault,
    file::{self, Name},
    names::list,
    world::{World, failures},
};
use crate::model::{Action, Event, Failures, LostClients, Pods, Service};

/// Turns events of the file into the model's.
pub(super) struct Events<'a> {
    pub(super) world: &'a World<'a>,
    pub(super) services: &'a [Service],
    /// Clients of each stream of arrivals, by index.
    pub(super) streams: Vec<usize>,
}

impl Events<'_> {
    pub(super) fn event(&self, entry: &Spanned<file::Event>) -> Result<Event, Fault> {
        let (event, around) = (entry.get_ref(), entry.span());
        let mut actions = self.actions(event, &around)?;
        match (actions.pop(), actions.is_empty()) {
            (Some(action), true) => Ok(Event { at: event.at.0, action }),
            _ => Err(Fault::at(
                around,
                "give exactly one of `speed`, `fail`, `heal`, `crash`, `weight`, `zone-lost`, `zone-regained`, `rollout`, \
                 `scale`, `rate`",
            )),
        }
    }

    /// All that the event names; more than one is a fault, told by the caller.
    fn actions(&self, event: &file::Event, around: &Range<usize>) -> Result<Vec<Action>, Fault> {
        let mut found = Vec::new();
        if let Some(a) = &event.speed {
            found.push(Action::Speed { pods: self.pods(&a.pods, around)?, factor: a.factor });
        }
        if let Some(a) = &event.fail {
            let how = file::Failures {
                fast: a.fast,
                fast_after: a.fast_after,
                slow: a.slow,
                slow_after: a.slow_after,
            };
            found.push(Action::Fail { pods: self.pods(&a.pods, around)?, failures: failures(how) });
        }
        if let Some(pods) = &event.heal {
            found.push(Action::Fail { pods: self.pods(pods, around)?, failures: Failures::default() });
        }
        if let Some(a) = &event.crash {
            let restart_after = a.restart_after.map(|t| t.0);
            found.push(Action::Crash { pods: self.pods(&a.pods, around)?, restart_after });
        }
        if let Some(a) = &event.weight {
            found.push(Action::Weight { pods: self.pods(&a.pods, around)?, weight: a.weight });
        }
        if let Some(a) = &event.zone_lost {
            let clients = match a.clients {
                file::LostClients::Stay => LostClients::Stay,
                file::LostClients::Gone => LostClients::Gone,
                file::LostClients::Move => LostClients::Move,
            };
            found.push(Action::ZoneLost { zone: self.world.zones.find(&a.zone)?, clients });
        }
        if let Some(a) = &event.zone_regained {
            found.push(Action::ZoneRegained { zone: self.world.zones.find(&a.zone)? });
        }
        if let Some(a) = &event.rollout {
            let service = self.service(a.service.as_ref(), around)?;
            let group = self.group(service, a.group.as_ref())?;
            let (batch, ready_after, grace) = (a.batch, a.ready_after.0, a.grace.0);
            found.push(Action::Rollout { service, group, batch, ready_after, grace });
        }
        if let Some(a) = &event.scale {
            let service = self.service(a.service.as_ref(), around)?;
            let group = match self.group(service, a.group.as_ref())? {
                Some(group) => group,
                None => self.only_group(service, around)?,
            };
            let (to, ready_after, grace) = (a.to, a.ready_after.0, a.grace.0);
            found.push(Action::Scale { service, group, to, ready_after, grace });
        }
        if let Some(a) = &event.rate {
            found.push(Action::Rate { arrivals: self.stream(a, around)?, factor: a.factor });
        }
        Ok(found)
    }

    fn pods(&self, pods: &file::Pods, around: &Range<usize>) -> Result<Pods, Fault> {
        let service = self.service(pods.service.as_ref(), around)?;
        let group = self.group(service, pods.group.as_ref())?;
        Ok(Pods { service, group, first: pods.first, count: pods.count.unwrap_or(u32::MAX) })
    }

    fn service(&self, name: Option<&Name>, around: &Range<usize>) -> Result<usize, Fault> {
        self.world.services.find_or_only(name, "service", around.clone())
    }

    fn group(&self, service: usize, name: Option<&Name>) -> Result<Option<usize>, Fault> {
        let Some(name) = name else { return Ok(None) };
        let groups = &self.services[service].groups;
        groups.iter().position(|group| group.name == *name.get_ref()).map(Some).ok_or_else(|| {
            let known = list(&groups.iter().map(|group| group.name.as_str()).collect::<Vec<_>>());
            let service = &self.services[service].name;
            Fault::at(
                name.span(),
                format!("`{}` is not among the groups of {service}: {known}", name.get_ref()),
            )
        })
    }

    fn only_group(&self, service: usize, around: &Range<usize>) -> Result<usize, Fault> {
        match self.services[service].groups.len() {
            1 => Ok(0),
            _ => Err(Fault::at(around.clone(), "`group` is missing, and the service has not exactly one")),
        }
    }

    /// The stream whose rate changes: the clients' only one.
    fn stream(&self, rate: &file::Rate, around: &Range<usize>) -> Result<usize, Fault> {
        let clients = self.world.clients.find_or_only(rate.clients.as_ref(), "clients", around.clone())?;
        let mut streams = self.streams.iter().enumerate().filter(|(_, c)| **c == clients).map(|(i, _)| i);
        match (streams.next(), streams.next()) {
            (Some(stream), None) => Ok(stream),
            _ => Err(Fault::at(around.clone(), "these clients must have exactly one stream of `arrivals`")),
        }
    }
}
