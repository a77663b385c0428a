//! Results in short form for people and in full for programs.

use serde_json::{Value as Json, json as object};

use crate::kernels::ValueRef;

/// Elements of a vector shown in a line.
const SHOWN_ELEMENTS: usize = 6;

/// Characters of a text shown in a line.
const SHOWN_CHARACTERS: usize = 60;

/// A result in a line: `d = 3.5`, `edges: image 640x480 rgb`.
pub(super) fn line(name: &str, value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Number(value) => format!("{name} = {}", number(value)),
        ValueRef::Text(text) => {
            let mut shown: String = text.chars().take(SHOWN_CHARACTERS).collect();
            if shown.len() < text.len() {
                shown.push('…');
            }
            format!("{name} = {shown:?}")
        }
        ValueRef::Vector(vector) => {
            let mut shown: Vec<String> = vector.iter().take(SHOWN_ELEMENTS).map(|value| number(*value)).collect();
            if shown.len() < vector.len() {
                shown.push("…".to_owned());
            }
            format!("{name}: vector of {} [{}]", vector.len(), shown.join(", "))
        }
        ValueRef::Matrix(matrix) => format!("{name}: matrix {}x{}", matrix.nrows(), matrix.ncols()),
        ValueRef::Image(image) => {
            let (height, width, channels) = image.dim();
            format!("{name}: image {width}x{height} {}", if channels == 3 { "rgb" } else { "grey" })
        }
    }
}

/// A number as text that reads back as the same number: plain where that is short, else with an exponent.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        0.0 | 1e-5..1e16 => value.to_string(),
        size if size.is_finite() => format!("{value:e}"),
        _ => value.to_string(),
    }
}

/// A result as JSON. Vectors and matrices of more than `most` numbers, and images, are described instead: `{"type":"image","width":…}`.
pub(super) fn json(value: ValueRef<'_>, most: usize) -> Json {
    match value {
        ValueRef::Number(value) => json_number(value),
        ValueRef::Text(text) => Json::from(text),
        ValueRef::Vector(vector) if vector.len() <= most => vector.iter().map(|value| json_number(*value)).collect(),
        ValueRef::Vector(vector) => object!({ "type": "vector", "length": vector.len() }),
        ValueRef::Matrix(matrix) if matrix.len() <= most => {
            matrix.rows().into_iter().map(|row| row.iter().map(|value| json_number(*value)).collect::<Json>()).collect()
        }
        ValueRef::Matrix(matrix) => object!({ "type": "matrix", "rows": matrix.nrows(), "columns": matrix.ncols() }),
        ValueRef::Image(image) => {
            let (height, width, channels) = image.dim();
            object!({ "type": "image", "width": width, "height": height, "channels": channels })
        }
    }
}

/// JSON has no infinities and no NaN; as a text they are at least not lost.
fn json_number(value: f64) -> Json {
    const EXACT: f64 = (1_u64 << 53) as f64;
    if !value.is_finite() {
        Json::from(value.to_string())
    } else if value.fract() == 0.0 && value.abs() <= EXACT && !(value == 0.0 && value.is_sign_negative()) {
        Json::from(value as i64)
    } else {
        Json::from(value)
    }
}
