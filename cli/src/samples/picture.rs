//! PNG pictures as bytes: 8 bits a channel, whatever the file has.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor};
use std::path::Path;

use image::{DynamicImage, ExtendedColorType, ImageError, ImageFormat, ImageReader, Limits};
use poniard::{Buffer, buffer};

use super::files::refuse;
use crate::sample::SampleError;

/// The most memory that decoding may take: a small file can claim to be a huge picture.
const MOST_DECODED_BYTES: u64 = 512 << 20;
/// The most pixels in a row or a column.
const MOST_EDGE: u32 = 65_535;
/// How every PNG file begins.
const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// What devices reach bytes by: a buffer that they use has whole ones.
pub(crate) const WORD_BYTES: usize = 4;

/// A picture.
#[derive(Debug)]
pub(crate) struct Picture {
    /// Pixels in a row.
    pub(crate) width: usize,
    /// Rows.
    pub(crate) height: usize,
    /// 1 grey, 2 grey and alpha, 3 red green blue, 4 with alpha.
    pub(crate) channels: usize,
    /// Row by row, `channels` bytes a pixel. Up to three more bytes follow, which are 0: devices use whole words.
    pub(crate) bytes: Buffer<u8>,
}

impl Picture {
    /// Reads a PNG. Palettes become colours, 16 bits are rounded to 8, of an animation the default picture is taken.
    ///
    /// # Errors
    /// [`SampleError::Input`] when the file cannot be read, is no PNG, is damaged, or would take too much memory.
    pub(crate) fn read(file: &Path) -> Result<Self, SampleError> {
        let mut opened = BufReader::new(File::open(file).map_err(|error| refuse(file, error.to_string()))?);
        // The decoder would say of a short text that it ends too soon.
        let begins = opened.fill_buf().map_err(|error| refuse(file, error.to_string()))?;
        if !begins.starts_with(&SIGNATURE[..SIGNATURE.len().min(begins.len()).max(1)]) {
            return Err(refuse(file, "not a PNG picture: it does not begin like one"));
        }
        let mut limits = Limits::default();
        limits.max_image_width = Some(MOST_EDGE);
        limits.max_image_height = Some(MOST_EDGE);
        limits.max_alloc = Some(MOST_DECODED_BYTES);
        let mut reader = ImageReader::with_format(opened, ImageFormat::Png);
        reader.limits(limits);
        let image = reader.decode().map_err(|error| match error {
            ImageError::Limits(_) => {
                refuse(file, format!("too large a picture: more than {MOST_EDGE} pixels an edge or {} MiB", MOST_DECODED_BYTES >> 20))
            }
            other => refuse(file, format!("cannot be read as a PNG picture: {other}")),
        })?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        let (channels, raw) = match (image.color().has_color(), image.color().has_alpha()) {
            (false, false) => (1, DynamicImage::into_luma8(image).into_raw()),
            (false, true) => (2, DynamicImage::into_luma_alpha8(image).into_raw()),
            (true, false) => (3, DynamicImage::into_rgb8(image).into_raw()),
            (true, true) => (4, DynamicImage::into_rgba8(image).into_raw()),
        };
        let mut bytes = buffer::try_zeroed(raw.len().next_multiple_of(WORD_BYTES)).map_err(|error| refuse(file, error.to_string()))?;
        bytes[..raw.len()].copy_from_slice(&raw);
        Ok(Self { width, height, channels, bytes })
    }
}

/// How many of `channels` are colours: an even number of channels has alpha as its last.
pub(crate) fn colours(channels: usize) -> usize {
    channels - usize::from(channels.is_multiple_of(2))
}

/// The content of a PNG file with 8 bits a channel.
pub(crate) fn encode(bytes: &[u8], width: usize, height: usize, channels: usize) -> Vec<u8> {
    let colour = match channels {
        1 => ExtendedColorType::L8,
        2 => ExtendedColorType::La8,
        3 => ExtendedColorType::Rgb8,
        _ => ExtendedColorType::Rgba8,
    };
    let mut file = Cursor::new(Vec::new());
    image::write_buffer_with_format(&mut file, bytes, width as u32, height as u32, colour, ImageFormat::Png)
        .expect("writing to memory does not fail, and the bytes match the size");
    file.into_inner()
}

/// PNG files that tests read.
#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The content of a PNG file of this kind.
    pub(crate) fn png_file(size: (u32, u32), kind: png::ColorType, depth: png::BitDepth, bytes: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, size.0, size.1);
        encoder.set_color(kind);
        encoder.set_depth(depth);
        if kind == png::ColorType::Indexed {
            encoder.set_palette(vec![10, 20, 30, 40, 50, 60]);
        }
        encoder.write_header().unwrap().write_image_data(bytes).unwrap();
        file
    }

    fn read(content: &[u8]) -> Result<Picture, SampleError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("picture.png");
        std::fs::write(&file, content).unwrap();
        Picture::read(&file)
    }

    #[test]
    fn reads_every_kind() {
        use png::{BitDepth::*, ColorType::*};
        for (kind, depth, bytes, channels, expected) in [
            (Grayscale, Eight, vec![1, 2], 1, vec![1, 2]),
            (Grayscale, One, vec![0b0100_0000], 1, vec![0, 255]),
            (Grayscale, Sixteen, vec![255, 255, 128, 128], 1, vec![255, 128]),
            (GrayscaleAlpha, Eight, vec![1, 2, 3, 4], 2, vec![1, 2, 3, 4]),
            (Rgb, Eight, vec![1, 2, 3, 4, 5, 6], 3, vec![1, 2, 3, 4, 5, 6]),
            (Rgba, Eight, vec![1, 2, 3, 4, 5, 6, 7, 8], 4, vec![1, 2, 3, 4, 5, 6, 7, 8]),
            (Indexed, Eight, vec![1, 0], 3, vec![40, 50, 60, 10, 20, 30]),
        ] {
            let picture = read(&png_file((2, 1), kind, depth, &bytes)).unwrap();
            assert_eq!((picture.width, picture.height, picture.channels), (2, 1, channels), "{kind:?} {depth:?}");
            assert_eq!(picture.bytes[..expected.len()], expected, "{kind:?} {depth:?}");
        }
    }

    #[test]
    fn reads_what_it_wrote() {
        for channels in 1..=4 {
            let bytes: Vec<u8> = (0..6 * channels as u8).collect();
            let picture = read(&encode(&bytes, 3, 2, channels)).unwrap();
            assert_eq!((picture.channels, &picture.bytes[..bytes.len()]), (channels, &bytes[..]));
        }
    }

    #[test]
    fn refuses_damage_and_bombs() {
        let noise: Vec<u8> = (0..10_000u32).map(|index| ((index * index) >> 3) as u8).collect();
        let good = png_file((100, 100), png::ColorType::Grayscale, png::BitDepth::Eight, &noise);
        assert!(read(&good).is_ok());
        assert!(read(b"GIF89a").unwrap_err().to_string().contains("PNG"));
        assert!(read(b"").is_err());
        for kept in [20, good.len() / 2, good.len() - 30] {
            assert!(read(&good[..kept]).is_err(), "{kept} of {} bytes", good.len());
        }
        // A header that claims 60 000 x 60 000 pixels, with the checksum that belongs to it.
        let mut bomb = Vec::new();
        let mut writer = png::Encoder::new(&mut bomb, 60_000, 60_000).write_header().unwrap();
        writer.write_chunk(png::chunk::IDAT, &[0x78, 0x9c]).unwrap();
        drop(writer);
        assert!(read(&bomb).unwrap_err().to_string().contains("too large"));
        assert!(Picture::read(Path::new("/none.png")).is_err());
    }
}
