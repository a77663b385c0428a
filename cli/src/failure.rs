//! Why the command could not do what it was asked.

use std::fmt::Display;

use poniard::{BuildError, BuildErrorKind};

use crate::exit_code::ExitCode;
use crate::graph::GraphError;
use crate::output::OutputError;
use crate::sample::SampleError;

/// An error as the user meets it: a paragraph on standard error and an exit code.
#[derive(Debug)]
pub struct Failure {
    /// What the command exits with.
    pub code: ExitCode,
    /// What went wrong and where: lower case, no full stop, without the leading `error:`.
    pub text: String,
}

impl Failure {
    /// A failure with `code`, told by `text`.
    pub fn new(code: ExitCode, text: impl Display) -> Self {
        Self { code, text: text.to_string() }
    }

    /// The command line makes no sense.
    pub fn usage(text: impl Display) -> Self {
        Self::new(ExitCode::Usage, text)
    }

    /// A file to read is missing or bad.
    pub fn input(text: impl Display) -> Self {
        Self::new(ExitCode::Input, text)
    }
}

impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Self {
        Self::new(ExitCode::Output, error)
    }
}

impl From<SampleError> for Failure {
    fn from(error: SampleError) -> Self {
        let code = match &error {
            SampleError::Usage { .. } => ExitCode::Usage,
            SampleError::Input { .. } => ExitCode::Input,
            SampleError::Task(_) => ExitCode::Task,
        };
        Self::new(code, error)
    }
}

impl From<GraphError> for Failure {
    fn from(error: GraphError) -> Self {
        let code = if error.is_input() { ExitCode::Input } else { ExitCode::Task };
        Self::new(code, error)
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        let code = match error.kind() {
            BuildErrorKind::Setting => ExitCode::Usage,
            _ => ExitCode::NoBackend,
        };
        Self::new(code, error)
    }
}
