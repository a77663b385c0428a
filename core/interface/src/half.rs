//! Numbers of 16 bits.

use std::fmt;

/// A floating-point number of 16 bits (IEEE 754 binary16): one sign, five bits of exponent, ten of fraction. For storage: the host computes with `f32`.
#[repr(transparent)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct F16(
    /// The bits.
    pub u16,
);

impl F16 {
    /// The number nearest to `value`; of two as near the even one. What is too large becomes infinity.
    pub fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        let sign = (bits >> 16 & 0x8000) as u16;
        let magnitude = bits & 0x7fff_ffff;
        if magnitude > 0x7f80_0000 {
            return Self(sign | 0x7e00);
        }
        // From 65520 on the nearest number is beyond the largest one, 65504.
        if magnitude >= 0x477f_f000 {
            return Self(sign | 0x7c00);
        }
        // Below 2^-14 the numbers lie as far apart as they do there: adding a number whose last bit is theirs rounds.
        if magnitude < 0x3880_0000 {
            let aligned = f32::from_bits(magnitude) + 0.5;
            return Self(sign | (aligned.to_bits() - 0.5f32.to_bits()) as u16);
        }
        let is_odd = magnitude >> 13 & 1;
        let rounded = magnitude + 0xfff + is_odd;
        Self(sign | ((rounded - 0x3800_0000) >> 13) as u16)
    }

    /// The same number.
    pub fn to_f32(self) -> f32 {
        let sign = if self.0 & 0x8000 == 0 { 1.0 } else { -1.0 };
        let exponent = self.0 >> 10 & 0x1f;
        let fraction = u32::from(self.0 & 0x3ff);
        match exponent {
            0 => sign * fraction as f32 * 2f32.powi(-24),
            0x1f if fraction != 0 => f32::NAN,
            0x1f => sign * f32::INFINITY,
            _ => sign * f32::from_bits((u32::from(exponent) + 112) << 23 | fraction << 13),
        }
    }
}

impl fmt::Debug for F16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_f32().fmt(f)
    }
}

impl fmt::Display for F16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_f32().fmt(f)
    }
}

impl From<F16> for f32 {
    fn from(number: F16) -> Self {
        number.to_f32()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_survives_the_way_to_f32_and_back() {
        for bits in 0..=u16::MAX {
            let number = F16(bits);
            if number.to_f32().is_nan() {
                assert!(F16::from_f32(number.to_f32()).to_f32().is_nan());
            } else {
                assert_eq!(F16::from_f32(number.to_f32()), number, "{bits:#06x}");
            }
        }
    }

    #[test]
    fn numbers_in_between_are_rounded_to_the_nearest_and_ties_to_even() {
        for bits in 0..0x7bff {
            let (low, high) = (F16(bits), F16(bits + 1));
            let middle = (low.to_f32() + high.to_f32()) / 2.0;
            let even = if bits & 1 == 0 { low } else { high };
            assert_eq!(F16::from_f32(middle), even, "{middle}");
            assert_eq!(F16::from_f32(middle.next_down()), low, "{middle}");
            assert_eq!(F16::from_f32(middle.next_up()), high, "{middle}");
        }
        assert_eq!(F16::from_f32(65519.0).to_f32(), 65504.0);
        assert_eq!(F16::from_f32(65520.0).to_f32(), f32::INFINITY);
        assert_eq!(F16::from_f32(-1e30).to_f32(), f32::NEG_INFINITY);
    }
}
