//! What a runtime remembers of its regions: for each place in the source where some were begun, the shapes that they had last.

use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::report::{NotReplayed, RegionReport};
use super::shape::{Recorder, Shape};

/// Shapes that are kept for a place.
const SHAPES_MAX: usize = 4;
/// Places whose shapes are kept.
const SITES_MAX: usize = 256;
/// Tasks of all shapes that are kept, some hundred bytes each.
const TASKS_MAX: usize = 1 << 18;
/// Regions in a row that have none of the shapes, after which these are given up.
const MISSES_MAX: u32 = 8;
/// Regions between two attempts to learn a shape, when those that were learned have not come again.
const PAUSE_MAX: u32 = 64;

/// All places, by where their descriptions lie.
#[derive(Default)]
pub(crate) struct Sites(Mutex<BTreeMap<usize, Site>>);

struct Site {
    location: &'static Location<'static>,
    planned: u64,
    replayed: u64,
    not_replayed: Option<NotReplayed>,
    /// The one that came last is the first.
    shapes: Vec<Arc<Shape>>,
    /// How many regions are to come before a shape is learned.
    wait: u32,
    /// How many there will be the next time.
    pause: u32,
    /// How many regions in a row had none of the shapes.
    misses: u32,
    /// A number that grows with each region of the runtime, when there was one last.
    last: u64,
}

/// How a region begins.
pub(super) enum Start {
    /// It is planned, and nothing is learned of it.
    Plain,
    /// It is planned, and its shape learned.
    Learning(Recorder),
    /// It may have one of these shapes, of which there is one at least.
    Known(Vec<Arc<Shape>>),
}

/// How it went.
pub(super) enum Ended {
    Replayed(Arc<Shape>),
    Planned(Option<NotReplayed>),
    /// It was planned, and this was learned.
    Learned(Recorder, Option<NotReplayed>),
}

impl Sites {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, Site>> {
        // Single operations on its fields, so a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(location: &'static Location<'static>) -> usize {
        std::ptr::from_ref(location).addr()
    }

    /// A region of at most so many tasks begins, of which it makes sense to learn.
    pub(super) fn begin(&self, location: &'static Location<'static>, window: usize) -> Start {
        let mut sites = self.lock();
        let site = sites.entry(Self::key(location)).or_insert_with(|| Site::new(location));
        let known: Vec<_> = site.shapes.iter().filter(|shape| shape.len() <= window).cloned().collect();
        if !known.is_empty() {
            return Start::Known(known);
        }
        if site.wait > 0 {
            site.wait -= 1;
            return Start::Plain;
        }
        Start::Learning(Recorder::default())
    }

    /// It has ended.
    pub(super) fn end(&self, location: &'static Location<'static>, ended: Ended) {
        // Out of the lock: it takes a while.
        let (learned, why) = match ended {
            Ended::Replayed(shape) => {
                let mut sites = self.lock();
                let Some(site) = sites.get_mut(&Self::key(location)) else { return };
                site.replayed += 1;
                (site.pause, site.misses) = (0, 0);
                if let Some(place) = site.shapes.iter().position(|other| Arc::ptr_eq(other, &shape)) {
                    site.shapes[..=place].rotate_right(1);
                }
                return;
            }
            Ended::Planned(why) => (None, why),
            Ended::Learned(_, why) if !self.is_worth_it(location, why.as_ref()) => (None, why),
            Ended::Learned(recorder, why) => match recorder.compile() {
                Ok(shape) if shape.len() > 0 => (Some(Arc::new(shape)), why),
                Ok(_) => (None, why),
                Err(unfit) => (None, Some(unfit)),
            },
        };
        let mut sites = self.lock();
        let newest = sites.values().map(|site| site.last).max().unwrap_or_default() + 1;
        let site = sites.entry(Self::key(location)).or_insert_with(|| Site::new(location));
        site.planned += 1;
        site.last = newest;
        if matches!(why, Some(NotReplayed::Window)) {
            // To note a window's tasks in vain costs more than to plan the region.
            site.pause = (2 * site.pause).clamp(1, PAUSE_MAX);
            site.wait = site.pause;
        }
        site.not_replayed = why.or(site.not_replayed.take());
        if let Some(shape) = learned {
            site.shapes.truncate(SHAPES_MAX - 1);
            site.shapes.insert(0, shape);
        }
        let gone = make_room(&mut sites);
        drop(sites);
        drop(gone);
    }

    /// Whether a shape is to be compiled that is not known, if `why` says so.
    fn is_worth_it(&self, location: &'static Location<'static>, why: Option<&NotReplayed>) -> bool {
        let mut sites = self.lock();
        let site = sites.entry(Self::key(location)).or_insert_with(|| Site::new(location));
        if why.is_none() {
            return true;
        }
        site.misses += 1;
        if site.misses > MISSES_MAX {
            // What is held back and then entered all the same costs more than what is planned at once.
            site.misses = 0;
            site.pause = (2 * site.pause).clamp(1, PAUSE_MAX);
            site.wait = site.pause;
            let gone = std::mem::take(&mut site.shapes);
            drop(sites);
            drop(gone);
            return false;
        }
        matches!(why, Some(NotReplayed::Other { .. } | NotReplayed::More { .. } | NotReplayed::Fewer { .. }))
    }

    pub(crate) fn report(&self) -> Vec<RegionReport> {
        let reports = self.lock();
        let mut reports: Vec<_> = reports.values().map(Site::report).collect();
        reports.sort_by_key(|report| (report.location.file(), report.location.line(), report.location.column()));
        reports
    }
}

/// Takes out shapes until those that are left are few enough, of the places first where no region was for longest.
fn make_room(sites: &mut BTreeMap<usize, Site>) -> Vec<Arc<Shape>> {
    let mut gone = Vec::new();
    loop {
        let tasks: usize = sites.values().flat_map(|site| &site.shapes).map(|shape| shape.len()).sum();
        let kept = sites.values().filter(|site| !site.shapes.is_empty()).count();
        if kept <= 1 || (tasks <= TASKS_MAX && kept <= SITES_MAX) {
            return gone;
        }
        let oldest = sites.values_mut().filter(|site| !site.shapes.is_empty()).min_by_key(|site| site.last);
        gone.extend(oldest.into_iter().flat_map(|site| site.shapes.drain(..)));
    }
}

impl Site {
    fn new(location: &'static Location<'static>) -> Self {
        // The first one is not learned: most regions are run once.
        Self { location, planned: 0, replayed: 0, not_replayed: None, shapes: Vec::new(), wait: 1, pause: 0, misses: 0, last: 0 }
    }

    fn report(&self) -> RegionReport {
        let Self { location, planned, replayed, ref not_replayed, .. } = *self;
        RegionReport { location, planned, replayed, not_replayed: not_replayed.clone() }
    }
}
