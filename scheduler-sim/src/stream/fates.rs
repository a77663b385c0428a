//! How graphs of a stream fared.

/// How a graph fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// What it takes at least if it has the machine for itself ([`Problem::lower_bound_ns`](crate::Problem::lower_bound_ns)), in nanoseconds.
    pub alone_ns: u64,
    /// From its arrival to the end of its last task, in nanoseconds; `None` if it was cancelled before.
    pub response_ns: Option<u64>,
    /// How many of its tasks ran.
    pub ran: usize,
    /// How long those took all together, in nanoseconds.
    pub worked_ns: u64,
}

impl Fate {
    /// Its response time as a multiple of what it takes at least if it has the machine for itself. `None` if it was cancelled, or takes no time.
    #[must_use]
    pub fn slowdown(&self) -> Option<f64> {
        let response_ns = self.response_ns?;
        (self.alone_ns > 0).then(|| response_ns as f64 / self.alone_ns as f64)
    }
}

/// How all graphs fared, by arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fates(pub Vec<Fate>);

/// How values are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The one in the middle; of two the larger.
    pub median: f64,
    /// No more than one in twenty is larger.
    pub percentile_95: f64,
    /// The largest.
    pub most: f64,
}

impl Spread {
    /// Of these; `None` of none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let most = *values.last()?;
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let at = (values.len() * 19).div_ceil(20).max(1) - 1;
        Some(Self { mean, median: values[values.len() / 2], percentile_95: values[at], most })
    }
}

impl Fates {
    /// Response times in nanoseconds, of those that were not cancelled.
    #[must_use]
    pub fn response_ns(&self) -> Option<Spread> {
        Spread::of(self.0.iter().filter_map(|fate| fate.response_ns).map(|ns| ns as f64))
    }

    /// Slowdowns.
    #[must_use]
    pub fn slowdown(&self) -> Option<Spread> {
        Spread::of(self.0.iter().filter_map(Fate::slowdown))
    }

    /// Jain's index of the slowdowns: 1 if all are slowed down alike, 1/n if one bears everything. `None` if nothing was over.
    #[must_use]
    pub fn fairness(&self) -> Option<f64> {
        jain_index(self.0.iter().filter_map(Fate::slowdown))
    }

    /// How long tasks of cancelled graphs ran, in nanoseconds.
    #[must_use]
    pub fn wasted_ns(&self) -> u64 {
        self.0.iter().filter(|fate| fate.response_ns.is_none()).map(|fate| fate.worked_ns).fold(0, u64::saturating_add)
    }
}

/// How evenly something is shared out: the square of the sum over the number times the sum of squares. From Rajendra Jain, Dah-Ming Chiu and William Hawe, "A quantitative measure of
/// fairness and discrimination for resource allocation in shared computer systems", 1984. `None` of nothing.
#[must_use]
pub fn jain_index(shares: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (count, sum, squares) = shares.into_iter().fold((0.0, 0.0, 0.0), |(n, sum, squares), x| (n + 1.0, sum + x, squares + x * x));
    (squares > 0.0).then(|| sum * sum / (count * squares))
}
