//! Files that results go to: `.png`, `.npy`, `.csv`, `.txt` and `.json`, chosen by extension, each for the types that it can hold.

use std::path::Path;

use image::{ExtendedColorType, ImageEncoder};
use ndarray::ArrayView1;
use ndarray_npy::WriteNpyExt;

use super::document::extension;
use super::show::{json, number};
use crate::kernels::{Image, Type, ValueRef};

/// How a result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// 8 bits a sample, grey or red, green and blue; samples are cut to 0 to 1, NaN is 0.
    Png,
    /// 64-bit floats, 32-bit ones for an image (row, column, channel).
    Npy,
    /// A line for each row, or for each element of a vector.
    Csv,
    /// As CSV, columns separated by spaces; a text as it is.
    Txt,
    /// A number, a text, a list, or a list of lists.
    Json,
}

impl Format {
    /// The format of `path` for a result of `value_type`, or what is wrong with it.
    pub(super) fn of(path: &Path, value_type: Type) -> Result<Self, String> {
        let (format, types) = match extension(path).as_deref() {
            Some("png") => (Self::Png, &[Type::Image][..]),
            Some("npy") => (Self::Npy, &[Type::Vector, Type::Matrix, Type::Image][..]),
            Some("csv") => (Self::Csv, &[Type::Number, Type::Vector, Type::Matrix][..]),
            Some("txt") => (Self::Txt, &[Type::Number, Type::Text, Type::Vector, Type::Matrix][..]),
            Some("json") => (Self::Json, &[Type::Number, Type::Text, Type::Vector, Type::Matrix][..]),
            _ => return Err("a path of `output` ends in .png, .npy, .csv, .txt or .json".to_owned()),
        };
        if types.contains(&value_type) {
            Ok(format)
        } else {
            let types: Vec<&str> = types.iter().map(|value_type| value_type.name()).collect();
            Err(format!("a file of that extension holds {}, but the result is {value_type}", types.join(" or ")))
        }
    }

    /// The whole content of the file.
    pub(super) fn encode(self, value: ValueRef<'_>) -> Result<Vec<u8>, String> {
        match (self, value) {
            (Self::Png, ValueRef::Image(image)) => png(image),
            (Self::Npy, ValueRef::Vector(vector)) => npy(|bytes| ArrayView1::from(vector).write_npy(bytes)),
            (Self::Npy, ValueRef::Matrix(matrix)) => npy(|bytes| matrix.write_npy(bytes)),
            (Self::Npy, ValueRef::Image(image)) => npy(|bytes| image.write_npy(bytes)),
            (Self::Csv | Self::Txt, ValueRef::Number(value)) => Ok(format!("{}\n", number(value)).into_bytes()),
            (Self::Csv | Self::Txt, ValueRef::Vector(vector)) => {
                Ok(vector.iter().map(|value| number(*value) + "\n").collect::<String>().into_bytes())
            }
            (Self::Csv | Self::Txt, ValueRef::Matrix(matrix)) => {
                let separator = if self == Self::Csv { "," } else { " " };
                let mut text = String::new();
                for row in matrix.rows() {
                    text.push_str(&row.iter().map(|value| number(*value)).collect::<Vec<_>>().join(separator));
                    text.push('\n');
                }
                Ok(text.into_bytes())
            }
            (Self::Txt, ValueRef::Text(text)) => Ok(text.as_bytes().to_vec()),
            (Self::Json, value @ (ValueRef::Number(_) | ValueRef::Text(_) | ValueRef::Vector(_) | ValueRef::Matrix(_))) => {
                let mut bytes = serde_json::to_vec(&json(value, usize::MAX)).map_err(|error| error.to_string())?;
                bytes.push(b'\n');
                Ok(bytes)
            }
            (format, _) => Err(format!("{format:?} does not hold a value of this type")),
        }
    }
}

fn npy(write: impl FnOnce(&mut Vec<u8>) -> Result<(), ndarray_npy::WriteNpyError>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    write(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

fn png(image: &Image) -> Result<Vec<u8>, String> {
    let (height, width, channels) = image.dim();
    // A conversion from float to u8 saturates and takes NaN to 0.
    let samples: Vec<u8> = image.iter().map(|sample| (sample * 255.0).round() as u8).collect();
    let colour = if channels == 3 { ExtendedColorType::Rgb8 } else { ExtendedColorType::L8 };
    let (Ok(width), Ok(height)) = (u32::try_from(width), u32::try_from(height)) else {
        return Err("the image is too large for PNG".to_owned());
    };
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes).write_image(&samples, width, height, colour).map_err(|error| error.to_string())?;
    Ok(bytes)
}
