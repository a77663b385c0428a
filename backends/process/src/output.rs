//! What a worker process prints, on its way to the user: two pipes, which the host reads and passes on in whole lines.
//!
//! A line of one process is never in the middle of another one's, whatever wrote it and in however many pieces. What is read and is no whole line yet is kept here; how
//! much that can be is limited, and whoever prints faster than the user's output takes it waits.

use std::io;
use std::mem::take;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionread, read, write};
use rustix::pipe::{PipeFlags, pipe_with};

/// A line that is longer is passed on in pieces of this length.
const LINE_MAX_BYTES: usize = 1 << 20;
/// How many bytes are read at a time, no more than a pipe holds.
const READ_MAX_BYTES: usize = 64 << 10;
/// What is put behind a piece of a line that is not its end.
const GOES_ON: &[u8] = b" [the line goes on]\n";

/// Held by whoever writes to the user's output, so that lines come one after the other. The standard library's own locks are not taken: a program may hold one while it
/// waits for a task.
static USERS_OUTPUT: Mutex<()> = Mutex::new(());

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Output = 0,
    Error = 1,
}

/// Both streams.
pub(crate) const STREAMS: [Stream; 2] = [Stream::Output, Stream::Error];

/// What the host has of a worker process's standard output and error.
#[derive(Debug)]
pub(crate) struct Output {
    /// What each line begins with.
    prefix: String,
    pipes: [Mutex<Pipe>; 2],
}

#[derive(Debug)]
struct Pipe {
    /// `None` after the end.
    from: Option<OwnedFd>,
    /// What has been read and not been passed on: the beginning of a line.
    begun: Vec<u8>,
}

impl Output {
    /// New pipes, and the ends of them that are for the process. It opens them anew, so it waits for room although we never wait.
    pub(crate) fn create(prefix: String) -> io::Result<(Self, [OwnedFd; 2])> {
        let pipe = || -> io::Result<_> {
            let (from, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
            Ok((Mutex::new(Pipe { from: Some(from), begun: Vec::new() }), into))
        };
        let ((output, output_end), (error, error_end)) = (pipe()?, pipe()?);
        Ok((Self { prefix, pipes: [output, error] }, [output_end, error_end]))
    }

    /// Whatever panics under the lock has lost a piece of a line at most.
    fn pipe(&self, stream: Stream) -> MutexGuard<'_, Pipe> {
        self.pipes[stream as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `look` see the host's end of a pipe, if it is open.
    pub(crate) fn with_end<R>(&self, stream: Stream, look: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
        self.pipe(stream).from.as_ref().map(|from| look(from.as_fd()))
    }

    /// Passes on what was printed; does not wait for more. Costs two system calls where nothing was.
    pub(crate) fn pass_on(&self) {
        for stream in STREAMS {
            self.pass_on_from(stream, false);
        }
    }

    /// Passes on what was printed to one stream, and the rest with it if nobody can print there any more.
    pub(crate) fn pass_on_from(&self, stream: Stream, is_over: bool) {
        let mut pipe = self.pipe(stream);
        let len = pipe.from.as_ref().and_then(|from| ioctl_fionread(from).ok()).unwrap_or(0) as usize;
        // No more than is there now: a process that never stops printing would never let go of us.
        let mut left = len;
        while left > 0 {
            let got = pipe.read(left.min(READ_MAX_BYTES));
            left -= got.min(left);
            self.write(stream, &lines(&mut pipe.begun, &self.prefix, false));
            if got == 0 {
                break;
            }
        }
        if is_over && len == 0 {
            pipe.from = None;
            self.write(stream, &lines(&mut take(&mut pipe.begun), &self.prefix, true));
        }
    }

    /// The process has ended: passes on all that is left, and closes the pipes.
    pub(crate) fn end(&self) {
        for stream in STREAMS {
            self.pass_on_from(stream, false);
            let mut pipe = self.pipe(stream);
            pipe.from = None;
            self.write(stream, &lines(&mut take(&mut pipe.begun), &self.prefix, true));
        }
    }

    fn write(&self, stream: Stream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let _one_at_a_time = USERS_OUTPUT.lock().unwrap_or_else(PoisonError::into_inner);
        match stream {
            Stream::Output => write_all(io::stdout().as_fd(), bytes),
            Stream::Error => write_all(io::stderr().as_fd(), bytes),
        }
    }
}

impl Pipe {
    /// Reads up to `len` bytes that are there; gives how many.
    fn read(&mut self, len: usize) -> usize {
        let Some(from) = &self.from else { return 0 };
        let before = self.begun.len();
        self.begun.resize(before + len, 0);
        let got = loop {
            match read(from, &mut self.begun[before..]) {
                Err(Errno::INTR) => {}
                outcome => break outcome.unwrap_or(0),
            }
        };
        self.begun.truncate(before + got);
        got
    }
}

/// Takes what can be printed of `begun`: whole lines, pieces of a line that is too long, and, if it `is_over`, what is left. Each begins with `prefix` and ends with
/// a line end.
fn lines(begun: &mut Vec<u8>, prefix: &str, is_over: bool) -> Vec<u8> {
    let mut whole = Vec::new();
    let mut put = |line: &[u8], end: &[u8]| {
        whole.extend_from_slice(prefix.as_bytes());
        whole.extend_from_slice(line);
        whole.extend_from_slice(end);
    };
    let mut rest = begun.as_slice();
    while let Some(len) = rest.iter().position(|byte| *byte == b'\n') {
        put(&rest[..len], b"\n");
        rest = &rest[len + 1..];
    }
    while rest.len() > LINE_MAX_BYTES {
        let (piece, after) = rest.split_at(LINE_MAX_BYTES);
        put(piece, GOES_ON);
        rest = after;
    }
    if is_over && !rest.is_empty() {
        put(rest, b"\n");
        rest = &[];
    }
    let taken = begun.len() - rest.len();
    begun.drain(..taken);
    if begun.is_empty() {
        // A long line may have made it large.
        begun.shrink_to(4096);
    }
    whole
}

/// Writes all of `bytes`, also to an output that does not wait by itself. There is nobody to tell of one that is closed.
fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match write(to, bytes) {
            Ok(0) => return,
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                if poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None).is_err_and(|error| error != Errno::INTR) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// The numbers of the descriptors, by which the fork server finds them.
pub(crate) fn numbers(ends: &[OwnedFd; 2]) -> [i32; 2] {
    ends.each_ref().map(AsRawFd::as_raw_fd)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_passed_on_whole_and_the_rest_at_the_end() {
        let mut begun = b"one\ntwo\nth".to_vec();
        assert_eq!(lines(&mut begun, "[p] ", false), b"[p] one\n[p] two\n");
        assert_eq!(lines(&mut begun, "[p] ", false), b"");
        begun.extend_from_slice(b"ree\n\n");
        assert_eq!(lines(&mut begun, "[p] ", false), b"[p] three\n[p] \n");
        begun.extend_from_slice(b"four");
        assert_eq!(lines(&mut begun, "", true), b"four\n");
        assert_eq!(lines(&mut begun, "", true), b"");
    }

    #[test]
    fn a_line_that_is_too_long_comes_in_pieces_that_say_so() {
        let mut begun = vec![b'x'; 2 * LINE_MAX_BYTES + 3];
        let pieces = lines(&mut begun, "[p] ", false);
        let pieces: Vec<_> = pieces.split_inclusive(|byte| *byte == b'\n').collect();
        assert_eq!(pieces.len(), 2);
        assert!(pieces.iter().all(|piece| piece.len() == LINE_MAX_BYTES + 4 + GOES_ON.len() && piece.ends_with(GOES_ON)));
        assert_eq!(begun, b"xxx");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_however_it_is_cut(text in "[a-c\n]{0,64}", cuts in prop::collection::vec(0_usize..8, 0..64)) {
            let (mut begun, mut passed, mut rest) = (Vec::new(), Vec::new(), text.as_bytes());
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                begun.extend_from_slice(now);
                rest = later;
                passed.extend(lines(&mut begun, "", false));
                prop_assert!(passed.is_empty() || passed.ends_with(b"\n"));
            }
            begun.extend_from_slice(rest);
            passed.extend(lines(&mut begun, "", true));
            let mut expected = text.into_bytes();
            if expected.last().is_some_and(|last| *last != b'\n') {
                expected.push(b'\n');
            }
            prop_assert_eq!(passed, expected);
        }
    }
}
