//! `--backend vulkan`: devices besides the threads, with a driver and without.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::installation::{Answer, Installation, VULKAN_PLUGIN, names};

/// The command with `arguments`, on a machine without a Vulkan driver.
fn ask_without_driver(installation: &Installation, arguments: &str) -> Answer {
    let mut command = installation.command();
    hide_drivers(&mut command);
    Answer::from(command.args(arguments.split_whitespace()).output().unwrap())
}

fn hide_drivers(command: &mut Command) {
    command.env("VK_DRIVER_FILES", "/nonexistent/driver.json").env("VK_ICD_FILENAMES", "/nonexistent/driver.json");
}

/// With the plugin of devices, and with a picture `p.png`.
fn with_picture() -> Installation {
    let installation = Installation::with_vulkan();
    let picture = "[tasks.picture]\nkernel = \"gradient-image\"\ninputs = [161, 90]\noutput = \"p.png\"\n";
    fs::write(installation.file("p.toml"), picture).unwrap();
    installation.ask("run ./p.toml --backend threads").good();
    installation
}

/// Whether there is a device that computes with f64, be it a software one; says so if there is none.
fn has_devices(installation: &Installation) -> bool {
    let found = installation.ask("processors --backend vulkan --json").json();
    let has_f64 = |device: &Value| device["facts"]["features"].as_str().unwrap().split(", ").any(|name| name == "f64");
    let found_one = devices(&found["backends"][backend(&found, "vulkan")]["processors"]).any(has_f64);
    if !found_one {
        eprintln!("skipped: no Vulkan device with f64: {}", found["messages"]);
    }
    found_one
}

/// The place of a backend in what `processors` says.
fn backend(found: &Value, name: &str) -> usize {
    found["backends"].as_array().unwrap().iter().position(|backend| backend["name"] == name).unwrap()
}

/// Those of `processors` that are devices.
fn devices(processors: &Value) -> impl Iterator<Item = &Value> {
    processors.as_array().unwrap().iter().filter(|processor| !processor["device"].is_null())
}

#[test]
fn without_a_driver_it_is_said_once_and_all_runs_elsewhere() {
    let installation = with_picture();
    installation.ask("run convolve --backend threads --input p.png --output expected.png").good();
    let expected = fs::read(installation.file("expected.png")).unwrap();
    let answer = ask_without_driver(&installation, "run convolve --backend vulkan --input p.png --output edges.png");
    assert!(answer.stderr.starts_with("vulkan: none found (") && answer.stderr.lines().count() == 1, "{answer:#?}");
    assert!(answer.good().contains(" on "), "it ran");
    assert!(fs::read(installation.file("edges.png")).unwrap() == expected);
    // It is no news to somebody who did not ask.
    for arguments in ["run convolve --input p.png", "run matmul --size 20", "run hello", "run convolve --backend threads --input p.png"] {
        let answer = ask_without_driver(&installation, arguments);
        assert_eq!(answer.stderr, "", "{arguments}");
        answer.good();
    }
    for arguments in ["processors", "processors --backend vulkan"] {
        let answer = ask_without_driver(&installation, arguments);
        assert_eq!(answer.stderr, "");
        let text = answer.good();
        assert_eq!(text.matches("vulkan: none found (").count(), 1, "{text}");
        assert!(text.contains("threads-0"), "{text}");
    }
    let found = ask_without_driver(&installation, "processors --json").json();
    assert!(found["messages"][0].as_str().unwrap().contains("vulkan: none found ("), "{found:#}");
}

#[test]
fn without_the_plugin_the_backend_is_unknown() {
    let installation = Installation::new();
    installation.ask("run hello --backend vulkan").failed(4, &["no backend is called `vulkan`; found: threads"]);
    installation
        .ask("run hello --set vulkan.software=true")
        .failed(4, &["the backend `vulkan`, which reads it, is not in use; in use: threads"]);
    // What is said of devices for the user is heard by nobody, and that is no error.
    installation.ask("run matmul --size 20").good();
    installation.ask("run hello").good();
}

#[test]
fn a_setting_that_is_none_is_refused() {
    let installation = Installation::with_vulkan();
    let said = "setting `vulkan.sofware` is known to no backend in use; did you mean `vulkan.software`, of the backend `vulkan`?";
    installation.ask("run hello --set vulkan.sofware=true").failed(2, &[said]);
    installation.ask("run matmul --backend vulkan --set vulkan.software=yes").failed(2, &["setting `vulkan.software` is `yes`"]);
    installation.ask("run hello --backend threads --set vulkan.software=true").failed(4, &["in use: threads"]);
}

#[test]
fn devices_are_used_where_they_are_of_use() {
    let installation = with_picture();
    let used = |arguments: &str| {
        let done = installation.ask(&format!("{arguments} --json")).json();
        assert_eq!(done["check"]["passed"], true, "{done:#}");
        done["processors"].as_array().unwrap().clone()
    };
    let is_device = |processor: &Value| processor["backend"] == "vulkan";
    assert!(!used("run hello").iter().any(is_device));
    assert!(!used("run convolve --input p.png --backend threads").iter().any(is_device));
    assert!(!used("run convolve --input p.png").iter().any(|processor| processor["device"]["class"] == "software"));
    // The threads are there as well.
    assert!(!used("run hello --backend vulkan").iter().all(is_device));
}

#[test]
fn a_device_gives_the_same_picture() {
    let installation = with_picture();
    if !has_devices(&installation) {
        return;
    }
    let tenths = "0.1,0.1,0.1;0.1,0.1,0.1;0.1,0.1,0.1";
    for kernel in ["edges", "blur", "sharpen", "emboss", "sobel", "identity", "0.3", tenths] {
        let run = |backend: &str| {
            let done = installation
                .ask(&format!("run convolve --backend {backend} --input p.png --output {backend}.png --kernel {kernel} --tile 64 --json"))
                .json();
            assert_eq!(done["check"]["passed"], true, "{done:#}");
            (done, fs::read(installation.file(&format!("{backend}.png"))).unwrap())
        };
        let ((done, found), (_, expected)) = (run("vulkan"), run("threads"));
        assert!(found == expected, "kernel {kernel}");
        let tasks: u64 = devices(&done["processors"]).map(|device| device["tasks"].as_u64().unwrap()).sum();
        assert_eq!(tasks, 6, "{done:#}");
        for device in devices(&done["processors"]).filter(|device| device["tasks"] != 0) {
            let bytes = |what: &str| device[what].as_u64().unwrap();
            assert!(bytes("imported_bytes") > 0 || (bytes("copied_to_bytes") > 0 && bytes("copied_from_bytes") > 0), "{done:#}");
            assert!(device["lost"].is_null() && device["device"]["uuid"].is_string(), "{done:#}");
        }
    }
    let text = installation.ask("run convolve --backend vulkan --input p.png").good();
    assert!(text.contains("; vulkan-0 1 (libponiard_backend_vulkan.so ") && text.contains("\nvulkan-0 is "), "{text}");
    assert!(text.contains(" copied to it, "), "{text}");
}

#[test]
fn other_samples_agree_with_their_checks() {
    let installation = with_picture();
    if !has_devices(&installation) {
        return;
    }
    for sample in ["life --generations 20", "matmul --size 100 --tile 30", "histogram --input p.png --tile 20"] {
        let done = installation.ask(&format!("run {sample} --backend vulkan --json")).json();
        assert_eq!(done["check"]["passed"], true, "{done:#}");
        assert!(devices(&done["processors"]).any(|device| device["tasks"] != 0), "{done:#}");
    }
}

#[test]
fn a_device_that_cannot_be_made_is_a_warning() {
    let installation = with_picture();
    if !has_devices(&installation) {
        return;
    }
    for (sample, kernel) in [
        ("convolve --input p.png", "filter"),
        ("histogram --input p.png", "count"),
        ("matmul --size 100 --tile 30", "updated"),
        ("life --generations 9 --size 36 --tile 10", "generation"),
    ] {
        let answer = installation.ask(&format!("run {sample} --backend vulkan --set vulkan.without=device --json"));
        // Once, however many of its tasks run elsewhere.
        let warning = format!("kernel `{kernel}` did not run on vulkan-0, and runs on the host: ");
        assert!(answer.stderr.starts_with("warning: ") && answer.stderr.matches(&warning).count() == 1, "{answer:#?}");
        let done = answer.json();
        assert_eq!(done["check"]["passed"], true, "{done:#}");
        assert!(devices(&done["processors"]).all(|device| device["tasks"] == 0), "{done:#}");
    }
}

#[test]
fn processors_says_what_a_device_is() {
    let installation = Installation::with_vulkan();
    if !has_devices(&installation) {
        return;
    }
    let found = installation.ask("processors --backend vulkan --threads 1 --json").json();
    let vulkan = &found["backends"][backend(&found, "vulkan")];
    assert_eq!(found["backends"].as_array().unwrap().len(), 2, "{found:#}");
    for processor in vulkan["processors"].as_array().unwrap() {
        assert_eq!((&processor["kind"], &processor["queued"]), (&"vulkan".into(), &true.into()));
        assert!(["discrete", "integrated", "virtual", "software", "other"].contains(&processor["device"]["class"].as_str().unwrap()));
        for fact in ["driver", "queues", "features", "launch", "host to device"] {
            assert!(processor["facts"][fact].is_string(), "no {fact} in {found:#}");
        }
    }
    let text = installation.ask("processors --backend vulkan").good();
    let column = |name: &str| text.lines().find(|line| line.trim_start().starts_with(name)).and_then(|line| line.rfind("  ")).unwrap();
    for words in ["vulkan-0: vulkan, queued, in memory ", "\n    driver  ", "\n    launch  "] {
        assert!(text.contains(words), "no {words} in {text}");
    }
    assert_eq!(column("driver"), column("launch"), "{text}");
}

#[test]
fn the_plugin_is_installed_and_completed() {
    let installation = Installation::with_vulkan();
    installation.ask("install --prefix new").good();
    assert!(names(&installation.file("new/lib/poniard")).contains(&VULKAN_PLUGIN.to_owned()));
    let script = installation.ask("completions bash").good();
    assert!(script.contains("\"threads process vulkan\""), "{script}");
}
