//! The thread that notices deaths, and passes on what worker processes print.
//!
//! It sleeps until a worker process ends or prints. Whoever waits for one that has ended is woken; without that he would find out when he looks around.

use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;

use crate::line::Line;
use crate::output::{Output, STREAMS, Stream};

/// The key of the descriptor by which the thread is told to end.
const END: u64 = 0;
/// How many keys each process has: its own, and one for each of its streams.
const KEYS: u64 = 1 + STREAMS.len() as u64;

/// Watches worker processes until it is dropped.
#[derive(Debug)]
pub(crate) struct Monitor {
    watched: Arc<Watched>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Watched {
    epoll: OwnedFd,
    end: OwnedFd,
    processes: Mutex<Processes>,
}

#[derive(Debug, Default)]
struct Processes {
    last_number: u64,
    by_number: BTreeMap<u64, (Arc<Line>, Arc<Output>)>,
}

impl Watched {
    /// No step under this lock can panic and leave the map half changed.
    fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Monitor {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let end = eventfd(0, EventfdFlags::CLOEXEC)?;
        epoll::add(&epoll, &end, epoll::EventData::new_u64(END), epoll::EventFlags::IN)?;
        let watched = Arc::new(Watched { epoll, end, processes: Mutex::default() });
        let body = {
            let watched = Arc::clone(&watched);
            move || watch(&watched)
        };
        // It calls little but the kernel.
        let thread = thread::Builder::new().name("processes-watch".into()).stack_size(64 << 10).spawn(body)?;
        Ok(Self { watched, thread: Some(thread) })
    }

    /// Watches the process with this descriptor, if it has one, and what it prints; gives the number by which it is forgotten.
    pub(crate) fn watch(&self, process: Option<BorrowedFd<'_>>, line: Arc<Line>, output: &Arc<Output>) -> io::Result<u64> {
        let number = {
            let mut processes = self.watched.processes();
            processes.last_number += 1;
            let number = processes.last_number;
            processes.by_number.insert(number, (line, Arc::clone(output)));
            number
        };
        let add = |descriptor: BorrowedFd<'_>, key: u64, flags| {
            epoll::add(&self.watched.epoll, descriptor, epoll::EventData::new_u64(number * KEYS + key), epoll::EventFlags::IN | flags)
        };
        let added = process.map_or(Ok(()), |process| add(process, 0, epoll::EventFlags::ONESHOT)).and_then(|()| {
            STREAMS.into_iter().try_for_each(|stream| {
                output.with_end(stream, |end| add(end, 1 + stream as u64, epoll::EventFlags::empty())).unwrap_or(Ok(()))
            })
        });
        if let Err(error) = added {
            self.forget(number, process);
            return Err(error.into());
        }
        Ok(number)
    }

    /// Watches the process no more. Of its streams the kernel forgets those that are closed.
    pub(crate) fn forget(&self, number: u64, process: Option<BorrowedFd<'_>>) {
        if let Some(process) = process {
            // It is there, unless `watch` failed; and if it were not, that would be what is wanted.
            let _ = epoll::delete(&self.watched.epoll, process);
        }
        self.watched.processes().by_number.remove(&number);
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let told = rustix::io::write(&self.watched.end, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take()
            && told.is_ok()
        {
            // It does not panic, and if it did, it would be over all the same.
            let _ = thread.join();
        }
    }
}

fn watch(watched: &Watched) {
    loop {
        let mut space = [MaybeUninit::uninit(); 64];
        let events = match epoll::wait(&watched.epoll, &mut space[..], None) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => continue,
            // Whoever waits finds out when it looks around.
            Err(_) => return,
        };
        for event in events {
            let (key, flags) = (event.data.u64(), event.flags);
            if key == END {
                return;
            }
            // A clone: the lock is not held while the user's output is waited for.
            let Some((line, output)) = watched.processes().by_number.get(&(key / KEYS)).cloned() else { continue };
            match key % KEYS {
                0 => line.set_dead(),
                stream => {
                    let stream = if stream == 1 { Stream::Output } else { Stream::Error };
                    output.pass_on_from(stream, flags.contains(epoll::EventFlags::HUP));
                }
            }
        }
    }
}
