//! What the tests have in place of the runtime: start-up code that serves, an image that executes small commands, and a host that lends its threads to a test.
#![allow(dead_code, reason = "each of the test programs needs a part of it")]
#![expect(unsafe_code, reason = "runs before `main`, and writes over memory as only a broken program does")]

use std::cell::Cell;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::Command;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use poniard_backend_process::ProcessBackend;
use poniard_interface::{
    Backend, CallError, Caller, CallerLink, Completion, HostServices, Image, LogLevel, Processor, Remote, RunError, ServeCommand,
    ServeError, Settings, TaskId, Wanted, WorkerId,
};

/// By which the start-up code knows that it is to serve.
const VARIABLE: &str = "PONIARD_PROCESS_TEST";

extern "C" fn start_up() {
    let Ok(argument) = std::env::var(VARIABLE) else { return };
    if argument == SILENT {
        std::thread::sleep(LONG);
    }
    let status = ProcessBackend::new().serve(&argument, Arc::new(TestImage)).unwrap_or(70);
    std::process::exit(status);
}

// SAFETY: the section holds pointers to functions that take no arguments.
#[used]
#[unsafe(link_section = ".init_array")]
static START_UP: extern "C" fn() = start_up;

/// What the worker processes of the tests can do. A call is a letter and what belongs to it.
struct TestImage;

impl Image for TestImage {
    fn execute(&self, call: &[u8], link: &dyn CallerLink) -> Vec<u8> {
        let (command, rest) = call.split_first().expect("a command");
        let number = || i32::from(rest[0]);
        match command {
            b'e' => rest.to_vec(),
            b's' => rest.iter().map(|byte| u64::from(*byte)).sum::<u64>().to_le_bytes().to_vec(),
            // Who are you?
            b'i' => [std::process::id(), std::os::unix::process::parent_id()].iter().flat_map(|id| id.to_le_bytes()).collect(),
            b'd' => std::fs::read_dir("/proc/self/fd").unwrap().count().to_le_bytes().to_vec(),
            b'w' => {
                while !link.is_stopping() {
                    std::thread::yield_now();
                }
                b"stopped".to_vec()
            }
            b'f' => loop {
                std::thread::sleep(Duration::from_secs(1));
            },
            b'a' => std::process::abort(),
            b'x' => std::process::exit(number()),
            b'!' => panic!("an image that breaks its word"),
            // As many requests as the number, each of so many bytes as the rest has.
            b'q' => (0..number()).flat_map(|_| link.ask(&rest[1..]).expect("the caller is there")).collect(),
            // Requests from several threads.
            b't' => {
                let link = &link;
                let ask = |number: u8| move || link.ask(&[number]).expect("the caller is there");
                std::thread::scope(|scope| {
                    let threads: Vec<_> = (0..rest[0]).map(|number| scope.spawn(ask(number))).collect();
                    threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
                })
            }
            b'p' => {
                print(rest);
                Vec::new()
            }
            // Prints lines of `rest[1..]` after a millisecond, and ends as the number says: 0 returns, 1 aborts.
            b'l' => {
                std::thread::sleep(Duration::from_millis(1));
                print_all_ways(&rest[1..]);
                if number() == 1 { std::process::abort() } else { Vec::new() }
            }
            // One line of so many MiB, all tildes.
            b'm' => {
                (0..number()).for_each(|_| print(&[b'~'; 1 << 20]));
                print(b"end\n");
                Vec::new()
            }
            // Forks, and both return; gives the status of the other one, which may ask as well.
            b'k' => {
                // SAFETY: the copy does what a single thread may do, and no lock of another one matters to it.
                let copy = unsafe { libc::fork() };
                if copy == 0 {
                    return link.ask(b"who").unwrap_or_default();
                }
                let mut status = 0;
                // SAFETY: the status is a number of ours.
                unsafe { libc::waitpid(copy, &raw mut status, 0) };
                libc::WEXITSTATUS(status).to_le_bytes().to_vec()
            }
            b'c' => {
                // SAFETY: whoever has one of them gets an error from then on, and no more.
                (0..64).for_each(|descriptor| _ = unsafe { libc::close(descriptor) });
                print(b"nobody reads this\n");
                b"closed".to_vec()
            }
            b'X' => {
                use std::os::unix::process::CommandExt;
                panic!("it returned: {}", Command::new("/bin/true").exec())
            }
            // Sends the signal to itself, or with a second number to the fork server.
            b'z' => {
                let to = if rest.len() > 1 { std::os::unix::process::parent_id() } else { std::process::id() };
                signal(to, number());
                self.execute(b"f", link)
            }
            b'h' => {
                scribble(HALF, link);
                self.execute(b"f", link)
            }
            b'g' => {
                scribble(rest[0], link);
                self.execute(b"f", link)
            }
            _ => panic!("no such command"),
        }
    }
}

#[expect(clippy::print_stdout, reason = "whether it arrives is what is tested")]
fn print(text: &[u8]) {
    print!("{}", String::from_utf8_lossy(text));
}

/// Prints a line of `text` in all ways that there are, each in pieces: Rust's output and error, C's output and error, and system calls to both.
#[expect(clippy::print_stderr, reason = "whether it arrives is what is tested")]
fn print_all_ways(text: &[u8]) {
    unsafe extern "C" {
        fn printf(format: *const std::ffi::c_char, ...) -> std::ffi::c_int;
        fn perror(text: *const std::ffi::c_char);
    }
    let pieces = text.chunks(7);
    let way = |name: &str, print: &dyn Fn(&[u8])| {
        print(name.as_bytes());
        pieces.clone().for_each(print);
        print(b"\n");
    };
    let whole = |stream: BorrowedFd<'_>, bytes: &[u8]| assert_eq!(rustix::io::write(stream, bytes).unwrap(), bytes.len());
    way("rust's output ", &print);
    way("rust's error ", &|piece| eprint!("{}", String::from_utf8_lossy(piece)));
    way("the system's output ", &|piece| whole(std::io::stdout().as_fd(), piece));
    way("the system's error ", &|piece| whole(std::io::stderr().as_fd(), piece));
    way("C's output ", &|piece| {
        let piece = std::ffi::CString::new(piece).unwrap();
        // SAFETY: the format takes one text, which ends with a zero.
        unsafe { printf(c"%s".as_ptr(), piece.as_ptr()) };
    });
    let line = std::ffi::CString::new([b"C's error ", text].concat()).unwrap();
    // SAFETY: a text that ends with a zero.
    unsafe { perror(line.as_ptr()) };
}

/// Where the rings' positions lie in the memory: a cache line each, ahead of the words of each ring.
const RING_BYTES: usize = 128 + (64 << 10);

/// How to `scribble` half a reply.
const HALF: u8 = 255;

/// Writes over the memory that the host reads.
fn scribble(how: u8, link: &dyn CallerLink) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains("poniard-line")).expect("the memory");
    let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
    let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16).unwrap());
    let write = |offset: usize, word: u64| {
        assert!(offset + 8 <= end - start);
        // SAFETY: the address lies in a mapping that can be written to, which the code under test reads and writes by atomics only.
        unsafe { std::ptr::with_exposed_provenance_mut::<u64>(start + offset).write_volatile(word) };
    };
    // The first word of a frame behind what is there.
    let frame = |word: u64| {
        // SAFETY: as above.
        let head = unsafe { std::ptr::with_exposed_provenance::<u64>(start + RING_BYTES).read_volatile() };
        write(RING_BYTES + 128 + head as usize * 8, word);
        write(RING_BYTES, head + 1);
    };
    let mut random = 88_172_645_463_325_252_u64;
    match how {
        // A position far beyond the end.
        0 => write(RING_BYTES, u64::MAX),
        // A frame that is none.
        1 => frame(0x0123_4567_89AB_CDEF),
        // More was read than written; then a request whose answer would be written there.
        2 => {
            write(64, 1 << 40);
            link.ask(b"anything");
        }
        // A frame that the host must not get, as long as can be.
        3 => frame(0x50_4F_4E << 40 | 1 << 32 | 1 << 31),
        // Half a reply, after which it waits for the next call.
        HALF => {
            write(2 * RING_BYTES + 64, 1);
            frame(0x50_4F_4E << 40 | 2 << 32 | 100);
        }
        4 => (0..(end - start) / 8).for_each(|index| write(index * 8, u64::MAX)),
        // Whatever comes.
        seed => (0..(end - start) / 8).for_each(|index| {
            random ^= random << 13;
            random ^= random >> 7;
            random = (random ^ (random << 17)).wrapping_add(u64::from(seed));
            write(index * 8, random);
        }),
    }
}

/// A host that gives the ways to processes to the test.
struct Host {
    remotes: Mutex<Sender<Arc<dyn Remote>>>,
    messages: Mutex<Vec<String>>,
    program: std::path::PathBuf,
}

impl HostServices for Host {
    fn worker_main(&self, _: WorkerId) {}
    fn worker_main_remote(&self, _: WorkerId, remote: Arc<dyn Remote>) {
        self.remotes.lock().unwrap().send(remote).unwrap();
    }
    fn serve_command(&self, argument: &str) -> Result<ServeCommand, ServeError> {
        let variables = |argument: &str| vec![(VARIABLE.to_owned(), argument.to_owned())];
        if self.program.as_os_str() == SILENT {
            return Ok(ServeCommand { program: "/proc/self/exe".into(), variables: variables(SILENT) });
        }
        Ok(ServeCommand { program: self.program.clone(), variables: variables(argument) })
    }
    fn run(&self, _: TaskId) -> Result<(), RunError> {
        Err(RunError::new("no tasks here"))
    }
    fn complete(&self, _: &[Completion]) {}
    fn log(&self, _: LogLevel, message: &str) {
        self.messages.lock().unwrap().push(message.to_owned());
    }
}

/// An opened backend with its processors started.
pub(crate) struct Fixture {
    pub(crate) processors: Vec<Box<dyn Processor>>,
    pub(crate) remotes: Vec<Arc<dyn Remote>>,
}

impl Fixture {
    pub(crate) fn new(processes: usize) -> Self {
        Self::with(processes, &[], "/proc/self/exe")
    }

    pub(crate) fn with(processes: usize, more: &[(&str, &str)], program: impl Into<std::path::PathBuf>) -> Self {
        let (sender, receiver): (_, Receiver<_>) = channel();
        let host = Arc::new(Host { remotes: Mutex::new(sender), messages: Mutex::default(), program: program.into() });
        let mut settings = Settings::new();
        settings.set("processes", processes.to_string());
        for (name, value) in more {
            settings.set(*name, *value);
        }
        let processors = ProcessBackend::new().open(&settings, host).unwrap().processors;
        for (index, processor) in processors.iter().enumerate() {
            processor.start(WorkerId(index as u32)).unwrap();
        }
        let remotes = processors.iter().map(|_| receiver.recv_timeout(LONG).unwrap()).collect();
        Self { processors, remotes }
    }

    /// One call of the first process.
    pub(crate) fn call(&self, call: &[u8]) -> Result<Vec<u8>, CallError> {
        self.remotes[0].call(call, &mut Asker::default())
    }

    /// The numbers of the first process and of the fork server.
    pub(crate) fn ids(&self) -> (u32, u32) {
        // One that died a moment ago may not be known to be dead.
        let reply = self.call(b"i").or_else(|_| self.call(b"i")).unwrap();
        let id = |at: usize| u32::from_le_bytes(reply[at..at + 4].try_into().unwrap());
        (id(0), id(4))
    }

    pub(crate) fn stop(self) {
        for processor in &self.processors {
            processor.stop().unwrap();
        }
    }
}

/// In place of a program, one that never says anything.
pub(crate) const SILENT: &str = "silent";

/// Longer than anything takes.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// What answers requests.
pub(crate) type Answer = dyn FnMut(&[u8]) -> Vec<u8>;

/// Who waits for a call, in the tests.
pub(crate) struct Asker {
    pub(crate) answer: Box<Answer>,
    pub(crate) wanted: Box<dyn FnMut() -> Wanted>,
    pub(crate) processes: Vec<u32>,
    /// What is to be sent ahead.
    pub(crate) ahead: VecDeque<Vec<u8>>,
    /// What was.
    pub(crate) sent: Vec<Vec<u8>>,
    /// Whether what comes back is sent again.
    pub(crate) again: bool,
    /// How many have come back.
    pub(crate) back: Rc<Cell<usize>>,
}

impl Default for Asker {
    fn default() -> Self {
        Self {
            answer: Box::new(|request| request.to_vec()),
            wanted: Box::new(|| Wanted::Yes),
            processes: Vec::new(),
            ahead: VecDeque::new(),
            sent: Vec::new(),
            again: false,
            back: Rc::default(),
        }
    }
}

impl Caller for Asker {
    fn answer(&mut self, request: &[u8]) -> Vec<u8> {
        (self.answer)(request)
    }
    fn wanted(&mut self) -> Wanted {
        (self.wanted)()
    }
    fn begins(&mut self, process: u32) {
        self.processes.push(process);
    }
    fn ahead(&mut self) -> Option<Vec<u8>> {
        let call = self.ahead.pop_front()?;
        self.sent.push(call.clone());
        Some(call)
    }
    fn came_back(&mut self, count: usize) {
        self.back.set(self.back.get() + count);
        for call in self.sent.split_off(self.sent.len() - count).into_iter().rev().filter(|_| self.again) {
            self.ahead.push_front(call);
        }
    }
}

/// How the process ended with which a call was lost.
pub(crate) fn lost(outcome: Result<Vec<u8>, CallError>) -> String {
    match outcome {
        Err(CallError::Lost { reason, .. }) => reason,
        other => panic!("expected a lost process, found {other:?}"),
    }
}

/// Why there was no process.
pub(crate) fn no_process(outcome: Result<Vec<u8>, CallError>) -> String {
    match outcome {
        Err(CallError::NoProcess { reason }) => reason,
        other => panic!("expected no process, found {other:?}"),
    }
}

/// Kills a process as the out-of-memory killer does.
pub(crate) fn kill(process: u32) {
    let pid = rustix::process::Pid::from_raw(process as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// Sends a signal.
pub(crate) fn signal(process: u32, number: i32) {
    // SAFETY: a call of the kernel's with two numbers.
    assert_eq!(unsafe { libc::kill(process as i32, number) }, 0);
}

/// Has the kernel refuse a call with an error to this thread, and to all threads and processes that it starts.
pub(crate) fn refuse(calls: &[libc::c_long], error: i32) -> std::io::Result<()> {
    let step = |code: u32, jump_true: u8, jump_false: u8, number: u32| libc::sock_filter {
        code: code as u16,
        jt: jump_true,
        jf: jump_false,
        k: number,
    };
    // The number of the call is the first word of what the filter looks at.
    let mut filter = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for call in calls {
        filter.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, *call as u32));
        filter.push(step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | error as u32));
    }
    filter.push(step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: a call with plain numbers.
    let privileges = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the program and its steps are there during the call.
    let filtered = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if privileges == 0 && filtered == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Whether a process has ended. Whoever inherits it need not have waited for it.
pub(crate) fn is_gone(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    !matches!(stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()), Some(state) if !"ZX".contains(state))
}

/// Waits until something is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < LONG, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(1));
    }
    begin.elapsed()
}

/// This program, to run one ignored test in a process of its own.
pub(crate) fn alone(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    command
}
