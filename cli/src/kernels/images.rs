//! Images: generated, filtered, resized.

use ndarray::{Axis, Zip, s};
use poniard::KernelError;

use super::Definition;
use super::limits::{MAX_EDGE, image_size, whole};
use super::value::{Image, Matrix};
use super::vectors::generator;

/// The longest edge of a convolution's matrix.
const MAX_STENCIL: usize = 63;

/// The greatest standard deviation of a blur, in pixels.
const MAX_SIGMA: f64 = 250.0;

/// Shares of red, green and blue in brightness. Source: ITU-R BT.709.
const BRIGHTNESS: [f32; 3] = [0.2126, 0.7152, 0.0722];

pub(super) fn definitions(seed: u64) -> Vec<Definition> {
    vec![
        Definition::new("gradient-image", "Colours that run from left to right (red), top to bottom (green) and down both (blue).").form(
            ["width", "height"],
            |width: &f64, height: &f64| {
                let (width, height) = image_size(*width, *height)?;
                let part = |position: usize, edge: usize| position as f32 / (edge.max(2) - 1) as f32;
                Ok(Image::from_shape_fn((height, width, 3), |(row, column, channel)| match channel {
                    0 => part(column, width),
                    1 => part(row, height),
                    _ => 1.0 - (part(column, width) + part(row, height)) / 2.0,
                }))
            },
        ),
        Definition::new("checkerboard", "Grey squares, black and white in turn, black in the corner; `cell` is their edge in pixels.").form(
            ["width", "height", "cell"],
            |width: &f64, height: &f64, cell: &f64| {
                let (width, height) = image_size(*width, *height)?;
                let cell = whole("cell", *cell, 1, MAX_EDGE)?;
                Ok(Image::from_shape_fn((height, width, 1), |(row, column, _)| ((row / cell + column / cell) % 2) as f32))
            },
        ),
        Definition::new("noise-image", "Grey noise, uniform, from the run's seed; different streams are independent (0 unless given).")
            .form(["width", "height"], move |width: &f64, height: &f64| noise(*width, *height, seed, 0.0))
            .form(["width", "height", "stream"], move |width: &f64, height: &f64, stream: &f64| noise(*width, *height, seed, *stream)),
        Definition::new("grey", "The brightness (BT.709) as an image of one channel.").form(["image"], |image: &Image| grey(image)),
        Definition::new("invert", "1 less every sample.").form(["image"], |image: &Image| image.map(|sample| 1.0 - sample)),
        Definition::new("blur", "A Gaussian blur with a standard deviation in pixels; the border is continued outward.")
            .form(["image", "sigma"], |image: &Image, sigma: &f64| blur(image, *sigma)),
        Definition::new("convolve", "Convolution of each channel with a matrix of odd sides (63 at most), mirrored as mathematics has it; the border is continued outward.")
            .form(["image", "matrix"], |image: &Image, matrix: &Matrix| convolve(image, matrix)),
        Definition::new("edges", "The steepness of the brightness: the length of the Sobel gradient, over 4.").form(["image"], |image: &Image| edges(image)),
        Definition::new("resize", "Another size, by linear interpolation that averages when it shrinks.").form(
            ["image", "width", "height"],
            |image: &Image, width: &f64, height: &f64| {
                let (width, height) = image_size(*width, *height)?;
                Ok(resample(&resample(image, Axis(1), width), Axis(0), height))
            },
        ),
        Definition::new("crop", "A part of the image; `left` and `top` count from 0.").form(
            ["image", "left", "top", "width", "height"],
            |image: &Image, left: &f64, top: &f64, width: &f64, height: &f64| {
                let (rows, columns, _) = image.dim();
                let (left, top) = (whole("left", *left, 0, columns)?, whole("top", *top, 0, rows)?);
                let (width, height) = (whole("width", *width, 1, MAX_EDGE)?, whole("height", *height, 1, MAX_EDGE)?);
                if left + width > columns || top + height > rows {
                    return Err(KernelError::new(format!("{width}x{height} pixels from {left},{top} are not all within the {columns}x{rows} image")));
                }
                Ok(image.slice(s![top..top + height, left..left + width, ..]).to_owned())
            },
        ),
        Definition::new("threshold", "1 where a sample is at least the level, else 0.")
            .form(["image", "level"], |image: &Image, level: &f64| image.map(|sample| f32::from(u8::from(f64::from(*sample) >= *level)))),
        Definition::new("blend", "Two images of one size mixed: weight 0 is the first, 1 the second; a grey one goes with a coloured one.")
            .form(["first", "second", "weight"], |first: &Image, second: &Image, weight: &f64| blend(first, second, *weight as f32)),
        Definition::new("image-matrix", "The brightness as a matrix, a row for each row of pixels.")
            .form(["image"], |image: &Image| grey(image).index_axis(Axis(2), 0).map(|sample| f64::from(*sample))),
        Definition::new("matrix-image", "A matrix as a grey image: 0 is black, 1 is white.").form(["matrix"], |matrix: &Matrix| {
            let (rows, columns) = matrix.dim();
            image_size(columns as f64, rows as f64)?;
            Ok(matrix.map(|value| *value as f32).insert_axis(Axis(2)))
        }),
    ]
}

fn noise(width: f64, height: f64, seed: u64, stream: f64) -> Result<Image, KernelError> {
    let (width, height) = image_size(width, height)?;
    let mut generator = generator(seed, stream)?;
    Ok(Image::from_shape_simple_fn((height, width, 1), || generator.next_unit() as f32))
}

/// The brightness of `image`, one channel.
pub(super) fn grey(image: &Image) -> Image {
    let (rows, columns, channels) = image.dim();
    if channels != 3 {
        return image.clone();
    }
    Image::from_shape_fn((rows, columns, 1), |(row, column, _)| {
        (0..3).map(|channel| BRIGHTNESS[channel] * image[[row, column, channel]]).sum()
    })
}

/// Weighted sums along `axis`: output `position` is the sum of `weight * lane[index]` over `taps(position)`.
///
/// Blur and resize are both separable, so they are this twice, with different taps.
fn along(image: &Image, axis: Axis, length: usize, taps: impl Fn(usize) -> Vec<(usize, f32)>) -> Image {
    let mut shape = image.raw_dim();
    shape[axis.index()] = length;
    let mut result = Image::zeros(shape);
    for position in 0..length {
        let mut into = result.index_axis_mut(axis, position);
        for (index, weight) in taps(position) {
            into.scaled_add(weight, &image.index_axis(axis, index));
        }
    }
    result
}

/// `position + offset`, kept within an edge of `length`.
fn clamped(position: usize, offset: isize, length: usize) -> usize {
    position.saturating_add_signed(offset).min(length.saturating_sub(1))
}

fn blur(image: &Image, sigma: f64) -> Result<Image, KernelError> {
    if !(0.0..=MAX_SIGMA).contains(&sigma) {
        return Err(KernelError::new(format!("sigma must be from 0 to {MAX_SIGMA}, not {sigma}")));
    }
    // Beyond three standard deviations lies 0.3 % of the weight.
    let radius = (3.0 * sigma).ceil() as isize;
    // Narrower than this, all weight is on the centre, and sigma squared would underflow.
    if sigma < 1e-3 {
        return Ok(image.clone());
    }
    let weights: Vec<f64> = (-radius..=radius).map(|offset| (-(offset * offset) as f64 / (2.0 * sigma * sigma)).exp()).collect();
    let total: f64 = weights.iter().sum();
    let pass = |image: &Image, axis: Axis| {
        let length = image.len_of(axis);
        along(image, axis, length, |position| {
            (-radius..=radius).zip(&weights).map(|(offset, weight)| (clamped(position, offset, length), (weight / total) as f32)).collect()
        })
    };
    Ok(pass(&pass(image, Axis(1)), Axis(0)))
}

fn convolve(image: &Image, matrix: &Matrix) -> Result<Image, KernelError> {
    let (height, width) = matrix.dim();
    if height % 2 == 0 || width % 2 == 0 || height > MAX_STENCIL || width > MAX_STENCIL {
        return Err(KernelError::new(format!("the matrix must have odd sides of at most {MAX_STENCIL}, not {height}x{width}")));
    }
    let (rows, columns, channels) = image.dim();
    let (reach_down, reach_right) = ((height / 2) as isize, (width / 2) as isize);
    let taps: Vec<(isize, isize, f32)> = matrix
        .indexed_iter()
        .filter(|(_, weight)| **weight != 0.0)
        .map(|((row, column), weight)| (reach_down - row as isize, reach_right - column as isize, *weight as f32))
        .collect();
    Ok(Image::from_shape_fn((rows, columns, channels), |(row, column, channel)| {
        taps.iter()
            .map(|(down, right, weight)| weight * image[[clamped(row, *down, rows), clamped(column, *right, columns), channel]])
            .sum()
    }))
}

fn edges(image: &Image) -> Result<Image, KernelError> {
    let grey = grey(image);
    let across = ndarray::arr2(&[[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]]);
    let mut result = convolve(&grey, &across)?;
    let down = convolve(&grey, &across.t().to_owned())?;
    Zip::from(&mut result).and(&down).for_each(|across, down| *across = across.hypot(*down) / 4.0);
    Ok(result)
}

/// A triangle filter as wide as the coarser of the two grids.
fn resample(image: &Image, axis: Axis, length: usize) -> Image {
    let old = image.len_of(axis);
    if old == length {
        return image.clone();
    }
    let step = old as f64 / length as f64;
    let support = step.max(1.0);
    along(image, axis, length, |position| {
        let centre = (position as f64 + 0.5) * step - 0.5;
        let (first, last) = ((centre - support).ceil() as isize, (centre + support).floor() as isize);
        let taps: Vec<(usize, f64)> = (first..=last)
            .map(|index| (clamped(0, index, old), 1.0 - (index as f64 - centre).abs() / support))
            .filter(|(_, weight)| *weight > 0.0)
            .collect();
        let total: f64 = taps.iter().map(|(_, weight)| weight).sum();
        taps.into_iter().map(|(index, weight)| (index, (weight / total) as f32)).collect()
    })
}

fn blend(first: &Image, second: &Image, weight: f32) -> Result<Image, KernelError> {
    let ((rows, columns, channels), (other_rows, other_columns, other_channels)) = (first.dim(), second.dim());
    if (rows, columns) != (other_rows, other_columns) {
        return Err(KernelError::new(format!("a {columns}x{rows} image does not go with a {other_columns}x{other_rows} image")));
    }
    let shape = (rows, columns, channels.max(other_channels));
    let (Some(first), Some(second)) = (first.broadcast(shape), second.broadcast(shape)) else {
        return Err(KernelError::new(format!("{channels} channels do not go with {other_channels}")));
    };
    Ok(Zip::from(first).and(second).map_collect(|first, second| first * (1.0 - weight) + second * weight))
}
