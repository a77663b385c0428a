//! `install`: an installation that works, or none.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::installation::{Installation, PLUGIN, names};

#[test]
fn the_copy_finds_its_own_plugins() {
    let installation = Installation::new();
    // Twice: the second time over what is there.
    for _ in 0..2 {
        let text = installation.ask("install --prefix new/place").good();
        for words in ["new/place/bin/poniard (", "new/place/lib/poniard/libponiard_backend_threads.so (", "1 plugin installed"] {
            assert!(text.contains(words), "no {words} in {text}");
        }
    }
    let place = installation.file("new/place");
    assert_eq!(names(&place.join("bin")), ["poniard"]);
    assert_eq!(names(&place.join("lib/poniard")), [PLUGIN]);
    for file in ["bin/poniard", "lib/poniard/libponiard_backend_threads.so"] {
        assert_eq!(fs::metadata(place.join(file)).unwrap().permissions().mode() & 0o700, 0o700);
    }

    let found = Command::new(place.join("bin/poniard")).env_remove("PONIARD_BACKEND_PATH").args(["processors", "--json"]).output().unwrap();
    let found: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap();
    let file = fs::canonicalize(found["backends"][0]["file"].as_str().unwrap()).unwrap();
    assert_eq!(file, fs::canonicalize(place.join("lib/poniard").join(PLUGIN)).unwrap());
}

#[test]
fn a_command_can_be_installed_over_itself() {
    let installation = Installation::new();
    installation.ask("install --prefix ..").good();
    installation.ask("install --prefix ..").good();
    assert_eq!(names(&installation.root().join("bin")), ["poniard"]);
    assert_eq!(names(&installation.plugins()), [PLUGIN]);
}

#[test]
fn a_place_that_cannot_be_written_is_an_error() {
    let installation = Installation::new();
    fs::write(installation.file("file"), "").unwrap();
    installation.ask("install --prefix file").failed(5, &["file/bin", "ot a directory"]);
    installation.ask("install --prefix /proc/nowhere").failed(5, &["/proc/nowhere/bin"]);
    fs::create_dir_all(installation.file("taken/bin/poniard")).unwrap();
    installation.ask("install --prefix taken").failed(5, &["taken/bin/poniard", "a folder of that name is in the way"]);
    // Nothing was renamed before the trouble was seen.
    assert!(names(&installation.file("taken/lib/poniard")).is_empty());
}
