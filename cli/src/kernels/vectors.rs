//! Vectors and statistics.

use poniard::KernelError;

use super::Definition;
use super::limits::{MAX_NUMBERS, whole};
use super::numbers::same_length;
use super::random::SplitMix64;
use super::value::{Image, Matrix, Vector};

/// The most bins of a histogram.
const MAX_BINS: usize = 1 << 20;

/// The most streams: exact in a number.
const MAX_STREAM: usize = 1 << 48;

pub(super) fn definitions(seed: u64) -> Vec<Definition> {
    vec![
        Definition::new("range", "Numbers one after the other: 0, 1, 2, …, or from `start` in steps of `step`.")
            .form(["count"], |count: &f64| range(*count, 0.0, 1.0))
            .form(["count", "start", "step"], |count: &f64, start: &f64, step: &f64| range(*count, *start, *step)),
        Definition::new("random-vector", "Uniform in 0 to 1, from the run's seed; different streams are independent (0 unless given).")
            .form(["count"], move |count: &f64| random(*count, seed, 0.0, SplitMix64::next_unit))
            .form(["count", "stream"], move |count: &f64, stream: &f64| random(*count, seed, *stream, SplitMix64::next_unit)),
        Definition::new(
            "random-normal",
            "Standard normal numbers, from the run's seed; different streams are independent (0 unless given).",
        )
        .form(["count"], move |count: &f64| random(*count, seed, 0.0, SplitMix64::next_normal))
        .form(["count", "stream"], move |count: &f64, stream: &f64| random(*count, seed, *stream, SplitMix64::next_normal)),
        Definition::new("join", "All inputs one after the other.").repeated("part", |parts: &[&Vector]| {
            let count = parts.iter().map(|part| part.len()).sum::<usize>();
            if count > MAX_NUMBERS {
                return Err(KernelError::new(format!("a vector of {count} is over the limit of {MAX_NUMBERS}")));
            }
            Ok(parts.iter().flat_map(|part| part.iter().copied()).collect::<Vector>())
        }),
        Definition::new("collect", "A vector of all inputs.")
            .repeated("value", |values: &[&f64]| values.iter().map(|value| **value).collect::<Vector>()),
        Definition::new("element", "The element at an index, counted from 0.").form(["vector", "index"], |vector: &Vector, index: &f64| {
            let Some(last) = vector.len().checked_sub(1) else { return Err(empty()) };
            Ok(vector[whole("index", *index, 0, last)?])
        }),
        Definition::new("length", "The number of elements of a vector or of characters of a text.")
            .form(["value"], |vector: &Vector| vector.len() as f64)
            .form(["value"], |text: &String| text.chars().count() as f64),
        Definition::new("sum", "The sum of all elements, 0 for none.")
            .form(["values"], |values: &Vector| sum(values.iter().copied()))
            .form(["values"], |values: &Matrix| sum(values.iter().copied())),
        Definition::new("mean", "The arithmetic mean of all elements; fails for none.")
            .form(["values"], |values: &Vector| mean(values.iter().copied(), values.len()))
            .form(["values"], |values: &Matrix| mean(values.iter().copied(), values.len()))
            .form(["values"], |values: &Image| mean(values.iter().map(|sample| f64::from(*sample)), values.len())),
        Definition::new("variance", "The mean squared distance from the mean (divided by n); fails for none.")
            .form(["values"], |values: &Vector| variance(values)),
        Definition::new("standard-deviation", "The square root of the variance.")
            .form(["values"], |values: &Vector| variance(values).map(f64::sqrt)),
        Definition::new("minimum", "The least element; fails for none and on NaN.")
            .form(["values"], |values: &Vector| sorted(values).and_then(|sorted| sorted.first().copied().ok_or_else(empty))),
        Definition::new("maximum", "The greatest element; fails for none and on NaN.")
            .form(["values"], |values: &Vector| sorted(values).and_then(|sorted| sorted.last().copied().ok_or_else(empty))),
        Definition::new("median", "The middle element, or the mean of the two; fails for none and on NaN.")
            .form(["values"], |values: &Vector| quantile(values, 0.5)),
        Definition::new(
            "quantile",
            "The value below which a fraction (0 to 1) of the elements lies, linear between elements; fails for none and on NaN.",
        )
        .form(["values", "fraction"], |values: &Vector, fraction: &f64| quantile(values, *fraction)),
        Definition::new("norm", "The Euclidean norm of a vector, the Frobenius norm of a matrix.")
            .form(["values"], |values: &Vector| norm(values.iter().copied()))
            .form(["values"], |values: &Matrix| norm(values.iter().copied())),
        Definition::new("dot", "The inner product of two vectors.").form(["a", "b"], |a: &Vector, b: &Vector| {
            same_length(a.len(), b.len())?;
            Ok(a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>())
        }),
        Definition::new("scale", "Every element times a factor.")
            .form(["values", "factor"], |values: &Vector, factor: &f64| values.iter().map(|value| value * factor).collect::<Vector>())
            .form(["values", "factor"], |values: &Matrix, factor: &f64| values.map(|value| value * factor))
            .form(["values", "factor"], |values: &Image, factor: &f64| values.map(|value| (f64::from(*value) * factor) as f32)),
        Definition::new("shift", "Every element plus a number.")
            .form(["values", "offset"], |values: &Vector, offset: &f64| values.iter().map(|value| value + offset).collect::<Vector>())
            .form(["values", "offset"], |values: &Matrix, offset: &f64| values.map(|value| value + offset))
            .form(["values", "offset"], |values: &Image, offset: &f64| values.map(|value| (f64::from(*value) + offset) as f32)),
        Definition::new("axpy", "A number times x, plus y.").form(["a", "x", "y"], |a: &f64, x: &Vector, y: &Vector| {
            same_length(x.len(), y.len())?;
            Ok(x.iter().zip(y).map(|(x, y)| a * x + y).collect::<Vector>())
        }),
        Definition::new("sort", "The elements from least to greatest; fails on NaN.").form(["values"], |values: &Vector| sorted(values)),
        Definition::new("reverse", "The elements last to first.")
            .form(["values"], |values: &Vector| values.iter().rev().copied().collect::<Vector>()),
        Definition::new("cumulative-sum", "Each element plus all before it.").form(["values"], |values: &Vector| {
            values
                .iter()
                .scan(0.0, |total, value| {
                    *total += value;
                    Some(*total)
                })
                .collect::<Vector>()
        }),
        Definition::new(
            "histogram",
            "How many elements lie in each of `bins` equal parts: of minimum to maximum for a vector, of 0 to 1 for an image's brightness.",
        )
        .form(["values", "bins"], |values: &Vector, bins: &f64| {
            let bins = whole("bins", *bins, 1, MAX_BINS)?;
            let sorted = sorted(values)?;
            let (Some(least), Some(greatest)) = (sorted.first(), sorted.last()) else { return Ok(vec![0.0; bins]) };
            histogram(values.iter().copied(), *least, *greatest, bins)
        })
        .form(["values", "bins"], |image: &Image, bins: &f64| {
            let bins = whole("bins", *bins, 1, MAX_BINS)?;
            let grey = super::images::grey(image);
            histogram(grey.iter().map(|sample| f64::from(*sample).clamp(0.0, 1.0)), 0.0, 1.0, bins)
        }),
    ]
}

fn empty() -> KernelError {
    KernelError::new("the vector is empty")
}

fn range(count: f64, start: f64, step: f64) -> Result<Vector, KernelError> {
    let count = whole("count", count, 0, MAX_NUMBERS)?;
    Ok((0..count).map(|index| start + step * index as f64).collect())
}

fn random(count: f64, seed: u64, stream: f64, next: fn(&mut SplitMix64) -> f64) -> Result<Vector, KernelError> {
    let count = whole("count", count, 0, MAX_NUMBERS)?;
    let mut generator = generator(seed, stream)?;
    Ok((0..count).map(|_| next(&mut generator)).collect())
}

/// The generator of a stream that a graph file names.
pub(super) fn generator(seed: u64, stream: f64) -> Result<SplitMix64, KernelError> {
    Ok(SplitMix64::new(seed, whole("stream", stream, 0, MAX_STREAM)? as u64))
}

/// Neumaier's compensated sum: a plain one over millions of elements loses digits that a reader of a graph's result would miss.
fn sum(values: impl Iterator<Item = f64>) -> f64 {
    let (mut total, mut lost) = (0.0_f64, 0.0);
    for value in values {
        let next = total + value;
        lost += if total.abs() >= value.abs() { (total - next) + value } else { (value - next) + total };
        total = next;
    }
    // Once the total is infinite or NaN the correction is a meaningless NaN.
    if total.is_finite() { total + lost } else { total }
}

fn mean(values: impl Iterator<Item = f64>, count: usize) -> Result<f64, KernelError> {
    if count == 0 { Err(KernelError::new("the mean of no elements is not defined")) } else { Ok(sum(values) / count as f64) }
}

fn variance(values: &[f64]) -> Result<f64, KernelError> {
    let centre = mean(values.iter().copied(), values.len())?;
    mean(values.iter().map(|value| (value - centre) * (value - centre)), values.len())
}

fn sorted(values: &[f64]) -> Result<Vector, KernelError> {
    if values.iter().any(|value| value.is_nan()) {
        return Err(KernelError::new("the vector holds a NaN, which has no place in an order"));
    }
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    Ok(sorted)
}

fn quantile(values: &[f64], fraction: f64) -> Result<f64, KernelError> {
    if !(0.0..=1.0).contains(&fraction) {
        return Err(KernelError::new(format!("fraction must be from 0 to 1, not {fraction}")));
    }
    let sorted = sorted(values)?;
    let last = sorted.len().checked_sub(1).ok_or_else(empty)?;
    let position = fraction * last as f64;
    let below = (position.floor() as usize).min(last);
    let weight = position - below as f64;
    // Equal neighbours, infinities among them, are returned as they are: interpolation would make inf - inf.
    match sorted.get(below + 1) {
        Some(above) if weight > 0.0 && *above != sorted[below] => Ok(sorted[below] * (1.0 - weight) + above * weight),
        _ => Ok(sorted[below]),
    }
}

/// Scaled by the greatest element, so that squares neither overflow nor vanish.
fn norm(values: impl Iterator<Item = f64> + Clone) -> f64 {
    if values.clone().any(f64::is_nan) {
        return f64::NAN;
    }
    let greatest = values.clone().fold(0.0, |greatest: f64, value| greatest.max(value.abs()));
    if greatest == 0.0 || greatest.is_infinite() {
        return greatest;
    }
    greatest * values.map(|value| (value / greatest) * (value / greatest)).sum::<f64>().sqrt()
}

fn histogram(values: impl Iterator<Item = f64>, least: f64, greatest: f64, bins: usize) -> Result<Vector, KernelError> {
    let width = greatest - least;
    if !width.is_finite() {
        return Err(KernelError::new("the elements lie too far apart for a histogram"));
    }
    let mut counts = vec![0.0; bins];
    for value in values {
        let part = if width > 0.0 { (value - least) / width * bins as f64 } else { 0.0 };
        // The greatest element belongs to the last bin.
        counts[(part as usize).min(bins - 1)] += 1.0;
    }
    Ok(counts)
}
