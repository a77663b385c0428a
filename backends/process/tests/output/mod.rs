//! What worker processes print reaches the user, whole lines at a time.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread;

use crate::lost;
use crate::program::{Asker, Fixture, LONG, alone, kill};

/// The variable that names the file to which an ignored test prints.
const FILE: &str = "PONIARD_OUTPUT_TEST";

/// Runs an ignored test with both streams in one file, and gives what is in it.
fn printed_by(test: &str) -> String {
    let folder = Folder::new(test);
    let path = folder.0.join("printed");
    let file = File::create(&path).unwrap();
    let status = alone(&format!("output::{test}")).stdout(file.try_clone().unwrap()).stderr(file).env(FILE, &path).status().unwrap();
    let text = String::from_utf8(std::fs::read(&path).unwrap()).unwrap();
    assert!(status.success(), "{status}: {text}");
    text
}

/// A folder for one test, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("poniard-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Ends the line that the harness has begun.
#[expect(clippy::print_stdout, reason = "it is the harness's output")]
fn end_line() {
    println!();
}

const WAYS: [&str; 6] = ["rust's output", "rust's error", "the system's output", "the system's error", "C's output", "C's error"];
const LINE_LEN: usize = 3000;
const ROUNDS: usize = 50;

/// A line of a process, which nothing of another one's looks like.
fn line_of(process: usize) -> String {
    ["a", "b", "c"][process].repeat(LINE_LEN)
}

#[test]
#[ignore = "prints; run by `lines_of_several_processes_are_never_mixed`"]
fn alone_print_long_lines() {
    end_line();
    let fixture = Fixture::with(3, &[("processes.prefix", "true")], "/proc/self/exe");
    thread::scope(|scope| {
        for (process, remote) in fixture.remotes.iter().enumerate() {
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    remote.call(format!("l\0{}", line_of(process)).as_bytes(), &mut Asker::default()).unwrap();
                }
            });
        }
    });
    fixture.stop();
}

#[test]
fn lines_of_several_processes_are_never_mixed() {
    let text = printed_by("alone_print_long_lines");
    for process in 0..3 {
        for way in WAYS {
            let end = format!("] {way} {}", line_of(process));
            // Behind what C prints of an error stands what error it is.
            let is_it = |line: &&str| line.split_once(": ").map_or(*line, |(line, _)| line).ends_with(&end);
            let found: Vec<_> = text.lines().filter(is_it).filter_map(|line| line.strip_prefix("[processes-")).collect();
            assert_eq!(found.len(), ROUNDS, "{way} {process}");
            assert!(found.iter().all(|line| line.len() < end.len() + 30 && line[..1] == found[0][..1]), "all of one processor");
        }
    }
    // And what is not theirs is the harness's.
    let others: Vec<_> = text.lines().filter(|line| !line.starts_with("[processes-")).collect();
    assert!(others.iter().all(|line| !line.contains("aaa") && line.len() < 200), "{others:?}");
}

#[test]
#[ignore = "prints; run by `what_a_process_printed_before_it_ended_is_not_lost`"]
fn alone_print_and_die() {
    end_line();
    let fixture = Fixture::new(1);
    assert_eq!(lost(fixture.call(b"l\x01before the crash")), "was killed by signal 6 (SIGABRT)");
    fixture.call(b"pno end of line").unwrap();
    let (worker, _) = fixture.ids();
    kill(worker);
    fixture.ids();
    fixture.call(b"panother process\n").unwrap();
    fixture.call(b"plast words").unwrap();
    fixture.stop();
}

#[test]
fn what_a_process_printed_before_it_ended_is_not_lost() {
    let text = printed_by("alone_print_and_die");
    for way in WAYS {
        assert_eq!(text.lines().filter(|line| line.starts_with(&format!("{way} before the crash"))).count(), 1, "{way}: {text}");
    }
    assert!(text.contains("\nno end of line\nanother process\nlast words\n"), "{text}");
}

#[test]
#[ignore = "prints; run by `what_a_body_printed_is_there_when_it_has_returned`"]
fn alone_print_and_look() {
    end_line();
    let path = std::env::var_os(FILE).unwrap();
    let printed = || std::fs::read_to_string(Path::new(&path)).unwrap();
    let fixture = Fixture::new(1);
    for round in 0..300 {
        fixture.call(format!("l\0round {round}.").as_bytes()).unwrap();
        let found = printed();
        for way in WAYS {
            assert!(found.contains(&format!("\n{way} round {round}.")), "{way} in round {round}");
        }
    }
    fixture.stop();
}

#[test]
fn what_a_body_printed_is_there_when_it_has_returned() {
    printed_by("alone_print_and_look");
}

#[test]
#[ignore = "prints; run by `a_line_that_does_not_end_is_cut_and_a_flood_waits`"]
fn alone_print_a_flood() {
    end_line();
    let fixture = Fixture::new(1);
    fixture.call(b"m\x28").unwrap();
    fixture.stop();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    assert!(peak.parse::<u64>().unwrap() < 32 << 10, "the host took {peak} kB");
}

#[test]
fn a_line_that_does_not_end_is_cut_and_a_flood_waits() {
    use std::io::Read;
    use std::process::Stdio;
    let mut command = alone("output::alone_print_a_flood");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let (mut found, mut space) = (Vec::new(), [0; 10_000]);
    let begin = std::time::Instant::now();
    loop {
        let got = output.read(&mut space).unwrap();
        if got == 0 {
            break;
        }
        found.extend_from_slice(&space[..got]);
        assert!(begin.elapsed() < LONG);
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(found.iter().filter(|byte| **byte == b'~').count(), 40 << 20);
    let text = String::from_utf8(found).unwrap();
    assert_eq!(text.matches(" [the line goes on]\n").count(), 39);
    assert!(text.contains("end\n"));
}
