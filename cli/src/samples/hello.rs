//! `hello`: a task is a function call that happens elsewhere. Shows `spawn` and `fetch`.

use crate::sample::{Check, Context, Outcome, Sample, SampleError};

pub(crate) static SAMPLE: Sample = Sample { name: "hello", summary: "one task greets: spawn and fetch", options: &[], kernels: false, run };

/// What the task does: an ordinary function.
fn greet(name: String) -> String {
    format!("Hello, {name}, from a task!")
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    // `spawn` returns at once; a processor calls `greet("world")` when it can.
    let greeting = context.runtime.spawn(greet, (String::from("world"),));
    // `fetch` waits for the result, and gives the task's error if it failed.
    let greeting = greeting.fetch()?;
    context.progress.advance(1, 1);

    Ok(Outcome {
        lines: vec![greeting.to_string()],
        values: vec![("greeting", greeting.as_str().into())],
        check: check(&greeting),
        output: None,
    })
}

fn check(greeting: &str) -> Check {
    let expected = "Hello, world, from a task!";
    Check { passed: greeting == expected, text: format!("the greeting is {expected:?}") }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    #[test]
    fn greets() {
        assert_eq!(Trial::default().passes(&SAMPLE).lines, ["Hello, world, from a task!"]);
    }

    #[test]
    fn check_notices_another_greeting() {
        assert!(!check("Hello, world, from a tusk!").passed);
    }
}
