//! `samples`, `kernels` and `completions`, which need no plugin; and what becomes of their output.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use crate::installation::{Answer, Installation};

#[test]
fn samples_are_listed_with_their_options() {
    let installation = Installation::without_plugins();
    let samples = installation.ask("samples --json").json();
    let text = installation.ask("samples").good();
    for sample in samples.as_array().unwrap() {
        for name in [sample["name"].as_str().unwrap(), sample["summary"].as_str().unwrap()] {
            assert!(text.contains(name), "no {name} in {text}");
        }
        for option in sample["options"].as_array().unwrap() {
            assert!(text.contains(&format!("--{}", option["name"].as_str().unwrap())), "no {option} in {text}");
            assert!(text.contains(option["meaning"].as_str().unwrap()), "no {option} in {text}");
        }
    }
    assert!(text.contains("poniard run NAME"), "{text}");
}

#[test]
fn kernels_are_listed_with_their_signatures() {
    let installation = Installation::without_plugins();
    let text = installation.ask("kernels").good();
    for kernel in installation.ask("kernels --json").json().as_array().unwrap() {
        for key in ["name", "signature", "summary"] {
            assert!(text.contains(kernel[key].as_str().unwrap()), "no {kernel} in {text}");
        }
    }
}

#[test]
fn completions_exist_for_every_shell() {
    let installation = Installation::without_plugins();
    for (shell, begins) in [
        ("bash", "_poniard() {"),
        ("zsh", "#compdef poniard"),
        ("fish", "# Print"),
        ("elvish", "\nuse builtin"),
        ("powershell", "\nusing namespace"),
    ] {
        let script = installation.ask(&format!("completions {shell}")).good();
        assert!(script.starts_with(begins), "{shell}: {}", &script[..40]);
        for word in ["processors", "install", "generations", "plugin"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
}

#[test]
fn bash_completes_samples_and_cases() {
    let script = Installation::without_plugins().ask("completions bash").good();
    assert!(script.contains(" hello ") && script.contains(" two-deps "), "{script}");
}

#[test]
fn nothing_is_coloured_when_nobody_watches() {
    let installation = Installation::without_plugins();
    for arguments in ["samples", "kernels", "--help", "run qqqqqq", "run hello --size x"] {
        let answer = installation.ask(arguments);
        assert!(!answer.stdout.contains('\x1b') && !answer.stderr.contains('\x1b'), "{answer:#?}");
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let installation = Installation::without_plugins();
    for arguments in [&["samples"][..], &["completions", "bash"], &["--help"], &["samples", "--json"]] {
        let mut child = installation.command().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Closed before, or while, the command writes: both must be quiet.
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn a_full_standard_output_is_an_error() {
    let installation = Installation::without_plugins();
    for arguments in [&["samples"][..], &["completions", "zsh"], &["--help"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let answer = Answer::from(installation.command().args(arguments).stdout(full).output().unwrap());
        answer.failed(5, &["standard output could not be written: No space left on device"]);
    }
}
