//! `poniard samples`: what can be run.

use serde_json::{Value, json};

use crate::console::{Console, NAME, QUIET, Styled};
use crate::failure::Failure;
use crate::options::ListOptions;
use crate::sample::Sample;
use crate::samples::SAMPLES;

/// Lists the samples.
pub fn samples(options: &ListOptions, console: &mut Console) -> Result<(), Failure> {
    if options.json {
        let all: Value = SAMPLES.iter().map(|sample| as_json(sample)).collect();
        return console.line(all);
    }
    for (index, sample) in SAMPLES.iter().enumerate() {
        if index > 0 {
            console.line("")?;
        }
        console.line(format_args!("{}  {}", Styled(NAME, sample.name), sample.summary))?;
        let width = sample.options.iter().map(|option| option.name.len()).max().unwrap_or(0);
        for option in sample.options {
            let padding = " ".repeat(width - option.name.len());
            console.line(format_args!("    --{}{padding}  {}", option.name, option.meaning))?;
        }
    }
    if !SAMPLES.is_empty() {
        console.line("")?;
    }
    console.line(Styled(QUIET, "Run one with `poniard run NAME`; all take --backend, --threads, --plugin, --set and --json too."))
}

/// A sample for programs.
fn as_json(sample: &Sample) -> Value {
    let options: Value = sample.options.iter().map(|option| json!({ "name": option.name, "meaning": option.meaning })).collect();
    json!({ "name": sample.name, "summary": sample.summary, "options": options })
}
