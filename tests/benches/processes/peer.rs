//! Another process of this program, which does no more than answer: what Poniard's figures are compared with.
//!
//! It is the same program with the arguments `--peer KIND [NAME]`, and its standard input is the way to it. It ends with the one that started it.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use ipc_channel::ipc::{IpcOneShotServer, IpcReceiver, IpcSender};
use rustix::io::{read, write};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::futex;

use crate::shared_words::{SharedWords, fork_once};

/// The argument by which the program knows that it is a peer.
pub(crate) const FLAG: &str = "--peer";

/// A running peer. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Peer(Child);

impl Peer {
    fn start(kind: &str, name: Option<&str>, input: impl Into<Stdio>) -> Self {
        let mut command = Command::new("/proc/self/exe");
        command.args([FLAG, kind]).args(name).stdin(input);
        Self(command.spawn().expect("a peer"))
    }

    /// One that says a word and does nothing any more. Waits for the word.
    pub(crate) fn still() -> Self {
        let (mut here, there) = UnixStream::pair().expect("a socket");
        let peer = Self::start("still", None, OwnedFd::from(there));
        here.read_exact(&mut [0]).expect("a word");
        peer
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) {
        self.0.wait().expect("its end");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Tells whoever sleeps on the head of a ring.
fn wake(head: &std::sync::atomic::AtomicU32) {
    futex::wake(head, futex::Flags::empty(), 1).expect("a wake-up");
}

/// Sleeps while the head of a ring is what was found.
fn sleep(head: &std::sync::atomic::AtomicU32, found: u32) {
    // It may have changed, which is an error.
    let _ = futex::wait(head, futex::Flags::empty(), found, None);
}

/// There and back through bare rings in shared memory, both sides spinning.
pub(crate) fn ring() -> impl FnMut(u64) {
    let (file, words) = SharedWords::create().expect("shared memory");
    let peer = Peer::start("ring", None, file);
    let mut count = 0;
    move |number| {
        let _ = &peer;
        count += 1;
        words.there.put(count, number);
        assert_eq!(words.back.take(count, |_| std::hint::spin_loop()), number);
    }
}

/// The same, both sides asleep until they are woken.
pub(crate) fn futexes() -> impl FnMut(u64) {
    let (file, words) = SharedWords::create().expect("shared memory");
    let peer = Peer::start("futex", None, file);
    let mut count = 0;
    move |number| {
        let _ = &peer;
        count += 1;
        words.there.put(count, number);
        wake(&words.there.head);
        assert_eq!(words.back.take(count, |found| sleep(&words.back.head, found)), number);
    }
}

/// There and back through a Unix socket.
pub(crate) fn socket() -> impl FnMut(u64) {
    let (here, there) = UnixStream::pair().expect("a socket");
    let peer = Peer::start("socket", None, OwnedFd::from(there));
    move |number| {
        let _ = &peer;
        let mut answer = [0; 8];
        assert_eq!(write(&here, &number.to_ne_bytes()), Ok(8));
        assert_eq!(read(&here, &mut answer), Ok(8));
        assert_eq!(u64::from_ne_bytes(answer), number);
    }
}

/// There and back through `ipc-channel`.
pub(crate) fn channel() -> impl FnMut(u64) {
    let (door, name) = IpcOneShotServer::<(IpcSender<u64>, IpcReceiver<u64>)>::new().expect("a channel");
    let peer = Peer::start("channel", Some(&name), Stdio::null());
    let (_, (sender, receiver)) = door.accept().expect("the peer's ends");
    move |number| {
        let _ = &peer;
        sender.send(number).expect("the peer is there");
        assert_eq!(receiver.recv().expect("an answer"), number);
    }
}

/// Has a small process fork another one, and waits for a word of that.
pub(crate) fn forks() -> impl FnMut() {
    let (here, there) = UnixStream::pair().expect("a socket");
    let peer = Peer::start("fork", None, OwnedFd::from(there));
    move || {
        let _ = &peer;
        assert_eq!(write(&here, &[1]), Ok(1));
        assert_eq!(read(&here, &mut [0]), Ok(1));
    }
}

/// The peer's side: answers until it is killed.
pub(crate) fn serve(mut arguments: impl Iterator<Item = String>) {
    set_parent_process_death_signal(Some(Signal::KILL)).expect("an end with the parent");
    let input = std::io::stdin();
    let words = || SharedWords::map(&input).expect("shared memory");
    match arguments.next().as_deref() {
        Some("ring") => {
            let words = words();
            for count in 1.. {
                words.back.put(count, words.there.take(count, |_| std::hint::spin_loop()));
            }
        }
        Some("futex") => {
            let words = words();
            for count in 1.. {
                words.back.put(count, words.there.take(count, |found| sleep(&words.there.head, found)));
                wake(&words.back.head);
            }
        }
        Some("socket") => {
            let mut word = [0; 8];
            while read(&input, &mut word) == Ok(8) {
                assert_eq!(write(&input, &word), Ok(8));
            }
        }
        Some("channel") => {
            let (there, receiver) = ipc_channel::ipc::channel().expect("a channel");
            let (sender, back) = ipc_channel::ipc::channel().expect("a channel");
            let door = IpcSender::connect(arguments.next().expect("a name")).expect("the host");
            door.send((there, back)).expect("the host is there");
            while let Ok(number) = receiver.recv() {
                let number: u64 = number;
                sender.send(number).expect("the host is there");
            }
        }
        Some("fork") => {
            while read(&input, &mut [0; 1]) == Ok(1) {
                fork_once(|| assert_eq!(write(&input, &[1]), Ok(1)));
            }
        }
        _ => {
            assert_eq!(write(&input, &[1]), Ok(1));
            loop {
                std::thread::park();
            }
        }
    }
}
