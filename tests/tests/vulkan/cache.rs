//! Compiled kernels on disk: the next process finds them, and is not fooled by what is damaged.

use std::path::Path;

use poniard::Scope;

use crate::failures::{double, ramp};
use crate::stand::{Stand, builder, check_shaders, child, child_command, counted, has_device, is_child, kept};

const FOLDER: &str = "PONIARD_VULKAN_CACHE";
const COUNTS: &str = "compiled and found:";

/// Runs kernels with the cache that the parent names, and says how many were compiled and how many were found there.
#[test]
fn a_process_with_a_cache() {
    let Some(folder) = std::env::var_os(FOLDER).filter(|_| is_child()) else { return };
    let runtime = builder().setting("vulkan.cache", folder.to_string_lossy()).build().expect("threads");
    if !has_device(&runtime) {
        return;
    }
    let mut tasks = Vec::new();
    for _ in 0..50 {
        tasks.push(runtime.task(double().over(1000), (ramp(1000),)).scope(Scope::processor("vulkan-0")).spawn());
    }
    assert!(tasks.iter().all(|z| z.fetch().expect("runs")[999] == 1998.0));
    let of = |line| counted(&runtime, "vulkan-0", line);
    eprintln!("{COUNTS} {} {}", of("kernels compiled"), of("kernels from the cache"));
    assert_eq!((of("validation messages"), of("checker messages")), (0, 0));
}

/// How many kernels such a process compiled, and how many it found; nothing, where there is no device.
fn run_with(folder: &Path) -> Option<(u64, u64)> {
    let output = child("cache::a_process_with_a_cache", &[(FOLDER, &folder.display().to_string())]);
    counts(&String::from_utf8_lossy(&output.stderr))
}

fn counts(text: &str) -> Option<(u64, u64)> {
    let (_, counts) = text.split_once(COUNTS)?;
    let mut numbers = counts.split_whitespace().map(|number| number.parse().expect("a number"));
    Some((numbers.next()?, numbers.next()?))
}

#[test]
fn the_second_process_finds_what_the_first_has_compiled() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().join("made/when/needed");
    let Some(counts) = run_with(&folder) else { return };
    assert_eq!(counts, (1, 0));
    assert_eq!(check_shaders(&folder), 1);
    assert_eq!(run_with(&folder), Some((0, 1)));

    // What is cut, damaged, of another version, or no file at all is compiled again, and replaced.
    let path = kept(&folder).pop_first().expect("a file");
    let whole = std::fs::read(&path).expect("readable");
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 4;
    let mut of_another_version = whole.clone();
    of_another_version[7] += 1;
    for bytes in [&whole[..whole.len() / 2], &damaged, &of_another_version, &[]] {
        std::fs::write(&path, bytes).expect("written");
        assert_eq!(run_with(&folder), Some((1, 0)));
        assert_eq!(std::fs::read(&path).expect("readable"), whole, "it is replaced");
    }
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(run_with(&folder), Some((1, 0)));
}

/// On one device, and with one folder.
#[test]
fn two_processes_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let variable = folder.path().display().to_string();
    let mut runs = Vec::new();
    for _ in 0..3 {
        let mut command = child_command("cache::a_process_with_a_cache", &[(FOLDER, &variable)]);
        runs.push(command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().expect("it starts"));
    }
    let mut counted = Vec::new();
    for run in runs {
        let output = run.wait_with_output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{:?}: {text}", output.status);
        counted.extend(counts(&text));
    }
    if counted.is_empty() {
        return;
    }
    assert!(counted.len() == 3 && counted.iter().all(|(compiled, found)| compiled + found == 1), "{counted:?}");
    assert_eq!(check_shaders(folder.path()), 1);
    let files: Vec<_> = std::fs::read_dir(folder.path()).expect("readable").map(|file| file.expect("readable").file_name()).collect();
    assert!(files.iter().all(|file| !file.to_string_lossy().starts_with('.')), "nothing is left half written: {files:?}");
    // Whatever they have written is whole.
    assert_eq!(run_with(folder.path()), Some((0, 1)));
}

/// Another runtime of the same process, too.
#[test]
fn the_second_runtime_finds_what_the_first_has_compiled() {
    let folder = tempfile::tempdir().expect("a folder");
    for compiled in [1, 0] {
        let Some(stand) = Stand::new(&[("vulkan.cache", &folder.path().display().to_string())]) else { return };
        let z = stand.runtime.task(double().over(10), (ramp(10),)).scope(Scope::processor("vulkan-0")).spawn();
        assert_eq!(z.take().expect("runs")[9], 18.0);
        assert_eq!((stand.counted("kernels compiled"), stand.counted("kernels from the cache")), (compiled, 1 - compiled));
        stand.finish();
    }
}
