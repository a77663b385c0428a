//! How much better another kind of processor has to be before a code moves to it.
//!
//! Two kinds that are about equally fast for a code would otherwise take turns with every measurement, and the data would travel with them.

use super::{Candidate, Estimate};

/// A move has to save this part of what the task costs where it is: a tenth.
const MARGIN_DIVISOR: u64 = 10;

/// By how much `other` has to finish earlier than `stay`, in nanoseconds: a tenth of what the task costs at `stay`, or, where that is more, what the two
/// estimates may be wrong by. That is the spread of single measurements over the square root of their number, so a bimodal cost does not forbid moves for ever.
pub(super) fn margin_ns(stay: &Candidate, other: &Candidate) -> u64 {
    (stay.cost_ns() / MARGIN_DIVISOR).max(error_ns(stay.execution).saturating_add(error_ns(other.execution)))
}

/// How far the mean itself may lie from the truth: the standard error.
fn error_ns(estimate: Estimate) -> u64 {
    estimate.spread_ns / u64::from(estimate.count.isqrt().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_or_what_the_estimates_may_be_wrong_by() {
        let at = |mean_ns, spread_ns, count| Candidate { execution: Estimate { mean_ns, spread_ns, count }, ..Candidate::default() };
        assert_eq!(margin_ns(&at(1000, 0, 9), &at(500, 0, 9)), 100);
        assert_eq!(margin_ns(&at(1000, 300, 9), &at(500, 60, 4)), 130);
        assert_eq!(margin_ns(&at(1000, 300, 900), &at(500, 60, 400)), 100);
        assert_eq!(margin_ns(&Candidate { transfer_ns: 3000, ..at(1000, 0, 9) }, &at(500, 0, 0)), 400);
    }
}
