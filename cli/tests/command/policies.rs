//! `policies`, and `run --policy` with one of a plugin file.

use std::fs;

use crate::installation::{Installation, POLICY_PLUGIN, names};

#[test]
fn policies_are_listed_with_where_they_come_from() {
    let installation = Installation::with_policy();
    let list = installation.ask("policies --json").json();
    let policies = list["policies"].as_array().unwrap();
    let text = installation.ask("policies").good();
    for policy in policies {
        for key in ["name", "summary"] {
            assert!(text.contains(policy[key].as_str().unwrap()), "no {policy} in {text}");
        }
    }
    let last = policies.last().unwrap();
    assert_eq!(last["name"], "longest-first");
    let file = last["file"].as_str().unwrap();
    assert!(file.ends_with(POLICY_PLUGIN) && text.contains(file), "{file}: {text}");
    assert_eq!(policies.iter().filter(|policy| policy["file"].is_null()).count(), policies.len() - 1);
    let defaults: Vec<_> = policies.iter().filter(|policy| policy["default"] == true).map(|policy| &policy["name"]).collect();
    assert_eq!(defaults, ["earliest-finish"]);
    assert!(text.contains("built in, the default") && text.contains("lib/poniard (where plugins are installed)"), "{text}");
    assert!(list["refused"].as_array().unwrap().is_empty() && !text.contains("refused"), "{text}");
}

#[test]
fn a_file_that_is_no_policy_is_listed_as_refused() {
    let installation = Installation::without_plugins();
    fs::write(installation.plugins().join("libponiard_policy_broken.so"), "no plugin").unwrap();
    let list = installation.ask("policies --json").json();
    assert!(list["refused"][0]["reason"].as_str().unwrap().contains("expected an ELF shared object"), "{list}");
    let text = installation.ask("policies").good();
    assert!(text.contains("refused\n") && text.contains("libponiard_policy_broken.so"), "{text}");
    installation.ask("policies --plugin nothing-here").failed(2, &["--plugin nothing-here"]);
}

#[test]
fn a_run_uses_the_policy_of_a_plugin_file_by_name_and_by_path() {
    let installation = Installation::with_policy();
    fs::copy(installation.plugins().join(POLICY_PLUGIN), installation.file("mine.so")).unwrap();
    for policy in ["longest-first", "./mine.so"] {
        let run = installation.ask(&format!("run hello --policy {policy} --json --explain")).json();
        assert_eq!(run["explained"]["summary"]["policy"], "longest-first", "{policy}: {run}");
    }
    installation
        .ask("run hello --policy longest-frist")
        .failed(2, &["no policy is called `longest-frist`", "did you mean `longest-first`?"]);
    installation.ask("run hello --policy ./none.so").failed(2, &["./none.so", "no such file"]);
}

#[test]
fn a_policy_is_installed_with_the_backends() {
    let installation = Installation::with_policy();
    let text = installation.ask("install --prefix new").good();
    assert!(text.contains("2 plugins installed"), "{text}");
    assert_eq!(names(&installation.file("new/lib/poniard")), ["libponiard_backend_threads.so", POLICY_PLUGIN]);
}
