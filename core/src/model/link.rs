//! What it costs to bring bytes from one memory space to another.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::curve::{Curve, Estimate, EstimateSource};
use super::execution::WALL_NS_MAX;
use super::fit::Shape;
use super::statistics::Summary;

/// Latency of a link of which nothing is known, in nanoseconds: about what a submission to a device takes.
pub const DEFAULT_LATENCY_NS: f64 = 10_000.0;
/// What a byte costs on such a link, in nanoseconds: 5 GB/s, half of what an ordinary slot gives.
pub const DEFAULT_BYTE_NS: f64 = 0.2;

/// What an unknown link takes for so many bytes, in nanoseconds.
fn ordinary(bytes: f64) -> f64 {
    DEFAULT_LATENCY_NS + bytes * DEFAULT_BYTE_NS
}

/// What is known of all links: one for each ordered pair of memory spaces.
///
/// Spaces are numbers of the runtime that uses the model. Their names are what the file has, since numbers change from run to run: a space without a name is not kept.
#[derive(Debug, Default)]
pub struct LinkModel {
    links: RwLock<Links>,
}

#[derive(Debug, Default)]
struct Links {
    names: BTreeMap<u32, Arc<str>>,
    /// Those in use.
    numbered: BTreeMap<(u32, u32), Arc<Link>>,
    /// Those between spaces with names, in use or not.
    named: BTreeMap<(Arc<str>, Arc<str>), Arc<Link>>,
}

impl LinkModel {
    /// Nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says what a space is called, so that its links are found again. To be done before they are used.
    pub fn name_space(&self, space: u32, name: &str) {
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        links.names.insert(space, name.into());
        links.numbered.retain(|(from, to), _| *from != space && *to != space);
    }

    /// The link from a space to another one, to be kept at hand.
    #[must_use]
    pub fn resolve(&self, from: u32, to: u32) -> Arc<Link> {
        if let Some(link) = self.links.read().unwrap_or_else(PoisonError::into_inner).numbered.get(&(from, to)) {
            return Arc::clone(link);
        }
        let links = &mut *self.links.write().unwrap_or_else(PoisonError::into_inner);
        let link = links.numbered.entry((from, to)).or_insert_with(|| match (links.names.get(&from), links.names.get(&to)) {
            (Some(from), Some(to)) => Arc::clone(links.named.entry((Arc::clone(from), Arc::clone(to))).or_default()),
            _ => Arc::default(),
        });
        Arc::clone(link)
    }

    /// Takes what a transfer took.
    pub fn record(&self, from: u32, to: u32, bytes: u64, ns: u64) {
        self.resolve(from, to).record(bytes, ns);
    }

    /// What a transfer takes; nothing within a space.
    #[must_use]
    pub fn estimate(&self, from: u32, to: u32, bytes: u64) -> Estimate {
        if from == to {
            return Estimate { mean_ns: 0, spread_ns: 0, count: 0, source: EstimateSource::Measured };
        }
        self.resolve(from, to).estimate(bytes)
    }

    /// The links between spaces with names, in their order: from, to, and what is known.
    #[must_use]
    pub fn links(&self) -> Vec<(Arc<str>, Arc<str>, Arc<Link>)> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.named.iter().map(|((from, to), link)| (Arc::clone(from), Arc::clone(to), Arc::clone(link))).collect()
    }

    pub(crate) fn entry(&self, from: &str, to: &str) -> Arc<Link> {
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(links.named.entry((from.into(), to.into())).or_default())
    }
}

/// What is known of one link. Small transfers tell its latency, large ones its bandwidth.
#[derive(Debug)]
pub struct Link {
    pub(crate) curve: Curve,
}

impl Default for Link {
    fn default() -> Self {
        Self { curve: Curve::new(Shape::Line) }
    }
}

impl Link {
    /// Takes what a transfer took. One that took no time, or more than a day, is counted and left out.
    pub fn record(&self, bytes: u64, ns: u64) {
        if ns == 0 || ns > WALL_NS_MAX {
            return self.curve.refuse();
        }
        self.curve.record(bytes, ns, None);
    }

    /// What a transfer takes. As long as nothing is known: [`DEFAULT_LATENCY_NS`], and [`DEFAULT_BYTE_NS`] a byte, of the source [`EstimateSource::Unknown`].
    #[inline]
    #[must_use]
    pub fn estimate(&self, bytes: u64) -> Estimate {
        self.curve.estimate(bytes, ordinary)
    }

    /// Latency in nanoseconds, and nanoseconds a byte, as far as transfers of two sizes tell.
    #[must_use]
    pub fn line(&self) -> Option<(f64, f64)> {
        self.curve.law().map(|line| (line.constant_ns(), line.slope_ns()))
    }

    /// The size classes that are known, in the order of their sizes.
    #[must_use]
    pub fn summaries(&self) -> Vec<Summary> {
        self.curve.summaries()
    }

    /// How often a class was learnt anew.
    #[must_use]
    pub fn drift_count(&self) -> u64 {
        self.curve.drift_count()
    }

    /// How many measurements were refused.
    #[must_use]
    pub fn refused_count(&self) -> u64 {
        self.curve.refused_count()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Noise;
    use super::*;

    #[test]
    fn nothing_is_known_of_a_new_link() {
        let links = LinkModel::new();
        let found = links.estimate(0, 1, 5_000_000);
        assert_eq!((found.mean_ns, found.source, found.count), (1_010_000, EstimateSource::Unknown, 0));
        assert_eq!(found.spread_ns, found.mean_ns, "a guess");
        assert_eq!(links.estimate(1, 1, 5_000_000).mean_ns, 0);
    }

    #[test]
    fn latency_and_bandwidth_are_found_in_noise() {
        let (links, mut noise) = (LinkModel::new(), Noise::new(21));
        // 20 us and 12.5 GB/s.
        let cost = |bytes: u64| 20_000.0 + bytes as f64 * 0.08;
        for _ in 0..200 {
            let bytes = 1 << (6 + (noise.share() * 20.0) as u32);
            let outlier = if noise.share() < 0.02 { 20.0 } else { 1.0 };
            links.record(0, 1, bytes, noise.around(outlier * cost(bytes), 0.1));
        }
        let (latency_ns, byte_ns) = links.resolve(0, 1).line().unwrap();
        assert!((latency_ns / 20_000.0 - 1.0).abs() < 0.15 && (byte_ns / 0.08 - 1.0).abs() < 0.15, "{latency_ns} {byte_ns}");
        for bytes in [0, 5000, 3_000_000, 1 << 30] {
            let found = links.estimate(0, 1, bytes).mean_ns as f64 / cost(bytes);
            assert!((found - 1.0).abs() < 0.25, "{found} of what {bytes} bytes take");
        }
        assert_eq!(links.estimate(1, 0, 0).source, EstimateSource::Unknown, "the way back is another link");
    }

    #[test]
    fn one_size_scales_the_ordinary_link() {
        let link = Link::default();
        link.record(64, 20_000);
        let found = link.estimate(1 << 20);
        assert_eq!(found.source, EstimateSource::Scaled);
        assert!((found.mean_ns as f64 / (2.0 * ordinary((1 << 20) as f64)) - 1.0).abs() < 0.01, "{found:?}");
        assert_eq!(link.line(), None);
        link.record(64, 0);
        link.record(64, u64::MAX);
        assert_eq!((link.refused_count(), link.drift_count(), link.summaries().len()), (2, 0, 1));
    }

    #[test]
    fn links_are_found_by_names() {
        let links = LinkModel::new();
        links.entry("host", "gpu").record(100, 777);
        links.record(0, 2, 100, 5);
        links.name_space(0, "host");
        links.name_space(2, "gpu");
        assert_eq!(links.estimate(0, 2, 100).mean_ns, 777);
        links.record(2, 0, 100, 5);
        links.record(2, 3, 100, 5);
        let named: Vec<_> = links.links().into_iter().map(|(from, to, _)| format!("{from} {to}")).collect();
        assert_eq!(named, ["gpu host", "host gpu"]);
    }
}
