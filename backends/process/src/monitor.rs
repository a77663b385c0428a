//! The thread that notices deaths.
//!
//! It sleeps until a worker process ends, and wakes whoever waits for it. Without it they would find out when they look around.

use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;

use crate::line::Line;

/// The key of the descriptor by which the thread is told to end.
const END: u64 = 0;

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
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    last_key: u64,
    by_key: BTreeMap<u64, Arc<Line>>,
}

impl Watched {
    /// No step under this lock can panic and leave the map half changed.
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Monitor {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let end = eventfd(0, EventfdFlags::CLOEXEC)?;
        epoll::add(&epoll, &end, epoll::EventData::new_u64(END), epoll::EventFlags::IN)?;
        let watched = Arc::new(Watched { epoll, end, lines: Mutex::default() });
        let body = {
            let watched = Arc::clone(&watched);
            move || watch(&watched)
        };
        // It calls nothing but the kernel.
        let thread = thread::Builder::new().name("processes-watch".into()).stack_size(64 << 10).spawn(body)?;
        Ok(Self { watched, thread: Some(thread) })
    }

    /// Watches the process with this descriptor; gives the key by which it is forgotten.
    pub(crate) fn watch(&self, process: BorrowedFd<'_>, line: Arc<Line>) -> io::Result<u64> {
        let key = {
            let mut lines = self.watched.lines();
            lines.last_key += 1;
            let key = lines.last_key;
            lines.by_key.insert(key, line);
            key
        };
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        if let Err(error) = epoll::add(&self.watched.epoll, process, epoll::EventData::new_u64(key), flags) {
            self.watched.lines().by_key.remove(&key);
            return Err(error.into());
        }
        Ok(key)
    }

    /// Watches the process no more.
    pub(crate) fn forget(&self, key: u64, process: BorrowedFd<'_>) {
        // It is there, since `watch` gave the key; and if it were not, that would be what is wanted.
        let _ = epoll::delete(&self.watched.epoll, process);
        self.watched.lines().by_key.remove(&key);
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
            let key = event.data.u64();
            if key == END {
                return;
            }
            let line = watched.lines().by_key.remove(&key);
            if let Some(line) = line {
                line.set_dead();
            }
        }
    }
}
