// SPDX-License-Identifier: Apache-2.0
//! Runs that differ in one number only, in its order: how time and memory grow.

use super::{
    measure::Figures,
    plan::{Interest, Mode, Purpose, Run, grouped},
};

/// The size from which each axis departs.
const SERVICES: usize = 1_000;
const PER_SERVICE: usize = 10;
const CLIENTS: usize = 100;

/// One axis.
pub(super) struct Curve<'a> {
    /// What grows.
    pub(super) axis: &'static str,
    /// Also the name of its drawing.
    pub(super) slug: &'static str,
    /// What stays.
    pub(super) fixed: String,
    pub(super) points: Vec<(usize, &'a Figures)>,
}

/// All axes that have two points or more.
pub(super) fn curves(all: &[Figures]) -> Vec<Curve<'_>> {
    let (services, per_service, clients) = (grouped(SERVICES), grouped(PER_SERVICE), grouped(CLIENTS));
    let curves = [
        Curve {
            axis: "Services",
            slug: "services",
            fixed: format!("{per_service} endpoints each, {clients} delta clients that want everything"),
            points: points(
                all,
                |run| run.services,
                |run| run.per_service == PER_SERVICE && run.clients == CLIENTS,
            ),
        },
        Curve {
            axis: "endpoints per Service",
            slug: "endpoints",
            fixed: format!("{services} Services, {clients} delta clients that want everything"),
            points: points(
                all,
                |run| run.per_service,
                |run| run.services == SERVICES && run.clients == CLIENTS,
            ),
        },
        Curve {
            axis: "clients",
            slug: "clients",
            fixed: format!(
                "{services} Services, {per_service} endpoints each, delta clients that want everything"
            ),
            points: points(
                all,
                |run| run.clients,
                |run| run.services == SERVICES && run.per_service == PER_SERVICE,
            ),
        },
    ];
    curves.into_iter().filter(|curve| curve.points.len() > 1).collect()
}

fn points(all: &[Figures], axis: fn(&Run) -> usize, fits: fn(&Run) -> bool) -> Vec<(usize, &Figures)> {
    // A rolling update's world has one large Service more.
    let plain = |run: &Run| {
        run.mode == Mode::Delta && run.interest == Interest::Everything && run.purpose != Purpose::Rollout
    };
    let mut points: Vec<_> = all
        .iter()
        .filter(|figures| plain(&figures.run) && fits(&figures.run))
        .map(|figures| (axis(&figures.run), figures))
        .collect();
    points.sort_by_key(|(at, _)| *at);
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::{plan, testing};

    #[test]
    fn a_full_benchmark_draws_every_axis_in_order_and_mixes_nothing_in() {
        let figures = |run: &Run| Figures { run: *run, ..testing::figures(run.purpose) };
        let all: Vec<_> = plan::runs(plan::Extent::Full).iter().map(figures).collect();
        let at: Vec<Vec<usize>> =
            curves(&all).iter().map(|curve| curve.points.iter().map(|(at, _)| *at).collect()).collect();
        assert_eq!(
            at,
            [
                vec![100, 300, 1_000, 3_000, 10_000],
                vec![1, 3, 10, 30, 100],
                vec![10, 30, 100, 500, 1_000, 5_000]
            ]
        );
    }
}
