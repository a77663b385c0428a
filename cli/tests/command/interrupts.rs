//! Ctrl-C and SIGTERM: exit code 130 and nothing left behind.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::installation::{Answer, Installation};

/// How long to wait for something that happens at once on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes a pipe that nobody writes to: whoever opens it to read waits.
fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Starts the command with its output caught.
fn start(installation: &Installation, arguments: &str) -> Child {
    installation.command().args(arguments.split(' ')).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until `condition` holds of the running command.
fn wait_until(child: &mut Child, condition: impl Fn(&Child) -> bool) {
    let start = Instant::now();
    while !condition(child) {
        assert!(child.try_wait().unwrap().is_none(), "the command ended before it was interrupted");
        assert!(start.elapsed() < PATIENCE, "the command did not get there");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Sends `signal` and gives the answer.
fn interrupt(child: Child, signal: Signal) -> Answer {
    kill_process(Pid::from_child(&child), signal).unwrap();
    Answer::from(child.wait_with_output().unwrap())
}

/// Whether the command catches SIGTERM, signal 15, by now.
fn is_ready(child: &Child) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
    u64::from_str_radix(caught.trim(), 16).unwrap_or(0) & (1 << 14) != 0
}

#[test]
fn a_signal_ends_the_command_with_a_word() {
    for signal in [Signal::INT, Signal::TERM] {
        let installation = Installation::new();
        // Far longer than anybody would wait for this test.
        let graph = "[tasks.long]\nkernel = \"wait\"\ninputs = [3000000]\n";
        fs::write(installation.file("graph.toml"), graph).unwrap();
        let mut child = start(&installation, "run graph.toml");
        wait_until(&mut child, is_ready);
        let answer = interrupt(child, signal);
        assert_eq!((answer.code, answer.stderr.as_str(), answer.stdout.as_str()), (Some(130), "interrupted\n", ""));
    }
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    for signal in [Signal::INT, Signal::TERM] {
        let installation = Installation::new();
        make_pipe(&installation.file("in.png"));
        let mut child = start(&installation, "run convolve --input in.png --output out.png");
        let temporary = |name: &String| name.starts_with(".poniard-");
        wait_until(&mut child, |child| is_ready(child) && installation.names().iter().any(temporary));
        let answer = interrupt(child, signal);
        assert_eq!((answer.code, answer.stderr.as_str(), answer.stdout.as_str()), (Some(130), "interrupted\n", ""));
        assert_eq!(installation.names(), ["in.png"]);
    }
}
