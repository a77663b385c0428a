//! JSON (RFC 8259) read into a tree with lines.
//!
//! Our own reader: `serde_json` gives a line for a malformed file only, and lets the last of two equal names win.

use std::collections::BTreeMap;

use super::document::{Content, Entry, MAX_DEPTH, Node, number, too_deep};
use super::error::{Fault, quoted};

/// The one value of `text`.
pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    let mut reader = Reader { text, position: 0, line: 1 };
    let node = reader.value(0)?;
    reader.skip_space();
    if reader.peek().is_some() {
        return Err(reader.unexpected("the end of the file"));
    }
    Ok(node)
}

struct Reader<'a> {
    text: &'a str,
    position: usize,
    line: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    /// White space is the only place where a line can end: a text of JSON holds no raw line feed.
    fn skip_space(&mut self) {
        while let Some(byte @ (b' ' | b'\t' | b'\r' | b'\n')) = self.peek() {
            self.position += 1;
            self.line += usize::from(byte == b'\n');
        }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.position..).unwrap_or_default()
    }

    fn unexpected(&self, expected: &str) -> Fault {
        match self.rest().chars().next() {
            None => Fault::at(self.line, format!("the file ends where {expected} is expected")),
            Some(found) => Fault::at(self.line, format!("found {} where {expected} is expected", quoted(&found.to_string()))),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Fault> {
        self.skip_space();
        let line = self.line;
        let content = match self.peek() {
            Some(b'{' | b'[') if depth >= MAX_DEPTH => return Err(too_deep(line)),
            Some(b'{') => self.table(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Content::Text(self.text_literal()?),
            Some(b'-' | b'0'..=b'9') => Content::Number(self.number_literal()?),
            _ => self.word()?,
        };
        Ok(Node { line, content })
    }

    /// Steps over `,` to the next item (true) or over `close` (false).
    fn goes_on(&mut self, close: u8, what: &str) -> Result<bool, Fault> {
        self.skip_space();
        match self.peek() {
            Some(b',') => {
                self.position += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.position += 1;
                Ok(false)
            }
            _ => Err(self.unexpected(what)),
        }
    }

    /// Whether the list or table just opened is empty; steps over its end then.
    fn is_empty(&mut self, close: u8) -> bool {
        self.position += 1;
        self.skip_space();
        let empty = self.peek() == Some(close);
        self.position += usize::from(empty);
        empty
    }

    fn list(&mut self, depth: usize) -> Result<Content, Fault> {
        let mut items = Vec::new();
        if !self.is_empty(b']') {
            loop {
                items.push(self.value(depth + 1)?);
                if !self.goes_on(b']', "`,` or `]`")? {
                    break;
                }
            }
        }
        Ok(Content::List(items))
    }

    fn table(&mut self, depth: usize) -> Result<Content, Fault> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines: BTreeMap<String, usize> = BTreeMap::new();
        if !self.is_empty(b'}') {
            loop {
                self.skip_space();
                if self.peek() != Some(b'"') {
                    return Err(self.unexpected("a name in double quotes"));
                }
                let line = self.line;
                let name = self.text_literal()?;
                if let Some(first) = lines.insert(name.clone(), line) {
                    return Err(Fault::at(line, format!("{} is defined twice, first on line {first}", quoted(&name))));
                }
                self.skip_space();
                if self.peek() != Some(b':') {
                    return Err(self.unexpected("`:`"));
                }
                self.position += 1;
                let value = self.value(depth + 1)?;
                entries.push(Entry { name, line, value });
                if !self.goes_on(b'}', "`,` or `}`")? {
                    break;
                }
            }
        }
        Ok(Content::Table(entries))
    }

    fn text_literal(&mut self) -> Result<String, Fault> {
        let rest = self.rest();
        let mut escaped = false;
        let length = rest.bytes().enumerate().skip(1).find_map(|(index, byte)| {
            let closes = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            closes.then_some(index + 1)
        });
        let Some(literal) = length.and_then(|length| rest.get(..length)) else {
            return Err(Fault::at(self.line, "a text is not closed: `\"` is missing"));
        };
        self.position += literal.len();
        // Escapes and forbidden characters are `serde_json`'s business; its error's place is within the literal and so left out.
        serde_json::from_str(literal).map_err(|error| {
            let reason = error.to_string();
            let reason = reason.split(" at line").next().unwrap_or_default();
            Fault::at(self.line, format!("the text {} is malformed: {reason}", quoted(literal.trim_matches('"'))))
        })
    }

    fn number_literal(&mut self) -> Result<f64, Fault> {
        let rest = self.rest();
        let length = rest.bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')).count();
        let literal = rest.get(..length).unwrap_or_default();
        if !is_json_number(literal) {
            return Err(Fault::at(self.line, format!("{} is not a number of JSON", quoted(literal))));
        }
        self.position += length;
        number(literal, self.line)
    }

    fn word(&mut self) -> Result<Content, Fault> {
        let rest = self.rest();
        let length = rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        let word = rest.get(..length).unwrap_or_default();
        let content = match word {
            "true" | "false" => Content::Boolean,
            "null" => Content::Null,
            "" => return Err(self.unexpected("a value")),
            _ => return Err(Fault::at(self.line, format!("{} is not a value of JSON; a text is in double quotes", quoted(word)))),
        };
        self.position += length;
        Ok(content)
    }
}

/// `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`: Rust's own parser takes more, such as `.5` and `01`.
fn is_json_number(literal: &str) -> bool {
    fn digits(text: &str) -> (usize, &str) {
        let count = text.bytes().take_while(u8::is_ascii_digit).count();
        (count, text.get(count..).unwrap_or_default())
    }
    let body = literal.strip_prefix('-').unwrap_or(literal);
    let (count, mut rest) = digits(body);
    if count == 0 || (count > 1 && body.starts_with('0')) {
        return false;
    }
    if let Some(fraction) = rest.strip_prefix('.') {
        let (count, after) = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = after;
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let (count, after) = digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
        return count > 0 && after.is_empty();
    }
    rest.is_empty()
}
