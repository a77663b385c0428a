//! What `poniard simulate` writes to files: a trace, a picture, a table of decisions.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use poniard_scheduler_sim::output::{Run, csv, gantt, paje, trace};

use crate::console::Console;
use crate::failure::Failure;
use crate::output::OutputFile;
use crate::report::digits;

/// Heading of the options that name files to write.
const WRITTEN: &str = "What to write";

/// Files to write about a run.
#[derive(Args, Clone, Debug, Default)]
pub struct PictureOptions {
    /// Write a trace that Perfetto and Chrome's trace viewer open (JSON)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = WRITTEN)]
    pub trace: Option<PathBuf>,

    /// Write a trace in the Paje format, which ViTE opens
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = WRITTEN)]
    pub paje: Option<PathBuf>,

    /// Write a picture: a lane for each processor, the critical path, idle time by cause, transfers (SVG)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = WRITTEN)]
    pub gantt: Option<PathBuf>,

    /// Write a table with a line for each task: when and where it was placed, why, when it ran, why not before (CSV)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = WRITTEN)]
    pub csv: Option<PathBuf>,
}

impl PictureOptions {
    /// Whether there is one.
    pub fn any(&self) -> bool {
        [&self.trace, &self.paje, &self.gantt, &self.csv].into_iter().any(Option::is_some)
    }
}

/// How a run becomes the text of a file.
type Text = fn(&Run<'_>) -> String;

/// The files that were asked for, which have no contents yet.
#[derive(Debug)]
pub struct Pictures(Vec<(OutputFile, Text)>);

impl Pictures {
    /// Makes sure that all can be written, before anything takes long.
    pub fn prepare(options: &PictureOptions, json: bool, console: &mut Console) -> Result<Self, Failure> {
        let wanted: [(&str, &Option<PathBuf>, Text); 4] =
            [("trace", &options.trace, trace), ("paje", &options.paje, paje), ("gantt", &options.gantt, gantt), ("csv", &options.csv, csv)];
        let mut files: Vec<(OutputFile, Text)> = Vec::new();
        for (name, path, text) in wanted {
            let Some(path) = path else { continue };
            let file = OutputFile::prepare(path)?;
            if files.iter().any(|(other, _)| other.path() == path || other.is_stdout() && file.is_stdout()) {
                return Err(Failure::usage(format_args!("--{name} {}: another option has the same file", path.display())));
            }
            if file.is_stdout() {
                if json {
                    return Err(Failure::usage(format_args!("--{name} and --json cannot both have standard output")));
                }
                console.step_aside();
            }
            files.push((file, text));
        }
        Ok(Self(files))
    }

    /// Writes all: none has its name before the last one is complete. Says so in lines, unless `json`.
    pub fn write(self, run: &Run<'_>, json: bool, console: &mut Console) -> Result<(), Failure> {
        let mut filled = Vec::new();
        for (mut file, text) in self.0 {
            let bytes = file.fill(text(run).as_bytes())?;
            filled.push((file, bytes));
        }
        for (file, bytes) in filled {
            let line = format!("wrote        {} ({} bytes)", file.path().display(), digits(bytes));
            file.commit()?;
            if !json {
                console.line(line)?;
            }
        }
        Ok(())
    }
}
