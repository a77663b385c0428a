//! Messages that show the place in a kernel's text.

use std::fmt::Write as _;

use naga::Span;
use poniard_interface::InspectError;

/// Of a longer line only the part around the place is shown.
const LINE_MAX: usize = 120;

/// The error `message`, with the place that it is about, and other places with what is to say about them. A place that is not in the text is left out.
///
/// ```text
/// line 2, column 9: unknown type: `f31`
///     let x: f31 = 1;
///            ^^^ unknown type
/// ```
pub(super) fn error_at(text: &str, message: &str, places: &[(Span, &str)]) -> InspectError {
    let mut written = String::new();
    for (span, label) in places {
        let Some(range) = span.to_range().filter(|range| text.is_char_boundary(range.start)) else { continue };
        let (start, end) = (range.start, range.end);
        let (before, after) = text.split_at(start);
        let line = before.matches('\n').count() + 1;
        let left = &before[before.rfind('\n').map_or(0, |at| at + 1)..];
        let right = after.split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let marked = text.get(start..end.min(start + right.len())).map_or(1, |marked| marked.chars().count().max(1));
        let column = left.chars().count() + 1;

        if written.is_empty() {
            let _ = write!(written, "line {line}, column {column}: {}", tidy(message));
        } else {
            let _ = write!(written, "\nline {line}, column {column}:");
        }
        // naga often says the same twice.
        let label = tidy(label);
        let label = if tidy(message).starts_with(&label) { "" } else { label.as_str() };
        // What stands left of the place keeps its tabs, so that the mark stands below it.
        let skipped = column.saturating_sub(LINE_MAX / 2).min(left.chars().count());
        let shown: String = left.chars().skip(skipped).chain(right.chars()).take(LINE_MAX).map(printable).collect();
        let pad: String = left.chars().skip(skipped).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let room = LINE_MAX.saturating_sub(pad.chars().count()).max(1);
        let _ = write!(written, "\n{}\n{pad}{} {label}", shown.trim_end(), "^".repeat(marked.min(room)));
        written.truncate(written.trim_end().len());
    }
    InspectError::new(if written.is_empty() { tidy(message) } else { written })
}

/// The message as messages are here: lower case, no full stop, one line.
fn tidy(message: &str) -> String {
    let message = message.trim().trim_end_matches('.');
    let mut characters = message.chars();
    let lowered = match (characters.next(), characters.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            first.to_lowercase().chain(message.chars().skip(1)).collect()
        }
        _ => message.to_owned(),
    };
    lowered.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a terminal would act on is shown as a blank.
fn printable(character: char) -> char {
    if character.is_control() && character != '\t' { ' ' } else { character }
}
