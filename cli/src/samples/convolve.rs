//! `convolve`: a filter over a picture in tiles. Each tile first gets a copy of its part with a halo, the rim of neighbours that the filter
//! looks at, so that afterwards no tile needs another one. The filter is a kernel: a device runs it where there is one, and gives the same bytes.
//!
//! The kernel is applied as written, not mirrored, as image programs do. Beyond the picture its outermost pixels repeat. Alpha is kept.

use std::ops::Range;

use poniard::{AllocateError, Buffer, Data, Kernel, Task, buffer};
use serde::{Deserialize, Serialize};

use super::picture::{Picture, WORD_BYTES, colours, encode};
use super::tiling::{Tiling, paste};
use super::{files, limits};
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "convolve",
    summary: "a filter over a PNG picture: tiles with a halo",
    options: &[
        SampleOption { name: "input", meaning: "a PNG picture of any kind (needed)" },
        SampleOption { name: "output", meaning: "a .png file for the result, 8 bits a channel" },
        SampleOption {
            name: "kernel",
            meaning: "edges, blur, sharpen, emboss, sobel, identity, or rows of numbers like \"0,1,0;1,-4,1;0,1,0\"; default edges",
        },
        SampleOption { name: "tile", meaning: "pixels an edge of a tile, default 256" },
    ],
    kernels: true,
    run,
};

/// The kernels that have a name: as the user would write them, and what to divide them by. `|` stands between two whose results become
/// the length of a vector.
const NAMED: &[(&str, &str, f64)] = &[
    ("edges", "-1,-1,-1;-1,8,-1;-1,-1,-1", 1.0),
    ("blur", "1,4,6,4,1;4,16,24,16,4;6,24,36,24,6;4,16,24,16,4;1,4,6,4,1", 256.0),
    ("sharpen", "0,-1,0;-1,5,-1;0,-1,0", 1.0),
    ("emboss", "-2,-1,0;-1,1,1;0,1,2", 1.0),
    ("sobel", "-1,0,1;-2,0,2;-1,0,1|-1,-2,-1;0,0,0;1,2,1", 1.0),
    ("identity", "1", 1.0),
];

/// Bytes that there are.
const BYTES: usize = 256;

/// The most rows and columns of a kernel.
const MOST_EDGE: usize = 31;

/// What to do to each pixel.
#[derive(Debug)]
struct Filter {
    /// Rows and columns of its kernels: odd.
    edge: usize,
    /// One kernel, or two whose results are the parts of a vector; row-major.
    kernels: Vec<Vec<f64>>,
}

impl Filter {
    /// Parses the value of `--kernel`.
    fn parse(text: &str) -> Result<Self, String> {
        let kernels: Vec<Vec<f64>> = if let Some((_, kernels, divisor)) = NAMED.iter().find(|(name, ..)| *name == text) {
            let divided = |kernel: Vec<f64>| kernel.into_iter().map(|weight| weight / divisor).collect();
            kernels.split('|').map(|kernel| parse_kernel(kernel).map(divided)).collect::<Result<_, _>>()?
        } else if text.contains(|c: char| c.is_ascii_digit()) {
            vec![parse_kernel(text)?]
        } else {
            let names: Vec<&str> = NAMED.iter().map(|(name, ..)| *name).collect();
            return Err(format!("`{text}` is neither one of {} nor numbers like \"0,1,0;1,-4,1;0,1,0\"", names.join(", ")));
        };
        Ok(Self { edge: kernels[0].len().isqrt(), kernels })
    }

    /// How far it looks beyond a pixel.
    fn radius(&self) -> usize {
        self.edge / 2
    }

    /// The products of each weight with every byte, of one kernel after the other: see `convolve.wgsl`.
    fn products(&self) -> Result<Buffer<f64>, SampleError> {
        let mut products = limits::zeroed("kernel", BYTES * self.kernels.len() * self.edge * self.edge)?;
        for (products, weight) in products.chunks_exact_mut(BYTES).zip(self.kernels.iter().flatten()) {
            products.iter_mut().zip(0..).for_each(|(product, byte)| *product = weight * f64::from(byte));
        }
        Ok(products)
    }
}

/// Parses rows of numbers: `0,1,0;1,-4,1;0,1,0`.
fn parse_kernel(text: &str) -> Result<Vec<f64>, String> {
    let edge = text.split(';').count();
    if edge.is_multiple_of(2) || edge > MOST_EDGE {
        return Err(format!("a kernel has an odd number of rows up to {MOST_EDGE}, not {edge}"));
    }
    let mut weights = Vec::with_capacity(edge * edge);
    for (index, row) in text.split(';').enumerate() {
        let columns = row.split(',').count();
        if columns != edge {
            return Err(format!("a kernel is square: row {} has {columns} numbers in a kernel of {edge} rows", index + 1));
        }
        for number in row.split(',') {
            match number.trim().parse::<f64>() {
                Ok(weight) if weight.is_finite() => weights.push(weight),
                _ => return Err(format!("`{}` in row {} of the kernel is not a number", number.trim(), index + 1)),
            }
        }
    }
    Ok(weights)
}

/// The size of a picture and of what a pixel is.
#[derive(Clone, Copy, Debug, Data, Serialize, Deserialize)]
struct Shape {
    width: usize,
    height: usize,
    channels: usize,
}

/// Copies a tile and the halo of `radius` pixels around it; the picture's outermost pixels repeat beyond it. Whole words, as a device wants them.
fn with_halo(
    picture: &Buffer<u8>,
    shape: Shape,
    rows: Range<usize>,
    columns: Range<usize>,
    radius: usize,
) -> Result<Buffer<u8>, AllocateError> {
    let clamped = |position: usize, len: usize| position.saturating_sub(radius).min(len - 1);
    let line_bytes = (columns.len() + 2 * radius) * shape.channels;
    let len = (rows.len() + 2 * radius) * line_bytes;
    let mut patch = buffer::try_zeroed(len.next_multiple_of(WORD_BYTES))?;
    for (row, line) in (rows.start..).zip(patch[..len].chunks_exact_mut(line_bytes)) {
        let source = &picture[clamped(row, shape.height) * shape.width * shape.channels..];
        for (column, pixel) in (columns.start..).zip(line.chunks_exact_mut(shape.channels)) {
            pixel.copy_from_slice(&source[clamped(column, shape.width) * shape.channels..][..shape.channels]);
        }
    }
    Ok(patch)
}

/// Filters a tile of `width` × `height` pixels that comes with its halo, by kernels of `edge` rows. `convolve.wgsl` does the same.
fn filter(
    patch: &Buffer<u8>,
    products: &Buffer<f64>,
    edge: u32,
    width: u32,
    height: u32,
    channels: u32,
) -> Result<Buffer<u8>, AllocateError> {
    let [edge, width, height, channels] = [edge, width, height, channels].map(|number| number as usize);
    let radius = edge / 2;
    let (line_bytes, patch_line_bytes) = (width * channels, (width + 2 * radius) * channels);
    let kernels = products.chunks_exact(BYTES * edge * edge);
    let mut tile: Buffer<u8> = buffer::try_zeroed((height * line_bytes).next_multiple_of(WORD_BYTES))?;
    let mut sums = vec![vec![0.0; line_bytes]; kernels.len()];
    for (row, line) in tile[..height * line_bytes].chunks_exact_mut(line_bytes).enumerate() {
        for (sums, kernel) in sums.iter_mut().zip(kernels.clone()) {
            sums.fill(0.0);
            // Weight by weight, for a whole line at a time: the inner loop has no decisions, so the compiler makes vector code of it.
            for (index, products) in kernel.chunks_exact(BYTES).enumerate() {
                // Faster than to look up every product.
                let weight = products[1];
                let start = (row + index / edge) * patch_line_bytes + index % edge * channels;
                for (sum, value) in sums.iter_mut().zip(&patch[start..start + line_bytes]) {
                    *sum += weight * f64::from(*value);
                }
            }
        }
        for (index, byte) in line.iter_mut().enumerate() {
            let value = match &sums[..] {
                [along, across, ..] => (along[index] * along[index] + across[index] * across[index]).sqrt(),
                single => single[0][index],
            };
            // A float becomes the nearest byte that there is.
            *byte = value.round() as u8;
        }
        let middle = (row + radius) * patch_line_bytes + radius * channels;
        for alpha in colours(channels)..channels {
            for pixel in 0..width {
                line[pixel * channels + alpha] = patch[middle + pixel * channels + alpha];
            }
        }
    }
    Ok(tile)
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let runtime = context.runtime;
    let file = files::required_input(context, "poniard run convolve --input photo.png --output edges.png")?;
    let tile = limits::count("tile", context.tile, 256, u64::MAX)?;
    let name = context.kernel.unwrap_or("edges");
    let chosen = Filter::parse(name).map_err(|reason| SampleError::Usage { option: "kernel", reason })?;
    files::check_output(context, &["png"])?;
    let Picture { width, height, channels, bytes } = Picture::read(file)?;
    let shape = Shape { width, height, channels };
    let (down, across) = (Tiling::new(height, tile), Tiling::new(width, tile));
    let tiles = limits::tasks("tile", (down.count() as u64 * 2).checked_mul(across.count() as u64))? / 2;

    let kernel = Kernel::wgsl("filter", include_str!("convolve.wgsl")).host(filter);
    let (picture, products) = (runtime.value(bytes), runtime.value(chosen.products()?));
    let mut filtered: Vec<Task<Buffer<u8>>> = Vec::new();
    for row in 0..down.count() {
        for column in 0..across.count() {
            let (rows, columns) = (down.span(row), across.span(column));
            let (height, width) = (rows.len(), columns.len());
            let cut =
                runtime.task(with_halo, (&picture, shape, rows, columns, chosen.radius())).name(format!("cut({row},{column})")).spawn();
            let arguments = (cut, &products, chosen.edge as u32, width as u32, height as u32, channels as u32);
            let name = format!("filter({row},{column})");
            filtered.push(match context.kernels {
                Some(options) => {
                    let words = (height * width * channels).div_ceil(WORD_BYTES);
                    runtime.task(kernel.over(words).returning([words * WORD_BYTES]), arguments).options(options).name(name).spawn()
                }
                None => runtime.task(filter, arguments).name(name).spawn(),
            });
        }
    }

    let mut result: Buffer<u8> = limits::zeroed("input", width * height * channels)?;
    for (index, task) in filtered.into_iter().enumerate() {
        let (rows, columns) = (down.span(index / across.count()), across.span(index % across.count()));
        paste(&mut result, width * channels, rows, columns.start * channels..columns.end * channels, &task.fetch()?);
        context.progress.advance(index as u64 + 1, tiles);
    }

    let edge = chosen.edge;
    let mean = mean_colour(&result, channels);
    Ok(Outcome {
        lines: vec![
            format!("{width} x {height} pixels, {channels} channel(s), {tiles} tile(s)"),
            format!("kernel {name} ({edge} x {edge}); mean of the result {mean:.1} of 255"),
        ],
        values: vec![
            ("width", width.into()),
            ("height", height.into()),
            ("channels", channels.into()),
            ("tiles", tiles.into()),
            ("mean", mean.into()),
        ],
        check: check(&result, &picture.fetch()?[..result.len()], shape, &chosen),
        output: context.output.map(|_| encode(&result, width, height, channels)),
    })
}

/// The mean of all colour values; alpha is left out.
fn mean_colour(picture: &[u8], channels: usize) -> f64 {
    let sum: u64 = picture.chunks_exact(channels).flat_map(|pixel| &pixel[..colours(channels)]).map(|value| u64::from(*value)).sum();
    sum as f64 / (picture.len() / channels * colours(channels)) as f64
}

/// Computes pixel by pixel, without tiles: all rows, or evenly spaced ones where all would take more than some seconds.
fn check(result: &[u8], picture: &[u8], shape: Shape, filter: &Filter) -> Check {
    const MOST_PRODUCTS: usize = 2_000_000_000;
    let Shape { width, height, channels } = shape;
    let every = (picture.len().saturating_mul(filter.edge * filter.edge * filter.kernels.len())).div_ceil(MOST_PRODUCTS);
    let reach = filter.radius() as isize;
    let at = |row: isize, column: isize, channel: usize| {
        let (row, column) = (row.clamp(0, height as isize - 1) as usize, column.clamp(0, width as isize - 1) as usize);
        picture[(row * width + column) * channels + channel]
    };
    let (mut different, mut compared) = (0u64, 0u64);
    for row in (0..height).step_by(every) {
        for column in 0..width {
            for channel in 0..channels {
                let expected = if channel >= colours(channels) {
                    at(row as isize, column as isize, channel)
                } else {
                    let mut squares = Vec::new();
                    for kernel in &filter.kernels {
                        let mut weights = kernel.iter();
                        let mut sum = 0.0;
                        for down in -reach..=reach {
                            for right in -reach..=reach {
                                let value = at(row as isize + down, column as isize + right, channel);
                                sum += weights.next().copied().unwrap_or_default() * f64::from(value);
                            }
                        }
                        squares.push(sum);
                    }
                    let value = if let [x, y] = squares[..] { (x * x + y * y).sqrt() } else { squares[0] };
                    value.round().clamp(0.0, 255.0) as u8
                };
                compared += 1;
                different += u64::from(result.get((row * width + column) * channels + channel) != Some(&expected));
            }
        }
    }
    let rows = if every == 1 { "all rows".into() } else { format!("one row in {every}") };
    Check {
        passed: different == 0 && result.len() == picture.len(),
        text: format!("{different} of {compared} values differ from a plain loop over each pixel ({rows})"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::{Trial, with_and_without_devices};
    use super::*;

    /// A picture file in a folder that lives as long as the test.
    fn picture_file(folder: &tempfile::TempDir, width: usize, height: usize, channels: usize) -> (std::path::PathBuf, Vec<u8>) {
        let file = folder.path().join(format!("{width}x{height}x{channels}.png"));
        let bytes: Vec<u8> = (0..width * height * channels).map(|index| (index * index / 3 + 91 * index) as u8).collect();
        std::fs::write(&file, encode(&bytes, width, height, channels)).unwrap();
        (file, bytes)
    }

    #[test]
    fn filters_pictures_of_every_shape() {
        let folder = tempfile::tempdir().unwrap();
        let places = with_and_without_devices();
        for (width, height, channels) in [(1, 1, 1), (1, 9, 3), (9, 1, 4), (17, 13, 2), (20, 20, 3)] {
            let (file, _) = picture_file(&folder, width, height, channels);
            for tile in [1, 6, 256, u64::MAX] {
                // Sums of tenths are next to halves, so that this shows every other way to round.
                let tenths = "0.1,0.1,0.1;0.1,0.1,0.1;0.1,0.1,0.1";
                for kernel in [None, Some("blur"), Some("sobel"), Some("emboss"), Some("sharpen"), Some("2.5"), Some(tenths)] {
                    for on_devices in places {
                        let inputs = vec![file.clone()];
                        Trial { on_devices: *on_devices, inputs, tile: Some(tile), kernel, ..Trial::default() }.passes(&SAMPLE);
                    }
                }
            }
        }
    }

    #[test]
    fn a_kernel_larger_than_the_picture_works() {
        let folder = tempfile::tempdir().unwrap();
        let (file, _) = picture_file(&folder, 5, 3, 3);
        let ones = vec![["0.001"; 31].join(","); 31].join(";");
        let kernel: &'static str = ones.leak();
        for on_devices in with_and_without_devices() {
            let inputs = vec![file.clone()];
            Trial { on_devices: *on_devices, inputs, tile: Some(2), kernel: Some(kernel), ..Trial::default() }.passes(&SAMPLE);
        }
    }

    #[test]
    fn identity_gives_the_picture_and_alpha_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (file, bytes) = picture_file(&folder, 11, 7, 4);
        let output = |kernel| {
            let trial = Trial { inputs: vec![file.clone()], output: Some("o.PNG".into()), kernel: Some(kernel), ..Trial::default() };
            let written = folder.path().join("o.PNG");
            std::fs::write(&written, trial.passes(&SAMPLE).output.unwrap()).unwrap();
            Picture::read(&written).unwrap()
        };
        assert_eq!(output("identity").bytes[..bytes.len()], bytes);
        let blurred = output("blur");
        assert!(blurred.bytes.iter().zip(&bytes).skip(3).step_by(4).all(|(a, b)| a == b));
        assert!(blurred.bytes[..] != bytes);
    }

    #[test]
    fn parses_kernels() {
        assert_eq!(Filter::parse("0, 1,0;1,-4,1;0,1,0").unwrap().kernels, [[0.0, 1.0, 0.0, 1.0, -4.0, 1.0, 0.0, 1.0, 0.0]]);
        assert_eq!(Filter::parse("blur").unwrap().kernels[0].iter().sum::<f64>(), 1.0);
        assert_eq!(Filter::parse("sobel").unwrap().kernels.len(), 2);
        for (text, expected) in [
            ("", "neither"),
            ("egdes", "neither"),
            ("1,2;3,4", "odd number of rows up to 31, not 2"),
            ("1,2", "square: row 1 has 2"),
            ("1,2,3;4,5;6,7,8", "square: row 2 has 2"),
            ("1,2,3;4,x,6;7,8,9", "`x` in row 2"),
            ("1,2,3;4,,6;7,8,9", "`` in row 2"),
            ("1|1", "`1|1`"),
            ("1e999", "is not a number"),
        ] {
            let error = Filter::parse(text);
            assert!(error.as_ref().is_err_and(|reason| reason.contains(expected)), "{text}: {error:?}");
        }
        assert!(Filter::parse(&["1"; 33].join(";")).is_err());
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        let folder = tempfile::tempdir().unwrap();
        let (file, _) = picture_file(&folder, 4, 4, 1);
        let inputs = vec![file];
        assert!(Trial::default().refused(&SAMPLE, "input").contains("for example: poniard run convolve"));
        Trial { inputs: [&inputs[..], &inputs[..]].concat(), ..Trial::default() }.refused(&SAMPLE, "input");
        Trial { inputs: inputs.clone(), tile: Some(0), ..Trial::default() }.refused(&SAMPLE, "tile");
        Trial { inputs: inputs.clone(), kernel: Some("1,2"), ..Trial::default() }.refused(&SAMPLE, "kernel");
        Trial { inputs, output: Some("o.jpg".into()), ..Trial::default() }.refused(&SAMPLE, "output");
        Trial { inputs: vec![folder.path().into()], ..Trial::default() }.refused_file(&SAMPLE);
    }

    #[test]
    fn check_notices_one_wrong_value() {
        let shape = Shape { width: 2, height: 2, channels: 1 };
        let filter = Filter::parse("0,0,0;0,0,1;0,0,0").unwrap();
        assert!(check(&[2, 2, 4, 4], &[1, 2, 3, 4], shape, &filter).passed);
        assert!(!check(&[2, 2, 4, 5], &[1, 2, 3, 4], shape, &filter).passed);
        assert!(!check(&[2, 2, 4], &[1, 2, 3, 4], shape, &filter).passed);
    }
}
