//! The samples, each one readable file that shows one idea; and the few things that they share.

use crate::sample::Sample;

mod awaiting;
mod cancel;
mod chaos;
pub mod cholesky;
mod convolve;
mod diamond;
mod error;
mod fib;
mod graph_update;
mod hello;
mod histogram;
mod imbalance;
mod jacobi;
mod life;
mod locality;
mod lu;
mod matmul;
mod mixed;
mod nested;
mod outofcore;
mod priorities;
mod rerun;
mod scopes;
mod sleep;
mod tree_reduce;
mod vecsum;
mod wavefront;
mod whereabouts;
mod xfer;

mod dense;
mod files;
mod limits;
mod npy;
mod pattern;
mod picture;
pub mod product;
mod qr;
mod random;
pub mod tile;
mod tiling;
#[cfg(test)]
mod trial;

/// All samples, in the order in which a newcomer would try them.
pub const SAMPLES: &[&Sample] = &[
    &hello::SAMPLE,
    &diamond::SAMPLE,
    &error::SAMPLE,
    &fib::SAMPLE,
    &nested::SAMPLE,
    &sleep::SAMPLE,
    &priorities::SAMPLE,
    &scopes::SAMPLE,
    &cancel::SAMPLE,
    &awaiting::SAMPLE,
    &rerun::SAMPLE,
    &whereabouts::SAMPLE,
    &locality::SAMPLE,
    &imbalance::SAMPLE,
    &mixed::SAMPLE,
    &xfer::SAMPLE,
    &tree_reduce::SAMPLE,
    &vecsum::SAMPLE,
    &graph_update::SAMPLE,
    &outofcore::SAMPLE,
    &matmul::SAMPLE,
    &cholesky::SAMPLE,
    &lu::SAMPLE,
    &qr::SAMPLE,
    &chaos::SAMPLE,
    &wavefront::SAMPLE,
    &jacobi::SAMPLE,
    &life::SAMPLE,
    &histogram::SAMPLE,
    &convolve::SAMPLE,
];

#[cfg(test)]
mod tests {
    use super::picture::encode;
    use super::trial::Trial;
    use super::*;

    #[test]
    fn names_are_unique_and_described() {
        let names: std::collections::BTreeSet<_> = SAMPLES.iter().map(|sample| sample.name).collect();
        assert_eq!(names.len(), SAMPLES.len());
        for sample in SAMPLES {
            assert!(!sample.summary.is_empty() && !sample.summary.ends_with('.'), "{}", sample.name);
            assert!(sample.options.iter().all(|option| !option.meaning.is_empty()), "{}", sample.name);
        }
    }

    // Those that need none run for half a minute without optimisation; `.ci/run` runs them with it.
    #[test]
    fn a_sample_that_needs_a_picture_says_so() {
        for sample in [&convolve::SAMPLE, &histogram::SAMPLE] {
            assert!(Trial::default().refused(sample, "input").contains("for example: poniard run"));
        }
    }

    #[test]
    fn tasks_that_compute_can_run_on_worker_processes() {
        let folder = tempfile::tempdir().unwrap();
        let picture = folder.path().join("picture.png");
        std::fs::write(&picture, encode(&[7; 20 * 13 * 3], 20, 13, 3)).unwrap();
        let apart = || Trial { apart: true, ..Trial::default() };
        let sized = |size| Trial { size: Some(size), ..apart() };
        let tiled = |size, tile| Trial { tile: Some(tile), ..sized(size) };
        let pictured = || Trial { inputs: vec![picture.clone()], tile: Some(8), ..apart() };
        for (sample, trial) in [
            (&hello::SAMPLE, apart()),
            (&diamond::SAMPLE, sized(10)),
            (&error::SAMPLE, apart()),
            (&fib::SAMPLE, sized(8)),
            (&nested::SAMPLE, sized(3)),
            (&whereabouts::SAMPLE, sized(4)),
            (&locality::SAMPLE, tiled(20, 8)),
            (&imbalance::SAMPLE, sized(1)),
            (&tree_reduce::SAMPLE, sized(9)),
            (&outofcore::SAMPLE, tiled(9, 8192)),
            (&matmul::SAMPLE, tiled(20, 8)),
            (&cholesky::SAMPLE, tiled(20, 8)),
            (&lu::SAMPLE, tiled(20, 8)),
            (&qr::SAMPLE, tiled(20, 8)),
            (&jacobi::SAMPLE, Trial { generations: Some(5), ..tiled(20, 7) }),
            (&vecsum::SAMPLE, tiled(1000, 300)),
            (&graph_update::SAMPLE, sized(5)),
            (&wavefront::SAMPLE, tiled(100, 40)),
            (&life::SAMPLE, Trial { generations: Some(3), ..tiled(64, 32) }),
            (&histogram::SAMPLE, pictured()),
            (&convolve::SAMPLE, pictured()),
        ] {
            trial.passes(sample);
        }
    }
}
