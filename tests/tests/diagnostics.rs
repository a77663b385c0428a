//! What the compiler says to a user who got a spawn wrong: short, at the right place, and about his types.
//!
//! Each program in `diagnostics/` must not compile, and what the compiler says must contain the text of its `//~` lines. They are built as
//! examples of this package into the folder that the tests were built into, so nothing but themselves is compiled.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

#[test]
fn mistakes_are_explained() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let programs: BTreeSet<_> =
        here.join("diagnostics").read_dir().expect("the folder is there").map(|entry| entry.expect("readable").path()).collect();
    assert!(programs.len() >= 6, "{programs:?}");
    for program in programs {
        let name = program.file_stem().and_then(|name| name.to_str()).expect("a plain name");
        // From the workspace's root, and with no package chosen: then dependencies have the features that the tests were built with.
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(here.join("..")).args([
            "build",
            "--color",
            "never",
            "--features",
            "poniard-tests/diagnostics",
            "--example",
            name,
        ]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let output = cargo.output().expect("cargo runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{name} compiled");
        let source = std::fs::read_to_string(&program).expect("readable");
        let expected: Vec<_> = source.lines().filter_map(|line| line.strip_prefix("//~ ")).collect();
        assert!(!expected.is_empty(), "{name} expects nothing");
        for text in expected {
            assert!(said.contains(text), "{name}: the compiler does not say `{text}`, but:\n{said}");
        }
    }
}
