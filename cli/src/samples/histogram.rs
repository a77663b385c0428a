//! `histogram`: bands of a picture are counted side by side, and one task takes all of the counts. Shows `Gather`, the parameter for any
//! number of results. Where there is a device, the bands are counted by a kernel.

use poniard::{AllocateError, Buffer, Gather, Kernel, Task, buffer};

use super::picture::Picture;
use super::tiling::Tiling;
use super::{files, limits};
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "histogram",
    summary: "the histogram of a PNG picture: many results gathered by one task",
    options: &[
        SampleOption { name: "input", meaning: "a PNG picture of any kind (needed)" },
        SampleOption { name: "tile", meaning: "rows of pixels that one task counts, default 256" },
    ],
    kernels: true,
    run,
};

/// Values of a channel; 16-bit channels are rounded to 8 bits.
const BINS: usize = 256;

/// Bytes that an invocation of the kernel looks at.
const INVOCATION_BYTES: usize = 64 * 4;

/// Counts of each value of each channel: channel 0's 256 bins, then channel 1's. No picture has so many pixels that they need more bits.
fn count(pixels: &[u8], channels: usize) -> Result<Buffer<u32>, AllocateError> {
    let mut bins = buffer::try_zeroed(channels * BINS)?;
    for pixel in pixels.chunks_exact(channels) {
        for (channel, value) in pixel.iter().enumerate() {
            bins[channel * BINS + usize::from(*value)] += 1;
        }
    }
    Ok(bins)
}

/// Counts a band of a picture: `len` of its bytes from `first` on. `histogram.wgsl` does the same.
fn count_band(picture: &Buffer<u8>, first: u32, len: u32, channels: u32) -> Result<Buffer<u32>, AllocateError> {
    count(&picture[first as usize..][..len as usize], channels as usize)
}

/// The sum of the bands' counts.
fn total(bands: Gather<'_, Buffer<u32>>) -> Result<Buffer<u64>, AllocateError> {
    let mut total: Buffer<u64> = buffer::try_zeroed(bands.get(0).map_or(0, |band| band.len()))?;
    for band in bands.iter() {
        for (sum, value) in total.iter_mut().zip(band) {
            *sum += u64::from(*value);
        }
    }
    Ok(total)
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let runtime = context.runtime;
    let file = files::required_input(context, "poniard run histogram --input photo.png")?;
    let tile = limits::count("tile", context.tile, 256, u64::MAX)?;
    let Picture { width, height, channels, bytes } = Picture::read(file)?;
    let bands = Tiling::new(height, tile);
    limits::tasks("tile", Some(bands.count() as u64 + 1))?;

    let kernel = Kernel::wgsl("count", include_str!("histogram.wgsl")).host(count_band);
    let picture = runtime.value(bytes);
    let line_bytes = width * channels;
    let counted: Vec<Task<Buffer<u32>>> = (0..bands.count())
        .map(|index| {
            let (first, len) = (bands.span(index).start * line_bytes, bands.len_of(index) * line_bytes);
            let arguments = (&picture, first as u32, len as u32, channels as u32);
            let name = format!("count({index})");
            match context.kernels {
                Some(options) => {
                    // One more, since a band may begin and end within a word.
                    let launch = kernel.over(len / INVOCATION_BYTES + 1).returning([channels * BINS]);
                    runtime.task(launch, arguments).options(options).name(name).spawn()
                }
                None => runtime.task(count_band, arguments).name(name).spawn(),
            }
        })
        .collect();
    let bins = runtime.spawn(total, (counted,)).fetch()?;
    let task_count = bands.count() as u64 + 1;
    context.progress.advance(task_count, task_count);

    let names: &[&'static str] = match channels {
        1 => &["grey"],
        2 => &["grey", "alpha"],
        3 => &["red", "green", "blue"],
        _ => &["red", "green", "blue", "alpha"],
    };
    let mut lines = vec![format!("{width} x {height} pixels, {channels} channel(s), {} band(s)", bands.count())];
    let mut values = vec![("width", width.into()), ("height", height.into())];
    for (name, bins) in names.iter().zip(bins.chunks_exact(BINS)) {
        lines.push(describe(name, bins));
        values.push((name, bins.to_vec().into()));
    }
    Ok(Outcome { lines, values, check: check(&bins, &picture.fetch()?[..width * height * channels], channels), output: None })
}

/// A line about one channel: `red    mean 97.3, from 0 to 255, most often 12 (3.1 %)`.
fn describe(name: &str, bins: &[u64]) -> String {
    let pixels: u64 = bins.iter().sum();
    let sum: u64 = bins.iter().zip(0..).map(|(count, value)| count * value).sum();
    let least = bins.iter().position(|count| *count > 0).unwrap_or_default();
    let most = bins.iter().rposition(|count| *count > 0).unwrap_or_default();
    // Of several values that are equally frequent, the least.
    let frequency = bins.iter().max().copied().unwrap_or_default();
    let mode = bins.iter().position(|count| *count == frequency).unwrap_or_default();
    let share = 100.0 * frequency as f64 / pixels as f64;
    format!("{name:<6} mean {:.1}, from {least} to {most}, most often {mode} ({share:.1} %)", sum as f64 / pixels as f64)
}

/// Counts value by value, without bands.
fn check(bins: &[u64], picture: &[u8], channels: usize) -> Check {
    let mut wrong = 0;
    for channel in 0..channels {
        let mut expected = [0u64; BINS];
        for value in picture.iter().skip(channel).step_by(channels) {
            expected[*value as usize] += 1;
        }
        wrong += (0..BINS).filter(|value| bins.get(channel * BINS + value) != Some(&expected[*value])).count();
    }
    Check {
        passed: wrong == 0 && bins.len() == channels * BINS,
        text: format!("{wrong} of {} counts differ from a plain loop over the picture", channels * BINS),
    }
}

#[cfg(test)]
mod tests {
    use super::super::picture::encode;
    use super::super::trial::{Trial, with_and_without_devices};
    use super::*;

    #[test]
    fn counts_pictures_of_every_shape() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("picture.png");
        let places = with_and_without_devices();
        let tiles = places.iter().flat_map(|on_devices| [1, 5, 256, u64::MAX].map(|tile| (tile, *on_devices)));
        for (width, height, channels) in [(1, 1, 1), (1, 300, 3), (300, 1, 4), (17, 13, 2), (64, 64, 3)] {
            let bytes: Vec<u8> = (0..width * height * channels).map(|index| (index * index / 7) as u8).collect();
            std::fs::write(&file, encode(&bytes, width, height, channels)).unwrap();
            for (tile, on_devices) in tiles.clone() {
                let outcome = Trial { on_devices, inputs: vec![file.clone()], tile: Some(tile), ..Trial::default() }.passes(&SAMPLE);
                assert_eq!(outcome.lines.len(), 1 + channels);
            }
        }
    }

    #[test]
    fn describes_a_channel() {
        let mut bins = [0; BINS];
        (bins[10], bins[20], bins[30]) = (1, 2, 2);
        assert_eq!(describe("red", &bins), "red    mean 22.0, from 10 to 30, most often 20 (40.0 %)");
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("text.png");
        std::fs::write(&file, "text").unwrap();
        assert!(Trial { inputs: vec![file.clone()], ..Trial::default() }.refused_file(&SAMPLE).contains("PNG"));
        Trial { inputs: vec![file.clone(), file.clone()], ..Trial::default() }.refused(&SAMPLE, "input");
        Trial { inputs: vec![file], tile: Some(0), ..Trial::default() }.refused(&SAMPLE, "tile");
        Trial::default().refused(&SAMPLE, "input");
    }

    #[test]
    fn check_notices_one_pixel_in_the_wrong_bin() {
        let picture = [1, 2, 3, 1, 2, 4];
        let mut bins: Vec<u64> = count(&picture, 3).unwrap().iter().map(|count| u64::from(*count)).collect();
        assert!(check(&bins, &picture, 3).passed);
        bins[2 * BINS + 3] += 1;
        assert!(!check(&bins, &picture, 3).passed);
        assert!(!check(&bins[..BINS], &picture, 3).passed);
    }
}
