//! A sample's files: how many it takes, and reading them without trusting them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::sample::{Context, SampleError};

/// The error of `file`.
pub(crate) fn refuse(file: &Path, reason: impl Into<String>) -> SampleError {
    SampleError::Input { file: file.to_owned(), reason: reason.into() }
}

/// The input file, if there is one.
///
/// # Errors
/// [`SampleError::Usage`] when there are several.
pub(crate) fn optional_input<'a>(context: &Context<'a>) -> Result<Option<&'a PathBuf>, SampleError> {
    match context.inputs {
        [] => Ok(None),
        [file] => Ok(Some(file)),
        several => Err(SampleError::Usage { option: "input", reason: format!("takes one file, not {}", several.len()) }),
    }
}

/// The input file; `example` is a command line that has one.
///
/// # Errors
/// [`SampleError::Usage`] when there is none, or several.
pub(crate) fn required_input<'a>(context: &Context<'a>, example: &str) -> Result<&'a PathBuf, SampleError> {
    optional_input(context)?
        .ok_or_else(|| SampleError::Usage { option: "input", reason: format!("this sample needs a file, for example: {example}") })
}

/// Refuses an output file whose extension is none of `extensions`: found out before the work and not after it.
///
/// # Errors
/// [`SampleError::Usage`] that names them.
pub(crate) fn check_output(context: &Context<'_>, extensions: &[&str]) -> Result<(), SampleError> {
    match context.output {
        Some(path) if !extensions.iter().any(|extension| has_extension(path, extension)) => Err(SampleError::Usage {
            option: "output",
            reason: format!("{}: the name must end in .{}", path.display(), extensions.join(" or .")),
        }),
        _ => Ok(()),
    }
}

/// Whether `path` ends in `.extension`, in small or capital letters.
pub(crate) fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|given| given.eq_ignore_ascii_case(extension))
}

/// The content of a file of at most `most_bytes`.
///
/// # Errors
/// [`SampleError::Input`] when it cannot be read or is longer.
pub(crate) fn read(file: &Path, most_bytes: u64) -> Result<Vec<u8>, SampleError> {
    let mut content = Vec::new();
    // One byte more than allowed tells a file that fits from an endless one.
    File::open(file)
        .and_then(|opened| opened.take(most_bytes.saturating_add(1)).read_to_end(&mut content))
        .map_err(|error| refuse(file, error.to_string()))?;
    if content.len() as u64 > most_bytes {
        return Err(refuse(file, format!("longer than {most_bytes} bytes")));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_no_more_than_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("four");
        std::fs::write(&file, b"abcd").unwrap();
        assert_eq!(read(&file, 4).unwrap(), b"abcd");
        assert!(read(&file, 3).unwrap_err().to_string().contains("longer than 3 bytes"));
        assert!(read(Path::new("/dev/zero"), 100).is_err());
        assert!(read(folder.path(), 100).is_err());
        assert!(read(&folder.path().join("none"), 100).unwrap_err().to_string().contains("none"));
    }

    #[test]
    fn knows_extensions() {
        assert!(has_extension(Path::new("a.b/c.PNG"), "png"));
        assert!(!has_extension(Path::new("png"), "png"));
    }
}
