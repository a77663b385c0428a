//! Measures the systems of one case in turn.

use std::fmt;
use std::time::Instant;

use crate::case::{Case, Effort, Kind};
use crate::figure::Figure;

/// One way to do a case.
pub struct System<'a> {
    /// Its name: `poniard-spawn`, `rayon-join`, `limit`.
    name: &'static str,
    /// What else one has to know to read the figure.
    note: String,
    /// Does the case once and gives its figure in the case's unit.
    run: Box<dyn FnMut() -> f64 + 'a>,
}

impl<'a> System<'a> {
    /// A system: `run` does the case once, checks what came of it, and gives the figure in the case's unit.
    pub fn new(name: &'static str, note: impl Into<String>, run: impl FnMut() -> f64 + 'a) -> Self {
        Self { name, note: note.into(), run: Box::new(run) }
    }
}

impl fmt::Debug for System<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "System({})", self.name)
    }
}

/// Measures the systems of a case, a sample of each in turn, so that a change of the machine's speed meets all of them. One sample before the others is
/// for caches and threads to warm up.
///
/// # Panics
/// When a system does the case wrong.
pub fn measure(case: &Case, effort: Effort, systems: Vec<System<'_>>) -> Vec<Figure> {
    // These warm themselves up, or have nothing to warm.
    let warm = matches!(case.kind, Kind::Idle | Kind::Metg(_) | Kind::BytesPerTask);
    let sample_count = effort.sample_count(case);
    let mut systems: Vec<(System<'_>, Vec<f64>)> = systems.into_iter().map(|system| (system, Vec::new())).collect();
    for sample in usize::from(warm)..=sample_count {
        for (system, samples) in &mut systems {
            let figure = (system.run)();
            assert!(figure.is_finite(), "{} of {} is no number", case.name, system.name);
            if sample > 0 {
                samples.push(figure);
            }
        }
    }
    let mut figures: Vec<Figure> = Vec::new();
    for (system, mut samples) in systems {
        samples.sort_by(f64::total_cmp);
        let min = samples[0];
        let base = figures.first().map_or(min, |first| first.min);
        figures.push(Figure {
            case: case.name,
            system: system.name,
            unit: case.unit,
            min,
            median: samples[samples.len() / 2],
            sample_count: samples.len(),
            ratio: (base > 0.0).then(|| min / base),
            note: system.note,
        });
    }
    figures
}

/// Time of `work` for each of `count` tasks, in ns.
pub fn per_task(count: u64, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / count as f64
}
