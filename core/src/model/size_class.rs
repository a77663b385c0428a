//! Classes of sizes: four to an octave.

/// Which of the sizes count as the same: zero is a class of its own, and from there on each power of two has four, equally wide.
///
/// Sizes of a class differ by a quarter at most. Their order is that of the sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SizeClass(u16);

impl SizeClass {
    /// The class of zero bytes.
    pub const ZERO: Self = Self(0);

    /// Tells it from others.
    #[inline]
    pub(crate) fn number(self) -> u16 {
        self.0
    }

    /// The class of so many bytes. The two bits below the highest one are the quarter, as in histograms of the HDR kind: no logarithm is needed.
    #[inline]
    #[must_use]
    pub fn of(bytes: u64) -> Self {
        let Some(octave) = bytes.checked_ilog2() else { return Self::ZERO };
        let quarter = if octave >= 2 { (bytes >> (octave - 2)) & 3 } else { (bytes << (2 - octave)) & 3 };
        Self(1 + 4 * octave as u16 + quarter as u16)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_octave_has_four() {
        let classes = |sizes: &[u64]| sizes.iter().map(|bytes| SizeClass::of(*bytes).0).collect::<Vec<_>>();
        assert_eq!(classes(&[0, 1, 2, 3, 4, 5, 6, 7, 8]), [0, 1, 5, 7, 9, 10, 11, 12, 13]);
        assert_eq!(classes(&[1023, 1024, 1279, 1280, 1535, 1536, 1792, 2047, 2048]), [40, 41, 41, 42, 42, 43, 44, 44, 45]);
        assert_eq!(SizeClass::of(u64::MAX).0, 256);
    }

    proptest! {
        #[test]
        fn larger_sizes_have_no_lower_class(a: u64, b: u64, shift in 0u32..64) {
            let (a, b) = (a >> shift, b >> shift);
            prop_assert_eq!(SizeClass::of(a.min(b)).max(SizeClass::of(a.max(b))), SizeClass::of(a.max(b)));
            if SizeClass::of(a) == SizeClass::of(b) {
                prop_assert!(a.abs_diff(b) <= a.min(b) / 4, "{} and {}", a, b);
            }
        }
    }
}
