//! `--output`: files appear whole or not at all.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use crate::installation::Installation;

/// A run that is short and has an output: a product of two small matrices.
const RUN: &str = "run matmul --size 8 --tile 4";

#[test]
fn an_output_file_is_written_and_told() {
    let installation = Installation::new();
    let text = installation.ask(&format!("{RUN} --output c.npy")).good();
    let bytes = fs::read(installation.file("c.npy")).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY"));
    assert_eq!(text.lines().last(), Some(format!("wrote c.npy ({} bytes)", bytes.len()).as_str()));
    assert_eq!(installation.names(), ["c.npy"]);

    let done = installation.ask(&format!("{RUN} --output d.npy --json")).json();
    assert_eq!((&done["output"]["path"], &done["output"]["bytes"]), (&"d.npy".into(), &bytes.len().into()));
    assert_eq!(installation.names(), ["c.npy", "d.npy"]);
}

#[test]
fn an_existing_file_is_replaced_and_keeps_its_permissions() {
    let installation = Installation::new();
    let file = installation.file("c.npy");
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    symlink("c.npy", installation.file("link.npy")).unwrap();
    installation.ask(&format!("{RUN} --output link.npy")).good();
    assert!(fs::read(&file).unwrap().starts_with(b"\x93NUMPY"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o640);
    assert!(fs::symlink_metadata(installation.file("link.npy")).unwrap().is_symlink());
}

#[test]
fn what_cannot_be_written_is_found_before_a_backend_is_looked_for() {
    let installation = Installation::without_plugins();
    fs::write(installation.file("file"), "kept").unwrap();
    for (output, said) in [
        ("missing/c.npy", "the folder missing does not exist"),
        ("file/c.npy", "ot a directory"),
        ("/proc/c.npy", "the folder /proc"),
        (".", "it is a folder"),
        ("c.npy/", "no such folder"),
    ] {
        let answer = installation.ask(&format!("{RUN} --output {output}"));
        answer.failed(5, &[output, "could not be written", said]);
        assert_eq!(answer.stdout, "");
    }
    assert_eq!(installation.names(), ["file"]);
}

#[test]
fn a_run_that_fails_leaves_no_file_and_the_old_one_as_it_was() {
    // No backend: the run fails after the temporary file was made.
    let installation = Installation::without_plugins();
    installation.ask(&format!("{RUN} --output c.npy")).failed(4, &[]);
    assert!(installation.names().is_empty());
    fs::write(installation.file("c.npy"), "old").unwrap();
    installation.ask(&format!("{RUN} --output c.npy")).failed(4, &[]);
    assert_eq!(installation.names(), ["c.npy"]);
    assert_eq!(fs::read(installation.file("c.npy")).unwrap(), b"old");
}

#[test]
fn a_full_disk_is_an_output_error_after_the_result() {
    let installation = Installation::new();
    // The name says nothing about a format, so this is a link whose name does.
    symlink("/dev/full", installation.file("c.npy")).unwrap();
    let answer = installation.ask(&format!("{RUN} --output c.npy"));
    answer.failed(5, &["c.npy could not be written: No space left on device"]);
    assert!(answer.stdout.contains("check: passed") && !answer.stdout.contains("wrote"), "{answer:#?}");

    let answer = installation.ask(&format!("{RUN} --output c.npy --json"));
    answer.failed(5, &["No space left on device"]);
    let done: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    assert!(done["output"].is_null() && done["check"]["passed"] == true, "{done:#}");
    assert_eq!(installation.names(), ["c.npy"]);
}

#[test]
fn the_file_is_written_though_the_reader_of_the_lines_has_left() {
    let installation = Installation::new();
    let mut child = installation
        .command()
        .args(RUN.split(' ').chain(["--output", "c.npy"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert_eq!((done.status.code(), done.stderr), (Some(0), Vec::new()));
    assert_eq!(installation.names(), ["c.npy"]);
}
