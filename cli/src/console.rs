//! Standard output and standard error, in colour where somebody watches.
//!
//! Colours pass through `anstream`, which drops them when the stream is no terminal or `NO_COLOR` is set.

use std::fmt::{self, Display};
use std::io::{self, ErrorKind, Write};

use anstyle::{AnsiColor, Style};

use crate::exit_code::ExitCode;
use crate::failure::Failure;

/// The style of names: samples, kernels, backends.
pub const NAME: Style = Style::new().bold();
/// The style of things said in passing.
pub const QUIET: Style = Style::new().dimmed();
/// The style of success.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// The style of errors.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// The style of warnings.
const WARNING: Style = AnsiColor::Yellow.on_default().bold();

/// Something to print in a style.
#[derive(Debug)]
pub struct Styled<T>(pub Style, pub T);

impl<T: Display> Display for Styled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:#}", self.0, self.1, self.0)
    }
}

/// Standard output: remembers when its reader has gone, and is quiet from then on.
///
/// A reader such as `head` that has seen enough is no error, and what else there is to do, such as an output file, still gets done.
/// The stream is locked for a line at a time, so that a task that prints does not wait for the whole run.
#[derive(Debug)]
pub struct Console {
    /// Whether the reader has gone.
    gone: bool,
    /// Whether lines go to standard error, because a result's bytes go to standard output.
    aside: bool,
}

impl Console {
    /// The command's console.
    pub fn new() -> Self {
        Self { gone: false, aside: false }
    }

    /// A console whose reader has gone, for tests.
    #[cfg(test)]
    pub fn unread() -> Self {
        Self { gone: true, aside: false }
    }

    /// Sends lines to standard error from now on: standard output is wanted for a result's bytes.
    pub fn step_aside(&mut self) {
        self.aside = true;
    }

    /// Prints a line.
    ///
    /// # Errors
    /// When standard output cannot be written, for instance to a full disk.
    pub fn line(&mut self, text: impl Display) -> Result<(), Failure> {
        if self.aside {
            // Whoever closed standard error does not read it.
            let _ = writeln!(anstream::stderr().lock(), "{text}");
            return Ok(());
        }
        if self.gone {
            return Ok(());
        }
        let written = writeln!(anstream::stdout().lock(), "{text}");
        self.note(written)
    }

    /// Prints bytes as they are.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.gone {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
        drop(stdout);
        self.note(written)
    }

    /// Sends on what is still held back.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn finish(&mut self) -> Result<(), Failure> {
        if self.gone {
            return Ok(());
        }
        let written = io::stdout().lock().flush();
        self.note(written)
    }

    /// Makes a failure of a failed write, unless the reader has just gone.
    fn note(&mut self, written: io::Result<()>) -> Result<(), Failure> {
        match written {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.gone = true;
                Ok(())
            }
            Err(error) => Err(Failure::new(ExitCode::Output, format_args!("standard output could not be written: {error}"))),
        }
    }
}

/// Prints `error: text` to standard error.
pub fn error(text: impl Display) {
    // Nobody is left to be told that standard error cannot be written.
    let _ = writeln!(anstream::stderr().lock(), "{} {text}", Styled(BAD, "error:"));
}

/// Prints `warning: text` to standard error.
pub fn warn(text: impl Display) {
    let _ = writeln!(anstream::stderr().lock(), "{} {text}", Styled(WARNING, "warning:"));
}

/// Prints a bare line to standard error.
pub fn remark(text: impl Display) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}
