//! Files that a graph takes values from: `.png`, `.npy`, `.csv`, `.txt` and `.json`.

use std::io::Cursor;
use std::path::Path;

use ndarray::{ArrayD, ArrayViewD, Ix1, Ix2};
use ndarray_npy::{ReadNpyExt, ReadableElement, ViewElement, ViewNpyError, ViewNpyExt};

use super::document::{MAX_FILE_BYTES, extension, number, read_bytes, text};
use super::error::{Fault, quoted};
use super::{json, literal};
use crate::kernels::limits::{MAX_EDGE, MAX_NUMBERS, MAX_PIXELS, MAX_TEXT_BYTES};
use crate::kernels::{Image, Matrix, Value};

/// The longest input file, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// The value in the file at `path`, of a type that its extension tells, for `.npy` together with its header and for `.json` its content.
///
/// Read when the graph is checked: only the content of a `.npy` or `.json` file says whether it fits where it is used.
pub(super) fn read(path: &Path) -> Result<Value, Fault> {
    match extension(path).as_deref() {
        Some("png") => png(read_bytes(path, MAX_BYTES)?),
        Some("npy") => npy(&read_bytes(path, MAX_BYTES)?),
        Some("csv") => csv(&text(read_bytes(path, MAX_BYTES)?)?),
        Some("txt") => Ok(Value::Text(text(read_bytes(path, MAX_TEXT_BYTES as u64)?)?)),
        Some("json") => literal::value(json::parse(&text(read_bytes(path, MAX_FILE_BYTES)?)?)?),
        _ => Err(Fault::whole("an input file ends in .png, .npy, .csv, .txt or .json")),
    }
}

fn png(bytes: Vec<u8>) -> Result<Value, Fault> {
    let wrong = |error: image::ImageError| {
        Fault::whole(format!("this is not a PNG image that can be read: {}", error.to_string().replace('\n', " ")))
    };
    let mut reader = image::ImageReader::with_format(Cursor::new(&bytes), image::ImageFormat::Png);
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(MAX_EDGE as u32);
    limits.max_image_height = Some(MAX_EDGE as u32);
    // 16 bits in each of four channels.
    limits.max_alloc = Some(8 * MAX_PIXELS as u64);
    reader.limits(limits);
    let decoded = reader.decode().map_err(wrong)?;
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    if width.saturating_mul(height) > MAX_PIXELS {
        return Err(Fault::whole(format!("the image has {width} x {height} pixels, the limit is {MAX_PIXELS}")));
    }
    // Transparency has no meaning for the kernels and is dropped.
    let (channels, samples) =
        if decoded.color().has_color() { (3, decoded.into_rgb32f().into_raw()) } else { (1, decoded.to_luma32f().into_raw()) };
    Image::from_shape_vec((height, width, channels), samples)
        .map(Value::Image)
        .map_err(|error| Fault::whole(format!("the image has no shape: {error}")))
}

fn npy(bytes: &[u8]) -> Result<Value, Fault> {
    // From version 2 on the header's length has 32 bits, and the reader would set aside as many bytes as it says.
    if let [0x93, b'N', b'U', b'M', b'P', b'Y', (2..), _, a, b, c, d, ..] = bytes
        && u32::from_le_bytes([*a, *b, *c, *d]) as usize > bytes.len()
    {
        return Err(Fault::whole("this is not a .npy file: its header is longer than the file"));
    }
    let array = npy_as::<f64>(bytes)
        .or_else(|| npy_as::<f32>(bytes))
        .or_else(|| npy_as::<i64>(bytes))
        .or_else(|| npy_as::<i32>(bytes))
        .or_else(|| npy_as::<u8>(bytes))
        .unwrap_or_else(|| Err("it holds numbers of another kind than f8, f4, i8, i4 and u1 (little-endian)".to_owned()))
        .map_err(|reason| Fault::whole(format!("this is not a .npy file that can be read: {reason}")))?;
    match array.ndim() {
        1 => {
            array.into_dimensionality::<Ix1>().map(|vector| Value::Vector(vector.to_vec())).map_err(|error| Fault::whole(error.to_string()))
        }
        2 => array
            .into_dimensionality::<Ix2>()
            .map(|matrix| Value::Matrix(matrix.as_standard_layout().into_owned()))
            .map_err(|error| Fault::whole(error.to_string())),
        other => Err(Fault::whole(format!("the array has {other} dimensions; a vector has 1, a matrix 2"))),
    }
}

/// An element of an input array as a number. Integers beyond 2^53 are rounded to the nearest.
trait Number: ReadableElement + ViewElement + Copy {
    fn number(self) -> f64;
}

macro_rules! number {
    ($($element:ty),*) => { $(impl Number for $element { fn number(self) -> f64 { self as f64 } })* };
}

number!(f64, f32, i64, i32, u8);

/// None when the elements are not `T`. The view comes first because it compares the header with the length of the file without
/// setting aside memory: the reader believes a header that claims an exabyte.
fn npy_as<T: Number>(bytes: &[u8]) -> Option<Result<ArrayD<f64>, String>> {
    match ArrayViewD::<T>::view_npy(bytes) {
        Err(ViewNpyError::WrongDescriptor(_)) => return None,
        Ok(_) | Err(ViewNpyError::MisalignedData) => {}
        Err(error) => return Some(Err(error.to_string())),
    }
    if bytes.len() / size_of::<T>() > MAX_NUMBERS {
        return Some(Err(format!("it holds more than {MAX_NUMBERS} numbers")));
    }
    Some(ArrayD::<T>::read_npy(bytes).map(|array| array.mapv(Number::number)).map_err(|error| error.to_string()))
}

fn csv(text: &str) -> Result<Value, Fault> {
    let mut columns = None;
    let mut rows = 0;
    let mut numbers = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let before = numbers.len();
        for cell in line.split(',') {
            let cell = cell.trim();
            // The rule for literals holds here too; Rust's parser alone would take `nan` and `inf`.
            if cell.contains(|letter: char| letter.is_ascii_alphabetic() && !matches!(letter, 'e' | 'E')) {
                return Err(Fault::at(index + 1, format!("{} is not a number", quoted(cell))));
            }
            numbers.push(number(cell, index + 1)?);
        }
        let count = numbers.len() - before;
        let expected = *columns.get_or_insert(count);
        if count != expected {
            return Err(Fault::at(index + 1, format!("this row has {count} columns, the first has {expected}")));
        }
        rows += 1;
        if numbers.len() > MAX_NUMBERS {
            return Err(Fault::at(index + 1, format!("there are more than {MAX_NUMBERS} numbers")));
        }
    }
    let Some(columns) = columns else { return Err(Fault::whole("the file holds no numbers")) };
    Matrix::from_shape_vec((rows, columns), numbers)
        .map(Value::Matrix)
        .map_err(|error| Fault::whole(format!("the matrix has no shape: {error}")))
}
