//! `error`: a task that fails takes with it the tasks that need its result, and no others.
//!
//! ```text
//!   parse ──▶ double ──▶ describe        count
//!   fails     not run    not run         runs
//! ```
//!
//! The error that arrives at the end says both: which task was asked for, and which one is to blame. This sample succeeds when it does.

use std::num::ParseIntError;

use crate::sample::{Check, Context, Outcome, Sample, SampleError};

pub(crate) static SAMPLE: Sample =
    Sample { name: "error", summary: "a failing task, what depends on it, and what does not", options: &[], kernels: false, run };

/// What `parse` is given: not digits.
const INPUT: &str = "forty-two";

/// A task that can fail returns a `Result`; its successors still take the plain value.
fn parse(text: String) -> Result<i64, ParseIntError> {
    text.parse()
}

fn double(number: i64) -> i64 {
    2 * number
}

fn describe(number: i64) -> String {
    format!("the answer is {number}")
}

fn count(text: String) -> u64 {
    text.chars().count() as u64
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let runtime = context.runtime;
    let parsed = runtime.task(parse, (INPUT.to_owned(),)).name("parse").spawn();
    let doubled = runtime.task(double, (parsed,)).name("double").spawn();
    let described = runtime.task(describe, (doubled,)).name("describe").spawn();
    let counted = runtime.task(count, (INPUT.to_owned(),)).name("count").spawn();

    let independent = *counted.fetch()?;
    context.progress.advance(1, 2);
    let result = described.fetch();
    context.progress.advance(2, 2);
    Ok(match result {
        Ok(text) => Outcome {
            lines: vec![text.to_string()],
            values: vec![],
            check: Check { passed: false, text: format!("`describe` gave {text:?} although `parse` cannot succeed") },
            output: None,
        },
        Err(error) => {
            let (text, root, reason) = (error.to_string(), error.root_task(), error.reason());
            Outcome {
                lines: vec![
                    format!("error:       {text}"),
                    format!("cause:       task `{root}`"),
                    format!("independent: task `count` gave {independent}"),
                ],
                values: vec![
                    ("error", text.as_str().into()),
                    ("root_task", root.into()),
                    ("reason", reason.as_str().into()),
                    ("independent", independent.into()),
                ],
                check: check(&text, root, &reason, independent),
                output: None,
            }
        }
    })
}

/// Compares what the runtime said with what calling the functions without tasks says.
fn check(text: &str, root: &str, reason: &str, independent: u64) -> Check {
    let Err(cause) = INPUT.parse::<i64>() else {
        return Check { passed: false, text: format!("{INPUT:?} is a number after all") };
    };
    let cause = cause.to_string();
    let passed = text.contains("describe")
        && text.contains("parse")
        && text.contains(&cause)
        && root == "parse"
        && reason.contains(&cause)
        && independent == INPUT.len() as u64;
    Check { passed, text: format!("the error of `describe` names itself, `parse` and {cause:?}; `count` gave {}", INPUT.len()) }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    #[test]
    fn succeeds_by_failing() {
        assert!(Trial::default().passes(&SAMPLE).lines[0].contains("invalid digit"));
    }

    #[test]
    fn check_notices_what_is_missing() {
        let (text, reason) = ("`describe`: `parse` failed: invalid digit found in string", "invalid digit found in string");
        assert!(check(text, "parse", reason, 9).passed);
        assert!(!check("`describe`: `double` failed: invalid digit found in string", "parse", reason, 9).passed);
        assert!(!check("`parse` failed: invalid digit found in string", "parse", reason, 9).passed);
        assert!(!check("`describe`: `parse` failed", "parse", reason, 9).passed);
        assert!(!check(text, "double", reason, 9).passed);
        assert!(!check(text, "parse", "panicked", 9).passed);
        assert!(!check(text, "parse", reason, 8).passed);
    }
}
