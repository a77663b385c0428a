//! What the command's exit status means.

/// The exit status of the command. [`HELP`] says the same to users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// All went well.
    Success = 0,
    /// A task of the computation failed, or a replay has come to another decision.
    Task = 1,
    /// The command line makes no sense: an unknown option or name, a value out of range.
    Usage = 2,
    /// A file to read is missing or is not what it should be.
    Input = 3,
    /// There is nothing to run tasks on.
    NoBackend = 4,
    /// A result could not be written.
    Output = 5,
    /// The sample's own check found its result wrong.
    Check = 6,
    /// The command itself is wrong; `EX_SOFTWARE` of `sysexits.h`.
    Bug = 70,
    /// Somebody pressed Ctrl-C or sent SIGTERM; 128 + SIGINT, as shells have it.
    Interrupted = 130,
}

/// The exit codes as `--help` shows them.
pub const HELP: &str = "\
Exit codes:
    0  all went well
    1  a task failed, or a replay decided otherwise
    2  the command line is wrong: a bad option, an unknown name, a number out of range
    3  an input file is missing or bad
    4  no backend was found, or it has no processor
    5  an output could not be written
    6  the sample's check of its own result failed
   70  a bug in poniard
  130  interrupted";

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::{ExitCode, HELP};

    #[test]
    fn the_help_lists_every_code() {
        use ExitCode::*;
        let listed: Vec<u8> = HELP.lines().skip(1).map(|line| line.split_whitespace().next().unwrap().parse().unwrap()).collect();
        let all = [Success, Task, Usage, Input, NoBackend, Output, Check, Bug, Interrupted].map(|code| code as u8);
        assert_eq!(listed, all);
    }
}
