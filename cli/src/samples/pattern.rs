//! Patterns of cellular automata in run-length encoded files, `.rle`.
//!
//! ```text
//! #N Glider                  comments: before the header, or between the lines
//! x = 3, y = 3, rule = B3/S23
//! bob$2bo$3o!                b dead, o alive, $ end of a row, ! end of the pattern; each with a count before it
//! ```
//!
//! Source: <https://conwaylife.com/wiki/Run_Length_Encoded>.

use std::fmt;

use poniard::Data;
use serde::{Deserialize, Serialize};

/// The most rows and columns of a pattern.
const MOST_EDGE: usize = 1 << 16;
/// The most living cells of a pattern: a few bytes of a file can stand for many.
const MOST_ALIVE: usize = 1 << 24;

/// When a cell is born, and when it stays alive, by the number of its neighbours that are alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Data, Serialize, Deserialize)]
pub(crate) struct Rule {
    /// Bit n: a dead cell with n living neighbours is born.
    pub(crate) birth: u32,
    /// Bit n: a living cell with n living neighbours stays alive.
    pub(crate) survival: u32,
}

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// Columns.
    pub(crate) width: usize,
    /// Rows.
    pub(crate) height: usize,
    /// Row and column of each living cell.
    pub(crate) alive: Vec<(usize, usize)>,
    /// The rule that the file names, or Life.
    pub(crate) rule: Rule,
}

/// A file that is not a pattern.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub(crate) struct PatternError {
    line: usize,
    reason: String,
}

impl Rule {
    /// Conway's Life.
    pub(crate) const LIFE: Self = Self { birth: 1 << 3, survival: 1 << 2 | 1 << 3 };

    /// Whether a cell is alive in the next generation.
    pub(crate) fn next(&self, alive: bool, neighbours: u32) -> bool {
        (if alive { self.survival } else { self.birth }) >> neighbours & 1 == 1
    }

    /// Parses `B3/S23`, in capitals or not, `B3S23`, the older `23/3` with survival first, or `Life`.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text == "life" {
            return Some(Self::LIFE);
        }
        let (birth, survival) = if let Some(rest) = text.strip_prefix('b') {
            let (birth, survival) = rest.split_once('s')?;
            (birth.strip_suffix('/').unwrap_or(birth), survival)
        } else if let Some(rest) = text.strip_prefix('s') {
            let (survival, birth) = rest.split_once('b')?;
            (birth, survival.strip_suffix('/').unwrap_or(survival))
        } else {
            let (survival, birth) = text.split_once('/')?;
            (birth, survival)
        };
        let counts = |digits: &str| {
            digits.chars().try_fold(0, |bits, digit| digit.to_digit(10).filter(|count| *count <= 8).map(|count| bits | 1 << count))
        };
        Some(Self { birth: counts(birth)?, survival: counts(survival)? })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = |bits: u32| (0..9).filter(|count| bits >> count & 1 == 1).map(|count| count.to_string()).collect::<String>();
        write!(f, "B{}/S{}", digits(self.birth), digits(self.survival))
    }
}

impl Pattern {
    /// Parses the content of a file.
    ///
    /// # Errors
    /// [`PatternError`] names the line.
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        let mut rule = None;
        let mut size = None;
        let mut cells = Cells::default();
        let mut last_line = 1;
        for (line, content) in (1..).zip(text.lines()) {
            last_line = line;
            let error = |reason| PatternError { line, reason };
            let content = content.trim();
            if let Some(comment) = content.strip_prefix('#') {
                // `#r` is how old files name their rule.
                if let Some(named) = comment.strip_prefix('r') {
                    rule = Some(parse_rule(named).map_err(error)?);
                }
            } else if content.starts_with('x') && size.is_none() && cells.is_untouched() {
                let (width, height, named) = parse_header(content).map_err(error)?;
                size = Some((width, height));
                rule = named.or(rule);
            } else {
                let ended = cells.read(content).map_err(error)?;
                if let Some((width, height)) = size
                    && (cells.width > width || cells.height > height)
                {
                    return Err(error(format!("a living cell lies outside the {width} x {height} cells of the header")));
                }
                if ended {
                    // What follows the end is a comment.
                    let (width, height) = size.unwrap_or((cells.width, cells.height));
                    return Ok(Self { width, height, alive: cells.alive, rule: rule.unwrap_or(Rule::LIFE) });
                }
            }
        }
        Err(PatternError { line: last_line, reason: "the file ends without the `!` that ends a pattern".into() })
    }
}

fn parse_rule(text: &str) -> Result<Rule, String> {
    Rule::parse(text).ok_or_else(|| format!("the rule `{}` is not of the form B3/S23", text.trim()))
}

/// Parses `x = 3, y = 3, rule = B3/S23`: width, height and the rule, which may be missing.
fn parse_header(text: &str) -> Result<(usize, usize, Option<Rule>), String> {
    // Not more than three: what follows `rule =` may contain commas.
    let mut parts = text.splitn(3, ',');
    let mut value = |name| {
        let (key, value) = parts.next()?.split_once('=')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    };
    let edge = |value: Option<String>, name| match value.map(|text| text.parse::<usize>()) {
        Some(Ok(edge)) if edge <= MOST_EDGE => Ok(edge),
        Some(Ok(edge)) => Err(format!("{name} = {edge} is too large: at most {MOST_EDGE}")),
        _ => Err(format!("the header is not of the form `x = 3, y = 3, rule = B3/S23`: no {name}")),
    };
    let width = edge(value("x"), "x")?;
    let height = edge(value("y"), "y")?;
    match parts.next() {
        None => Ok((width, height, None)),
        Some(rest) => match rest.split_once('=') {
            Some((key, named)) if key.trim() == "rule" => Ok((width, height, Some(parse_rule(named)?))),
            _ => Err(format!("`{}` in the header is not a rule", rest.trim())),
        },
    }
}

/// The cells that have been read.
#[derive(Default)]
struct Cells {
    alive: Vec<(usize, usize)>,
    /// Where the next cell goes.
    row: usize,
    column: usize,
    /// Digits of a count that is not yet used.
    count: Option<usize>,
    /// Columns and rows up to the last living cell.
    width: usize,
    height: usize,
}

impl Cells {
    fn is_untouched(&self) -> bool {
        self.row == 0 && self.column == 0 && self.count.is_none() && self.alive.is_empty()
    }

    /// Reads a line; whether the pattern ended in it.
    fn read(&mut self, line: &str) -> Result<bool, String> {
        for tag in line.chars() {
            if let Some(digit) = tag.to_digit(10) {
                let count = self.count.unwrap_or(0) * 10 + digit as usize;
                if count > MOST_EDGE {
                    return Err(format!("a count is too large: at most {MOST_EDGE}"));
                }
                self.count = Some(count);
                continue;
            }
            if tag.is_whitespace() {
                continue;
            }
            let repeat = self.count.take();
            if repeat == Some(0) {
                return Err(format!("a count of 0 before `{tag}`"));
            }
            let count = repeat.unwrap_or(1);
            match tag {
                'b' | '.' => self.column += count,
                // `A` is the first living state in files of automata that have several.
                'o' | 'A' => {
                    if self.alive.len() + count > MOST_ALIVE {
                        return Err(format!("too many living cells: at most {MOST_ALIVE}"));
                    }
                    self.alive.extend((self.column..self.column + count).map(|column| (self.row, column)));
                    self.column += count;
                    self.width = self.width.max(self.column);
                    self.height = self.row + 1;
                }
                '$' => {
                    self.row += count;
                    self.column = 0;
                }
                '!' if repeat.is_none() => return Ok(true),
                '!' => return Err("a count before `!`".into()),
                'B'..='X' => return Err(format!("cell state `{tag}`: automata with more than two states are not supported")),
                other => return Err(format!("`{}` is none of b, o, $, ! and digits", other.escape_default())),
            }
            if self.row > MOST_EDGE || self.column > MOST_EDGE {
                return Err(format!("the pattern is too large: at most {MOST_EDGE} rows and columns"));
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GLIDER: [(usize, usize); 5] = [(0, 1), (1, 2), (2, 0), (2, 1), (2, 2)];

    #[test]
    fn parses_every_spelling_of_a_glider() {
        for text in [
            "x = 3, y = 3, rule = B3/S23\nbob$2bo$3o!",
            "#N Glider\n#C a comment\nx=3,y=3\nbob$\n2bo$\n3o!\nwhat follows is a comment $$$ 99z",
            "x = 3, y = 3, rule = b3/s23\r\nbo b$2b\r\no$3\r\no!\r\n",
            "\n#r 23/3\nx = 3 , y = 3\n.A$..A$3A!",
            "bo$2bo$3o!",
            "x = 3, y = 3, rule = Life\n#C in between\nbo$2bo$3o!",
        ] {
            let pattern = Pattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((pattern.width, pattern.height, pattern.rule), (3, 3, Rule::LIFE), "{text}");
            assert_eq!(pattern.alive, GLIDER, "{text}");
        }
    }

    #[test]
    fn parses_rules() {
        for (text, shown) in [
            ("B36/S23", "B36/S23"),
            ("B3S23", "B3/S23"),
            ("S23/B3", "B3/S23"),
            ("125/36", "B36/S125"),
            ("B2/S", "B2/S"),
            ("/2", "B2/S"),
            ("B012345678/S012345678", "B012345678/S012345678"),
        ] {
            assert_eq!(Rule::parse(text).map(|rule| rule.to_string()).as_deref(), Some(shown), "{text}");
        }
        for text in ["", "B9/S", "B3/S23/4", "B3", "WireWorld", "B3/S23:T10,10", "B2-a/S12", "B3/S23V"] {
            assert_eq!(Rule::parse(text), None, "{text}");
        }
    }

    #[test]
    fn empty_patterns_and_trailing_rows_are_patterns() {
        assert_eq!(Pattern::parse("!").unwrap().alive, []);
        assert_eq!(Pattern::parse("x = 0, y = 0\n!").unwrap().alive, []);
        let pattern = Pattern::parse("x = 5, y = 5\n9b$3$o3$!").unwrap();
        assert_eq!((pattern.width, pattern.height, &pattern.alive[..]), (5, 5, &[(4, 0)][..]));
    }

    #[test]
    fn names_the_line_of_an_error() {
        for (text, expected) in [
            ("", "line 1: the file ends"),
            ("x = 3, y = 3\nbob$2bo$3o", "line 2: the file ends without the `!`"),
            ("x = 3\nbo!", "line 1: the header is not of the form"),
            ("x = a, y = 3\nbo!", "line 1: the header"),
            ("x = 3, z = 3\nbo!", "line 1: the header"),
            ("x = -3, y = 3\nbo!", "line 1: the header"),
            ("x = 99999999999, y = 3\nbo!", "line 1: x = 99999999999 is too large"),
            ("x = 3, y = 3, rule = WireWorld\nbo!", "line 1: the rule `WireWorld`"),
            ("x = 3, y = 3, ruler = B3/S23\nbo!", "line 1: `ruler = B3/S23`"),
            ("#C one\nx = 3, y = 3\nbob$\n2bz$!", "line 4: `z` is none of"),
            ("x = 3, y = 3\nbob$4o!", "line 2: a living cell lies outside the 3 x 3"),
            ("x = 3, y = 1\no$o!", "line 2: a living cell lies outside the 3 x 1"),
            ("99999999999999999999999999o!", "line 1: a count is too large"),
            ("60000b60000b!", "line 1: the pattern is too large"),
            ("60000$60000$!", "line 1: the pattern is too large"),
            ("0o!", "line 1: a count of 0"),
            ("3!", "line 1: a count before `!`"),
            ("oB!", "line 1: cell state `B`"),
            ("\u{89}PNG\r\n", "line 1: `\\u{89}`"),
        ] {
            let error = Pattern::parse(text).map_err(|error| error.to_string());
            assert!(error.as_ref().is_err_and(|error| error.starts_with(expected)), "{text:?}: {error:?}");
        }
    }
}
