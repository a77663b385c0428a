//! What the compiler says to a user who got a spawn wrong: short, at the right place, and about his types.
//!
//! Each program in `diagnostics/programs` must not compile, and what the compiler says must contain the text of its `//~` lines. They are checked in a
//! build folder of their own: in the one of the tests, other features of the same packages would replace files that the tests use.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

#[test]
fn mistakes_are_explained() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = here.join("diagnostics/programs");
    let programs: BTreeSet<_> = folder.read_dir().expect("the folder is there").map(|entry| entry.expect("readable").path()).collect();
    assert!(programs.len() >= 6, "{programs:?}");
    for program in programs {
        let name = program.file_stem().and_then(|name| name.to_str()).expect("a plain name");
        let output = Command::new(env!("CARGO"))
            .current_dir(here)
            .args(["check", "--color", "never", "-p", "poniard-diagnostics", "--features", "broken", "--example", name])
            .arg("--target-dir")
            .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("diagnostics"))
            .output()
            .expect("cargo runs");
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
