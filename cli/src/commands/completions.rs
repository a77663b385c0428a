//! `poniard completions`: scripts that let a shell complete the command line.

use clap::CommandFactory;
use clap::builder::PossibleValuesParser;
use clap_complete::Shell;
use poniard_bench::CASES;

use crate::console::Console;
use crate::failure::Failure;
use crate::options::{CompletionsOptions, Options};
use crate::samples::SAMPLES;

/// Prints the script for one shell.
pub fn completions(options: &CompletionsOptions, console: &mut Console) -> Result<(), Failure> {
    let mut command = Options::command();
    // Bash falls back to file names where no name fits, so there samples and graph files can both be completed; other shells would lose the files.
    if options.shell == Shell::Bash {
        let names = PossibleValuesParser::new(SAMPLES.iter().map(|sample| sample.name));
        command = command.mut_subcommand("run", |run| run.mut_arg("target", |target| target.value_parser(names)));
    }
    let cases = PossibleValuesParser::new(CASES.iter().map(|case| case.name));
    command = command.mut_subcommand("bench", |bench| bench.mut_arg("cases", |arg| arg.value_parser(cases)));
    // Users may have others; these are those that there are.
    let backends = PossibleValuesParser::new(["threads", "process", "vulkan"]);
    for name in ["run", "processors", "bench"] {
        command = command.mut_subcommand(name, |subcommand| subcommand.mut_arg("backends", |arg| arg.value_parser(backends.clone())));
    }
    // Into memory first: the generator panics where the stream fails.
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command, "poniard", &mut script);
    console.bytes(&script)
}
