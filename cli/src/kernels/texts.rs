//! Texts.

use poniard::KernelError;

use super::Definition;
use super::limits::{MAX_TEXT_BYTES, whole};

/// The most pairs of characters that `edit-distance` compares.
const MAX_PAIRS: usize = 10_000_000_000;

pub(super) fn definitions() -> Vec<Definition> {
    vec![
        Definition::new("text-concat", "All inputs one after the other.").repeated("part", |parts: &[&String]| {
            bounded(parts.iter().map(|part| part.len()).sum(), || parts.iter().map(|part| part.as_str()).collect())
        }),
        Definition::new("text-repeat", "A text several times over.").form(["text", "times"], |text: &String, times: &f64| {
            let times = whole("times", *times, 0, MAX_TEXT_BYTES)?;
            bounded(text.len().saturating_mul(times), || text.repeat(times))
        }),
        Definition::new("format", "A number as text, the shortest that reads back as the same number.")
            .form(["value"], |value: &f64| value.to_string()),
        Definition::new("upper-case", "All letters as capitals.").form(["text"], |text: &String| text.to_uppercase()),
        Definition::new("lower-case", "All letters as small letters.").form(["text"], |text: &String| text.to_lowercase()),
        Definition::new("word-count", "The number of words, separated by white space.")
            .form(["text"], |text: &String| text.split_whitespace().count() as f64),
        Definition::new("line-count", "The number of lines.").form(["text"], |text: &String| text.lines().count() as f64),
        Definition::new("edit-distance", "The fewest insertions, deletions and replacements of a character from one text to the other.")
            .form(["a", "b"], |a: &String, b: &String| {
                let (a_count, b_count) = (a.chars().count(), b.chars().count());
                if a_count.saturating_mul(b_count) > MAX_PAIRS {
                    return Err(KernelError::new(format!("texts of {a_count} and {b_count} characters are too long to compare")));
                }
                Ok(strsim::levenshtein(a, b) as f64)
            }),
    ]
}

fn bounded(bytes: usize, text: impl FnOnce() -> String) -> Result<String, KernelError> {
    if bytes > MAX_TEXT_BYTES {
        Err(KernelError::new(format!("a text of {bytes} bytes is over the limit of {MAX_TEXT_BYTES} bytes")))
    } else {
        Ok(text())
    }
}
