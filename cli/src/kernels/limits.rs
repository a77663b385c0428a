//! Bounds on what one task of a graph file may ask for, so that a typing error is an error and not an exhausted machine.

use poniard::KernelError;

/// The most numbers in a vector or matrix: 1 GiB of them.
pub(crate) const MAX_NUMBERS: usize = 1 << 27;

/// The most pixels of an image.
pub(crate) const MAX_PIXELS: usize = 1 << 26;

/// The longest edge of an image, in pixels.
pub(crate) const MAX_EDGE: usize = 1 << 15;

/// The longest text, in bytes.
pub(crate) const MAX_TEXT_BYTES: usize = 1 << 26;

/// The longest `wait`, in milliseconds: an hour.
pub(crate) const MAX_WAIT_MS: usize = 3_600_000;

/// `value` as a whole number between `least` and `most`; `what` names it in the error.
///
/// # Errors
/// When it has a fraction, is not finite, or is out of range.
pub(crate) fn whole(what: &str, value: f64, least: usize, most: usize) -> Result<usize, KernelError> {
    // Every bound in this file is far below 2^53, so the conversions are exact.
    if value.fract() == 0.0 && value >= least as f64 && value <= most as f64 {
        Ok(value as usize)
    } else {
        Err(KernelError::new(format!("{what} must be a whole number from {least} to {most}, not {value}")))
    }
}

/// `rows` and `columns` of a matrix that fits.
///
/// # Errors
/// When one is not a whole number or their product is over [`MAX_NUMBERS`].
pub(crate) fn matrix_shape(rows: f64, columns: f64) -> Result<(usize, usize), KernelError> {
    let shape = (whole("rows", rows, 0, MAX_NUMBERS)?, whole("columns", columns, 0, MAX_NUMBERS)?);
    numbers_fit(shape.0, shape.1)?;
    Ok(shape)
}

/// Whether a matrix of that shape may be made.
///
/// # Errors
/// When it may not.
pub(crate) fn numbers_fit(rows: usize, columns: usize) -> Result<(), KernelError> {
    match rows.checked_mul(columns) {
        Some(count) if count <= MAX_NUMBERS => Ok(()),
        _ => Err(KernelError::new(format!("a matrix of {rows} x {columns} numbers is over the limit of {MAX_NUMBERS} numbers"))),
    }
}

/// `width` and `height` of an image that fits.
///
/// # Errors
/// When one is not a whole number from 1 to [`MAX_EDGE`] or there are more than [`MAX_PIXELS`].
pub(crate) fn image_size(width: f64, height: f64) -> Result<(usize, usize), KernelError> {
    let (width, height) = (whole("width", width, 1, MAX_EDGE)?, whole("height", height, 1, MAX_EDGE)?);
    if width * height > MAX_PIXELS {
        return Err(KernelError::new(format!("an image of {width} x {height} pixels is over the limit of {MAX_PIXELS} pixels")));
    }
    Ok((width, height))
}
