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
    run: Box<dyn FnMut(&mut String) -> f64 + 'a>,
}

impl<'a> System<'a> {
    /// A system: `run` does the case once, checks what came of it, and gives the figure in the case's unit.
    pub fn new(name: &'static str, note: impl Into<String>, mut run: impl FnMut() -> f64 + 'a) -> Self {
        Self { name, note: note.into(), run: Box::new(move |_| run()) }
    }

    /// The same for a system that may change its note each time: what it says last is shown.
    pub fn telling(name: &'static str, run: impl FnMut(&mut String) -> f64 + 'a) -> Self {
        Self { name, note: String::new(), run: Box::new(run) }
    }
}

impl fmt::Debug for System<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "System({})", self.name)
    }
}

/// How the systems of a case are measured.
#[derive(Clone, Copy, Debug)]
pub struct Turns {
    /// The benchmark's name, for JSON.
    pub bench: &'static str,
    /// The case's name.
    pub case: &'static str,
    /// What its figures count.
    pub unit: &'static str,
    /// Whether one sample before the others is thrown away, for caches and threads to warm up.
    pub warm_up: bool,
    /// How many samples of each system count.
    pub sample_count: usize,
}

impl Turns {
    /// Measures the systems, a sample of each in turn, so that a change of the machine's speed meets all of them.
    ///
    /// # Panics
    /// When a system does the case wrong.
    pub fn measure(&self, systems: Vec<System<'_>>) -> Vec<Figure> {
        let mut systems: Vec<(System<'_>, Vec<f64>)> = systems.into_iter().map(|system| (system, Vec::new())).collect();
        for sample in usize::from(!self.warm_up)..=self.sample_count {
            for (system, samples) in &mut systems {
                let figure = (system.run)(&mut system.note);
                assert!(figure.is_finite(), "{} of {} is no number", self.case, system.name);
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
                bench: self.bench,
                case: self.case,
                system: system.name,
                unit: self.unit,
                min,
                median: samples[samples.len() / 2],
                sample_count: samples.len(),
                ratio: (base > 0.0).then(|| min / base),
                note: system.note,
            });
        }
        figures
    }
}

/// Measures the systems of a case as [`Turns::measure`] does.
///
/// # Panics
/// When a system does the case wrong.
pub fn measure(case: &Case, effort: Effort, systems: Vec<System<'_>>) -> Vec<Figure> {
    // These warm themselves up, or have nothing to warm.
    let warm = matches!(case.kind, Kind::Idle | Kind::Metg(_) | Kind::BytesPerTask);
    Turns { bench: "overhead", case: case.name, unit: case.unit, warm_up: !warm, sample_count: effort.sample_count(case) }.measure(systems)
}

/// Time of `work` for each of `count` tasks, in ns.
pub fn per_task(count: u64, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / count as f64
}
