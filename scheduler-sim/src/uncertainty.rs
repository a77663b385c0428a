//! What tasks take, beside what is written down, and beside what those who decide believe.
//!
//! Random factors are made of arithmetic and square roots only, which are the same on every machine; the functions of a system's library are not.

use std::fmt;
use std::str::FromStr;

use poniard::policy::Random;

/// How long tasks take.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Durations {
    /// As is written down.
    #[default]
    Exact,
    /// All so many times as long.
    Scaled(f64),
    /// Each by a lognormal factor of its own, with mean 1 and this coefficient of variation.
    Lognormal(f64),
    /// The same with what the platform says of the code and the processor: spread by mean.
    Measured,
    /// As another task of the same code that is drawn by lot.
    Sampled,
}

/// What policies and planners believe that tasks take.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Estimates {
    /// What they do take.
    #[default]
    Exact,
    /// What tasks of the same code do in the mean.
    Mean,
    /// What is written down.
    User,
    /// What they do take, times a factor between this one's inverse and itself, for each task and kind of processor another one.
    Wrong(f64),
    /// Nothing: all the same, and nothing was measured.
    Blind,
}

/// The range of factors that say how wrong something is.
const FACTORS: std::ops::RangeInclusive<f64> = 1e-6..=1e6;

/// A name, and what is made of the number behind it.
type Numbered<T> = (&'static str, fn(f64) -> T);

/// A name, and a number behind a colon if it takes one.
fn parsed<T: Copy>(text: &str, plain: &[(&str, T)], numbered: &[Numbered<T>]) -> Result<T, String> {
    let names = || {
        let numbered = numbered.iter().map(|(name, _)| format!("{name}:X"));
        plain.iter().map(|(name, _)| (*name).to_owned()).chain(numbered).collect::<Vec<_>>().join(", ")
    };
    if let Some((_, value)) = plain.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let (name, number) = text.split_once(':').unwrap_or((text, ""));
    let Some((_, make)) = numbered.iter().find(|(known, _)| *known == name) else {
        return Err(format!("`{text}` is none of {}", names()));
    };
    let number: Option<f64> = number.parse().ok().filter(|number| FACTORS.contains(number));
    number.map(make).ok_or_else(|| format!("`{text}` has no number from 1e-6 to 1e6 behind a colon"))
}

impl FromStr for Durations {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = [("exact", Self::Exact), ("measured", Self::Measured), ("sampled", Self::Sampled)];
        parsed(text, &plain, &[("lognormal", Self::Lognormal), ("scaled", Self::Scaled)])
    }
}

impl FromStr for Estimates {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = [("exact", Self::Exact), ("mean", Self::Mean), ("user", Self::User), ("blind", Self::Blind)];
        parsed(text, &plain, &[("wrong", Self::Wrong)])
    }
}

impl fmt::Display for Durations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("exact"),
            Self::Scaled(factor) => write!(f, "scaled:{factor}"),
            Self::Lognormal(variation) => write!(f, "lognormal:{variation}"),
            Self::Measured => f.write_str("measured"),
            Self::Sampled => f.write_str("sampled"),
        }
    }
}

impl fmt::Display for Estimates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("exact"),
            Self::Mean => f.write_str("mean"),
            Self::User => f.write_str("user"),
            Self::Wrong(factor) => write!(f, "wrong:{factor}"),
            Self::Blind => f.write_str("blind"),
        }
    }
}

/// Between 0 and 1.
fn uniform(random: &mut Random) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// About standard normal: the sum of twelve uniform numbers less six, which no value is further than six from.
pub(crate) fn normal(random: &mut Random) -> f64 {
    (0..12).map(|_| uniform(random)).sum::<f64>() - 6.0
}

/// Exponential with mean 1.
pub(crate) fn exponential(random: &mut Random) -> f64 {
    -ln(1.0 - uniform(random))
}

/// A lognormal factor with mean 1 and this coefficient of variation, from a standard normal number.
pub(crate) fn lognormal(normal: f64, variation: f64) -> f64 {
    let variance = ln(1.0 + variation * variation);
    exp(variance.sqrt() * normal - variance / 2.0)
}

/// Between the inverse of `factor` and itself, its logarithm uniform.
pub(crate) fn wrong(random: &mut Random, factor: f64) -> f64 {
    exp(ln(factor) * (2.0 * uniform(random) - 1.0))
}

/// e to the power of `x`: halved until a few terms of the series are enough, then squared as often.
pub(crate) fn exp(x: f64) -> f64 {
    const HALVES: i32 = 10;
    let small = x / f64::from(1 << HALVES);
    let series = (1..=12).rev().fold(1.0, |sum, term| 1.0 + small * sum / f64::from(term));
    (0..HALVES).fold(series, |power, _| power * power)
}

/// The natural logarithm of a positive number: the series of atanh on its mantissa, and its exponent.
pub(crate) fn ln(x: f64) -> f64 {
    let exponent = ((x.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    let mantissa = f64::from_bits((x.to_bits() & ((1 << 52) - 1)) | (1023 << 52));
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let series: f64 = (0..30).rev().fold(0.0, |sum, term| sum * ratio * ratio + 1.0 / f64::from(2 * term + 1));
    f64::from(exponent) * std::f64::consts::LN_2 + 2.0 * ratio * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for text in ["exact", "measured", "sampled", "lognormal:0.3", "scaled:2"] {
            assert_eq!(text.parse::<Durations>().unwrap().to_string(), text);
        }
        for text in ["exact", "mean", "user", "blind", "wrong:1.5"] {
            assert_eq!(text.parse::<Estimates>().unwrap().to_string(), text);
        }
        assert_eq!("exactly".parse::<Estimates>().unwrap_err(), "`exactly` is none of exact, mean, user, blind, wrong:X");
        for text in ["scaled", "scaled:", "scaled:-1", "scaled:nan", "scaled:1e9"] {
            assert_eq!(text.parse::<Durations>().unwrap_err(), format!("`{text}` has no number from 1e-6 to 1e6 behind a colon"));
        }
    }

    #[test]
    fn factors_have_the_mean_and_the_spread_that_they_should() {
        for x in [1e-6, 0.3, 1.0, 1.09, 2.0, 1e6] {
            assert!((ln(x) - x.ln()).abs() <= 1e-12, "{x}");
            assert!((exp(x.ln()) - x).abs() <= 1e-10 * x, "{x}");
        }
        let mut random = Random::new(1);
        let factors: Vec<f64> = (0..100_000).map(|_| lognormal(normal(&mut random), 0.3)).collect();
        let mean = factors.iter().sum::<f64>() / 1e5;
        let variance = factors.iter().map(|factor| (factor - mean).powi(2)).sum::<f64>() / 1e5;
        assert!((mean - 1.0).abs() < 0.01 && (variance.sqrt() - 0.3).abs() < 0.01, "{mean}, {variance}");
        let wrongs: Vec<f64> = (0..10_000).map(|_| wrong(&mut random, 2.0)).collect();
        let (least, most) = wrongs.iter().fold((f64::MAX, 0.0_f64), |(least, most), factor| (least.min(*factor), most.max(*factor)));
        assert!((0.5..0.51).contains(&least) && (1.98..=2.0).contains(&most), "{least} to {most}");
    }
}
