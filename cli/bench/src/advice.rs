//! From which size on a task is worth spawning.

use crate::figure::Figure;

/// The conclusion from what was measured with `workers`, in a sentence; `None` where nothing was measured that it could be drawn from.
///
/// Half of the time is work in a task that takes as long as its overhead. METG is that length for tasks that depend on each other. For independent ones it
/// is the time that all workers together spend on a task.
pub fn advice(figures: &[Figure], workers: usize) -> Option<String> {
    let of = |case: &str| figures.iter().find(|figure| figure.case == case && figure.system == "poniard-spawn").map(|figure| figure.median);
    let independent = of("independent").map(|ns| ns * workers as f64 / 1e3);
    // Eight columns keep all workers of a small machine busy; with two, each task waits for word from another core.
    let dependent = of("metg-w8").or_else(|| of("metg-w2"));
    let (all, least) = match (independent, dependent) {
        (Some(independent), Some(dependent)) if independent < dependent => (dependent, Some(independent)),
        (one, other) => (one.into_iter().chain(other).reduce(f64::max)?, None),
    };
    let aside = least.map_or_else(String::new, |us| format!(" ({} where it depends on no other)", said(us)));
    Some(format!("A task is worth spawning from about {} of work{aside}: below that more than half of the time is overhead.", said(all)))
}

/// Microseconds to one digit that counts: `0.4 us`.
fn said(us: f64) -> String {
    if us < 0.095 {
        format!("{us:.2} us")
    } else if us < 9.5 {
        format!("{us:.1} us")
    } else {
        format!("{us:.0} us")
    }
}

#[cfg(test)]
mod tests {
    use super::advice;
    use crate::figure::Figure;

    fn figure(case: &'static str, system: &'static str, median: f64) -> Figure {
        Figure { bench: "", case, system, unit: "", min: median / 2.0, median, sample_count: 3, ratio: None, note: String::new() }
    }

    #[test]
    fn the_sentence_names_the_dearer_task_and_the_independent_one_beside_it() {
        let (flat, stencil) = (figure("independent", "poniard-spawn", 110.0), figure("metg-w8", "poniard-spawn", 0.437));
        let narrow = figure("metg-w2", "poniard-spawn", 12.3);
        let others = [figure("metg-w8", "limit", 99.0), figure("independent", "rayon-scope", 9e9), figure("chain", "poniard-spawn", 9e9)];
        let said = |figures: &[&Figure], workers| {
            let figures: Vec<Figure> = others.iter().chain(figures.iter().copied()).cloned().collect();
            let sentence = advice(&figures, workers)?;
            let middle = sentence.strip_prefix("A task is worth spawning from about ")?;
            Some(middle.strip_suffix(": below that more than half of the time is overhead.")?.to_owned())
        };
        assert_eq!(said(&[&flat, &stencil, &narrow], 2).as_deref(), Some("0.4 us of work (0.2 us where it depends on no other)"));
        assert_eq!(said(&[&flat, &stencil], 8).as_deref(), Some("0.9 us of work"));
        assert_eq!(said(&[&narrow], 2).as_deref(), Some("12 us of work"));
        assert_eq!(said(&[&flat], 2).as_deref(), Some("0.2 us of work"));
        assert_eq!(said(&[], 2), None);
    }
}
