//! Reads the text form of a scope.

use std::fmt;
use std::str::FromStr;

use super::{Operator, ProcessId, Scope, ScopeTerm, Step};

/// A text is no scope. The message quotes the text and says at which character it stops being one, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseScopeError {
    /// The whole text.
    pub text: String,
    /// The character at which it is wrong, counted from 1; one more than there are when something is missing at the end.
    pub character: usize,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for ParseScopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the scope `{}` is wrong at character {}: {}", self.text, self.character, self.reason)
    }
}

impl std::error::Error for ParseScopeError {}

/// What a simple scope may be, for messages.
const TERMS: &str = "`any`, `host`, `process:<number>`, `worker:<number>`, `kind:<name>`, `backend:<name>`, `processor:<name>`, `device:<name or uuid>` or `(`";

/// What waits for its right side, or for the parenthesis that closes it.
enum Waiting {
    Operator(Operator),
    /// With the byte at which it stands.
    Open(usize),
}

/// Fault at a byte of the text.
type Fault = (usize, String);

/// Source: the shunting-yard algorithm, Dijkstra, Mathematisch Centrum report MR 35, 1961. No depth of nesting is a depth of calls.
fn steps(text: &str) -> Result<Vec<Step>, Fault> {
    let mut steps = Vec::new();
    let mut waiting = Vec::new();
    let mut at = 0;
    // Whether a scope has just ended, so that an operator may follow.
    let mut ended = false;
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        let Some(next) = text[at..].chars().next() else { break };
        let operator = match next {
            '|' => Some(Operator::Or),
            '&' => Some(Operator::And),
            '-' => Some(Operator::Except),
            _ => None,
        };
        match (operator, ended) {
            (Some(operator), true) => {
                // What binds as tightly stands to the left, so it goes first.
                while let Some(Waiting::Operator(before)) = waiting.last()
                    && *before >= operator
                {
                    steps.push(Step::Operator(*before));
                    waiting.pop();
                }
                waiting.push(Waiting::Operator(operator));
                ended = false;
                at += 1;
            }
            (None, true) if next == ')' => {
                loop {
                    match waiting.pop() {
                        Some(Waiting::Operator(operator)) => steps.push(Step::Operator(operator)),
                        Some(Waiting::Open(_)) => break,
                        None => return Err((at, "this `)` closes nothing".into())),
                    }
                }
                at += 1;
            }
            (_, true) => return Err((at, "expected `|`, `&`, `-` or `)`".into())),
            (None, false) if next == '(' => {
                waiting.push(Waiting::Open(at));
                at += 1;
            }
            (None, false) if next != ')' => {
                let (term, end) = term(text, at)?;
                steps.push(Step::Term(term));
                ended = true;
                at = end;
            }
            (_, false) => return Err((at, format!("expected {TERMS}, found `{next}`"))),
        }
    }
    if !ended {
        return Err((at, format!("expected {TERMS}")));
    }
    while let Some(left) = waiting.pop() {
        match left {
            Waiting::Operator(operator) => steps.push(Step::Operator(operator)),
            Waiting::Open(at) => return Err((at, "this `(` is not closed".into())),
        }
    }
    Ok(steps)
}

/// The simple scope that begins at byte `start`, and where it ends.
fn term(text: &str, start: usize) -> Result<(ScopeTerm, usize), Fault> {
    let ends = |letter: char| letter.is_whitespace() || matches!(letter, '|' | '&' | '(' | ')');
    let end_of = |from: usize| text[from..].find(ends).map_or(text.len(), |length| from + length);
    let word = &text[start..end_of(start)];
    let Some((what, _)) = word.split_once(':') else {
        let end = start + word.len();
        return match word {
            "any" => Ok((ScopeTerm::Any, end)),
            "host" => Ok((ScopeTerm::Host, end)),
            _ => Err((start, unknown(word))),
        };
    };
    let make: fn(&str) -> Option<ScopeTerm> = match what {
        "process" => |number| Some(ScopeTerm::Process(ProcessId(number.parse().ok()?))),
        "worker" => |number| Some(ScopeTerm::Worker(number.parse().ok()?)),
        "kind" => |name| Some(ScopeTerm::Kind(name.into())),
        "backend" => |name| Some(ScopeTerm::Backend(name.into())),
        "processor" => |name| Some(ScopeTerm::Processor(name.into())),
        "device" => |name| Some(ScopeTerm::Device(name.into())),
        _ => return Err((start, unknown(word))),
    };
    let from = start + what.len() + 1;
    let (name, end) = match text[from..].strip_prefix('"') {
        Some(quoted) => match quoted.split_once('"') {
            Some((name, _)) => (name, from + name.len() + 2),
            None => return Err((from, "this `\"` is not closed".into())),
        },
        None => (&text[from..end_of(from)], end_of(from)),
    };
    if name.is_empty() {
        return Err((from, format!("expected a name after `{what}:`")));
    }
    let term = make(name).ok_or_else(|| (from, format!("expected a number after `{what}:`, found `{name}`")))?;
    Ok((term, end))
}

fn unknown(word: &str) -> String {
    let hint = if word.contains('-') { "; between scopes, `-` has white space before it" } else { "" };
    format!("expected {TERMS}, found `{word}`{hint}")
}

impl FromStr for Scope {
    type Err = ParseScopeError;

    fn from_str(text: &str) -> Result<Self, ParseScopeError> {
        match steps(text) {
            // The combinators know what is the same as any processor.
            Ok(steps) => Ok(combined(steps)),
            Err((at, reason)) => Err(ParseScopeError { text: text.into(), character: text[..at].chars().count() + 1, reason }),
        }
    }
}

/// The scope of an expression, with what is the same as any processor left out, as the combinators do.
fn combined(steps: Vec<Step>) -> Scope {
    Scope(Some(std::sync::Arc::new(steps))).fold(
        |term| Scope::from(term.clone()),
        |operator, left, right| match operator {
            Operator::Or => left.or(right),
            Operator::And => left.and(right),
            Operator::Except => left.except(right),
        },
    )
}
