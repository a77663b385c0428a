//! `models`: what was measured before is shown and forgotten.

use std::fs;

use poniard::model::{CodeId, Machine, Measurement, Models, ProcessorClass, Store};

use crate::installation::{Installation, names};

/// An installation in whose folder `kept` something was measured, on this machine and on another one.
fn measured() -> Installation {
    let installation = Installation::without_plugins();
    for (machine, name) in [(Machine::this(), "blur \x1b[2J"), (Machine::new("elsewhere"), "other")] {
        let models = Models::new(1);
        let blur = models.executions.resolve(&CodeId::new(name, 0xaf), &ProcessorClass::new("cpu"));
        (0..20).for_each(|_| blur.record(4096, Measurement { wall_ns: 1_500_000, cpu_ns: Some(750_000) }));
        models.links.name_space(0, "host");
        models.links.name_space(1, "vulkan-0");
        models.links.record(0, 1, 1 << 20, 77_000);
        Store::new(Some(installation.file("kept")), machine).save(&models).unwrap();
    }
    installation
}

#[test]
fn what_is_known_is_shown() {
    let installation = measured();
    let text = installation.ask("models --folder kept").good();
    let cells = |line: &str| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join("|");
    let rows: Vec<String> = text.lines().map(cells).collect();
    for row in ["blur [2J|cpu|4 096|1.50 ms|0 ns|1.50 ms|50 %|20", "host to vulkan-0|link|1 048 576|77.0 µs|0 ns|77.0 µs|-|1"] {
        assert!(rows.iter().any(|found| found == row), "no {row} in {text}");
    }
    assert!(text.contains(&format!("kept/{}", Machine::this().file_name())) && text.contains("elsewhere\n"), "{text}");
    assert!(text.contains(", this machine\n") && !text.contains('\x1b'), "{text}");

    let json = installation.ask("models --folder kept --json").json();
    let here = json.as_array().unwrap().iter().find(|file| file["is_this_machine"] == true).unwrap();
    let code = &here["codes"][0];
    assert_eq!((&code["name"], &code["identity"], &code["on"]), (&"blur \x1b[2J".into(), &"00000000000000af".into(), &"cpu".into()));
    let class = &code["classes"][0];
    assert_eq!((&class["bytes"], &class["count"], &class["cpu_share"]), (&4096.into(), &20.into(), &0.5.into()));
    assert_eq!((&class["mean_ns"], &class["least_ns"]), (&1_500_000.0.into(), &1_500_000.into()));
    assert_eq!((&here["links"][0]["from"], &here["links"][0]["to"]), (&"host".into(), &"vulkan-0".into()));
    assert_eq!(json.as_array().unwrap().len(), 2);
}

#[test]
fn all_is_forgotten_when_asked() {
    let installation = measured();
    fs::write(installation.file("kept/mine.txt"), "").unwrap();
    assert_eq!(installation.ask("models --clear --folder kept").good(), "removed 2 files from kept\n");
    assert_eq!(names(&installation.file("kept")), [".lock", "mine.txt"]);
    assert_eq!(installation.ask("models --folder kept").good(), "Nothing has been kept in kept.\n");
    assert_eq!(installation.ask("models --folder kept --json").good(), "[]\n");
}

#[test]
fn damaged_files_are_warned_of_and_not_touched() {
    let installation = measured();
    let path = installation.file("kept").join(Machine::this().file_name());
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[1..]).unwrap();
    fs::write(path.with_added_extension("damaged-00000000"), "").unwrap();
    let answer = installation.ask("models --folder kept");
    for part in ["the file is damaged (it does not begin like a file of models); it was left where it is", "damaged-00000000 was damaged"] {
        assert!(answer.stderr.contains(part), "{answer:#?}");
    }
    assert!(answer.good().contains("other"));
    assert_eq!(fs::read(&path).unwrap(), whole[1..]);
}

#[test]
fn the_folder_is_that_of_the_user_and_may_be_missing() {
    let installation = Installation::without_plugins();
    let mut command = installation.command();
    let output = command.args(["models"]).env("XDG_CACHE_HOME", "/nowhere").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "Nothing has been kept in /nowhere/poniard/models.\n");
    let mut command = installation.command();
    let output = command.args(["models"]).env_remove("XDG_CACHE_HOME").env_remove("HOME").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("say it with --folder DIR"));
    installation.ask("models --folder /dev/null").failed(3, &["/dev/null: Not a directory"]);
    installation.ask("models --json --clear").failed(2, &["--clear", "cannot be used with"]);
}
