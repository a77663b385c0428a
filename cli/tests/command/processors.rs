//! `processors`: what was found and where it was looked for.

use std::fs;

use crate::installation::{Installation, PLUGIN, built_plugin};

#[test]
fn the_installed_plugin_is_found() {
    let installation = Installation::new();
    let found = installation.ask("processors --threads 2 --json").json();
    let backend = &found["backends"][0];
    assert_eq!(backend["name"], "threads");
    assert_eq!(
        fs::canonicalize(backend["file"].as_str().unwrap()).unwrap(),
        fs::canonicalize(installation.plugins().join(PLUGIN)).unwrap()
    );
    assert!(backend["rustc"].as_str().unwrap().contains("rustc"), "{found:#}");
    assert_eq!(backend["processors"].as_array().unwrap().len(), 2);
    assert_eq!(backend["processors"][0]["kind"], "cpu");
    assert!(!backend["spaces"].as_array().unwrap().is_empty(), "{found:#}");
    assert_eq!(found["refused"].as_array().unwrap().len(), 0);

    let text = installation.ask("processors --threads 2").good();
    for words in ["threads 0.", PLUGIN, "compiler", "memory", "threads-0", "threads-1", "searched", "lib/poniard"] {
        assert!(text.contains(words), "no {words} in {text}");
    }
}

#[test]
fn without_a_plugin_every_place_is_named() {
    let installation = Installation::without_plugins();
    for arguments in ["processors", "run hello", "install --prefix ../elsewhere"] {
        let answer = installation.ask(arguments);
        let places = [installation.root().join("bin"), installation.root().join("lib/poniard")];
        let places: Vec<&str> = places.iter().map(|place| place.to_str().unwrap()).collect();
        answer.failed(4, &places);
        answer.failed(4, &["PONIARD_BACKEND_PATH"]);
        assert_eq!(answer.stdout, "");
    }
}

#[test]
fn a_plugin_can_be_given() {
    let installation = Installation::without_plugins();
    let built = built_plugin();
    fs::copy(&built, installation.file("any-name.so")).unwrap();
    let found = installation.ask("processors --plugin ./any-name.so --json").json();
    assert!(found["backends"][0]["file"].as_str().unwrap().ends_with("any-name.so"), "{found:#}");
    let mut command = installation.command();
    command.env("PONIARD_BACKEND_PATH", built.parent().unwrap()).args(["processors", "--json"]);
    assert_eq!(command.output().unwrap().status.code(), Some(0));
}

#[test]
fn a_bad_plugin_is_a_warning_and_hides_no_other() {
    let installation = Installation::new();
    fs::write(installation.plugins().join("libponiard_backend_bad.so"), "not a plugin").unwrap();
    let answer = installation.ask("processors --json");
    assert!(answer.stderr.starts_with("warning: ") && answer.stderr.contains("libponiard_backend_bad.so"), "{answer:#?}");
    let found = answer.json();
    assert!(found["refused"][0]["file"].as_str().unwrap().ends_with("libponiard_backend_bad.so"), "{found:#}");
    assert_eq!(found["backends"][0]["name"], "threads");

    let text = installation.ask("processors").good();
    assert!(text.contains("refused") && text.contains("libponiard_backend_bad.so"), "{text}");
    let answer = installation.ask("run hello");
    assert!(answer.stderr.contains("libponiard_backend_bad.so"), "{answer:#?}");
    answer.good();
}

#[test]
fn an_unknown_backend_is_named() {
    Installation::new().ask("processors --backend abacus").failed(4, &["abacus"]);
}
