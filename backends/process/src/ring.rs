//! Frames through two rings of words, with whoever waits asleep on a futex.
//!
//! A frame is a word with its kind and length, and its bytes, padded to whole words. One that is longer than the ring goes through it in pieces, while the other
//! side reads. The README beside this file has the protocol and the partners of the orderings.
//!
//! Nothing that comes out of the memory is trusted: what cannot be is [`RingError::Garbage`].

use std::hint::spin_loop;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::layout::{RING_WORDS, RingMemory};
use crate::line::Line;
use crate::sync::Futex;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::atomic::fence;

/// The longest frame, in bytes.
pub(crate) const MAX_FRAME_BYTES: usize = 1 << 31;
/// How long whoever spins looks before it sleeps.
const SPIN: Duration = Duration::from_micros(20);
/// After how long it lets others have its core meanwhile.
const ALONE: Duration = Duration::from_micros(1);
/// What the upper bits of a frame's first word are.
const MARK: u64 = 0x50_4F_4E;
/// How many words are copied at a time on their way out.
const BLOCK_WORDS: usize = 64;

/// Nobody sleeps on the bell.
const AWAKE: u32 = 0;
/// Somebody sleeps until there is something to read.
const FOR_DATA: u32 = 1;
/// Somebody sleeps until there is room to write.
const FOR_ROOM: u32 = 2;

/// Which process this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Host,
    Worker,
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// To the worker process: what to execute.
    Call = 1,
    /// To the host: the result of the call, which is over.
    Reply = 2,
    /// To the host, in the middle of a call.
    Request = 3,
    /// To the worker process: the answer to a request.
    Answer = 4,
    /// To the host, instead of a reply: why there is none, as text.
    Failure = 5,
    /// To the host, instead of a reply: the call had come back before it began.
    Skipped = 6,
    /// A reply to a call that took so long that what it printed is passed on first.
    LongReply = 7,
}

impl FrameKind {
    fn of(number: u8) -> Option<Self> {
        const ALL: [FrameKind; 7] = [
            FrameKind::Call,
            FrameKind::Reply,
            FrameKind::Request,
            FrameKind::Answer,
            FrameKind::Failure,
            FrameKind::Skipped,
            FrameKind::LongReply,
        ];
        ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Which side gets such frames.
    fn receiver(self) -> Side {
        match self {
            Self::Call | Self::Answer => Side::Worker,
            Self::Reply | Self::Request | Self::Failure | Self::Skipped | Self::LongReply => Side::Host,
        }
    }
}

/// A frame that was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: FrameKind,
    pub(crate) bytes: Vec<u8>,
}

/// Why a frame did not get through.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RingError<E> {
    /// The other side broke the protocol.
    Garbage(String),
    /// There is no memory for so many bytes.
    NoMemory(usize),
    /// Whoever waited gave up.
    GaveUp(E),
}

/// What whoever waits keeps an eye on.
pub(crate) trait Watch {
    /// Why it gave up.
    type Reason;

    /// How long it sleeps before it looks around.
    fn slice(&self) -> Duration;

    /// Called now and then, data or not.
    fn tick(&mut self) -> Result<(), Self::Reason>;

    /// Whether the other side is gone; called before it sleeps, and with `slept` if it slept for the whole slice.
    fn gone(&mut self, slept: bool) -> Result<(), Self::Reason>;
}

/// One side's end of the rings. The positions here are its own; those in the memory are for the other side to see.
#[derive(Debug)]
pub(crate) struct End {
    line: Arc<Line>,
    side: Side,
    spin: bool,
    /// How many words this side has written.
    written: u64,
    /// How many words this side has read.
    read: u64,
}

impl End {
    /// The end of `side`. Either side makes one, before the first frame.
    pub(crate) fn new(line: Arc<Line>, side: Side, spin: bool) -> Self {
        Self { line, side, spin, written: 0, read: 0 }
    }

    /// Sends a frame; waits for room where it is needed.
    pub(crate) fn write<W: Watch>(&mut self, kind: FrameKind, bytes: &[u8], watch: &mut W) -> Result<(), RingError<W::Reason>> {
        self.write_quietly(kind, bytes, watch)?;
        self.wake_reader();
        Ok(())
    }

    /// The same, but whoever sleeps until it comes may be left asleep until [`wake_reader`](Self::wake_reader).
    pub(crate) fn write_quietly<W: Watch>(&mut self, kind: FrameKind, bytes: &[u8], watch: &mut W) -> Result<(), RingError<W::Reason>> {
        assert!(bytes.len() <= MAX_FRAME_BYTES, "a frame has at most {MAX_FRAME_BYTES} bytes");
        let first = MARK << 40 | (kind as u64) << 32 | bytes.len() as u64;
        let mut room = self.room()?;
        if room == 0 {
            // What fills the ring may have been written quietly, and whoever is to read it sleeps.
            self.wake_reader();
            room = self.wait_for_room(watch)?;
        }
        let line = Arc::clone(&self.line);
        let ring = self.outgoing(&line);
        ring.words[place(self.written)].store(first, Relaxed);
        self.written += 1;
        room -= 1;
        let mut rest = bytes;
        loop {
            let count = room.min(rest.len().div_ceil(8));
            let (now, later) = rest.split_at(rest.len().min(count * 8));
            for (range, before) in pieces(self.written, count) {
                let (words, last) = now[before * 8..].as_chunks();
                let last = (!last.is_empty()).then(|| padded(last));
                for (place, word) in ring.words[range].iter().zip(words.iter().copied().chain(last)) {
                    place.store(u64::from_ne_bytes(word), Relaxed);
                }
            }
            self.written += count as u64;
            // Partner: the load in `unread` of the other side, which sees the words with the position.
            ring.head.store(self.written, Release);
            rest = later;
            if rest.is_empty() {
                return Ok(());
            }
            self.wake_reader();
            watch.tick().map_err(RingError::GaveUp)?;
            room = self.wait_for_room(watch)?;
        }
    }

    /// Receives a frame; waits until there is one.
    pub(crate) fn read<W: Watch>(&mut self, watch: &mut W) -> Result<Frame, RingError<W::Reason>> {
        let mut unread = self.wait_for_data(watch)?;
        let line = Arc::clone(&self.line);
        let ring = self.incoming(&line);
        let first = ring.words[place(self.read)].load(Relaxed);
        let len = (first & 0xFFFF_FFFF) as usize;
        let kind =
            FrameKind::of((first >> 32) as u8).filter(|kind| first >> 40 == MARK && len <= MAX_FRAME_BYTES && kind.receiver() == self.side);
        let kind = kind.ok_or_else(|| RingError::Garbage(format!("a frame begins with {first:#x}")))?;
        self.read += 1;
        unread -= 1;
        let mut bytes = Vec::new();
        // Nothing is touched until the bytes come, so a length that is a lie costs addresses only.
        bytes.try_reserve_exact(len).map_err(|_| RingError::NoMemory(len))?;
        loop {
            let count = unread.min((len - bytes.len()).div_ceil(8));
            for (range, _) in pieces(self.read, count) {
                for words in ring.words[range].chunks(BLOCK_WORDS) {
                    let mut block = [0; BLOCK_WORDS * 8];
                    for (bytes, word) in block.chunks_exact_mut(8).zip(words) {
                        bytes.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
                    }
                    bytes.extend_from_slice(&block[..(words.len() * 8).min(len - bytes.len())]);
                }
            }
            self.read += count as u64;
            // Partner: the load in `room` of the other side, which writes there again only after we have read.
            ring.tail.store(self.read, Release);
            self.wake(FOR_ROOM);
            if bytes.len() == len {
                return Ok(Frame { kind, bytes });
            }
            watch.tick().map_err(RingError::GaveUp)?;
            unread = self.wait_for_rest(watch)?;
        }
    }

    /// Wakes the other side if it sleeps until something comes.
    pub(crate) fn wake_reader(&self) {
        self.wake(FOR_DATA);
    }

    /// Whether a frame of so many bytes goes into the ring now, without waiting for room.
    pub(crate) fn has_room_for(&self, len_bytes: usize) -> bool {
        // A position that is out of range is found by whoever writes.
        self.room::<()>().is_ok_and(|room| room > len_bytes.div_ceil(8))
    }

    /// Whether something came that nobody has read.
    pub(crate) fn has_unread(&self) -> bool {
        self.incoming(&self.line).head.load(Relaxed) != self.read
    }

    fn outgoing<'a>(&self, line: &'a Line) -> &'a RingMemory {
        match self.side {
            Side::Host => &line.memory.to_worker,
            Side::Worker => &line.memory.to_host,
        }
    }

    fn incoming<'a>(&self, line: &'a Line) -> &'a RingMemory {
        match self.side {
            Side::Host => &line.memory.to_host,
            Side::Worker => &line.memory.to_worker,
        }
    }

    /// How many words can be written.
    fn room<E>(&self) -> Result<usize, RingError<E>> {
        // Partner: the store of the position at the end of `read`.
        let tail = self.outgoing(&self.line).tail.load(Acquire);
        match self.written.wrapping_sub(tail) {
            used @ 0..=CAPACITY => Ok((CAPACITY - used) as usize),
            _ => Err(RingError::Garbage(format!("it has read {tail} words of {}", self.written))),
        }
    }

    /// How many words can be read.
    fn unread<E>(&self) -> Result<usize, RingError<E>> {
        // Partner: the store of the position in `write`.
        let head = self.incoming(&self.line).head.load(Acquire);
        match head.wrapping_sub(self.read) {
            unread @ 0..=CAPACITY => Ok(unread as usize),
            _ => Err(RingError::Garbage(format!("it has written {head} words, where {} were read", self.read))),
        }
    }

    fn wait_for_room<W: Watch>(&self, watch: &mut W) -> Result<usize, RingError<W::Reason>> {
        self.wait(FOR_ROOM, || self.room(), watch)
    }

    fn wait_for_data<W: Watch>(&self, watch: &mut W) -> Result<usize, RingError<W::Reason>> {
        self.wait(FOR_DATA, || self.unread(), watch)
    }

    /// As `wait_for_data`, in the middle of a frame: who sends it does not wait for data meanwhile. A worker process that does has sent half a frame.
    fn wait_for_rest<W: Watch>(&self, watch: &mut W) -> Result<usize, RingError<W::Reason>> {
        let rest = || {
            let is_done = self.side == Side::Host && self.line.memory.worker_bell.load(Relaxed) == FOR_DATA;
            if is_done {
                // Partner: the fence in `wake`, after what it sent and before it went to sleep, which was seen: so all of that is seen.
                fence(SeqCst);
            }
            match self.unread()? {
                0 if is_done => Err(RingError::Garbage("half a frame".into())),
                unread => Ok(unread),
            }
        };
        self.wait(FOR_DATA, rest, watch)
    }

    /// Waits until `count` is not 0.
    fn wait<W: Watch>(
        &self,
        what: u32,
        count: impl Fn() -> Result<usize, RingError<W::Reason>>,
        watch: &mut W,
    ) -> Result<usize, RingError<W::Reason>> {
        let ready = count()?;
        if ready != 0 {
            return Ok(ready);
        }
        if self.spin {
            let begin = Instant::now();
            loop {
                for _ in 0..16 {
                    let ready = count()?;
                    if ready != 0 {
                        return Ok(ready);
                    }
                    spin_loop();
                }
                let elapsed = begin.elapsed();
                if elapsed >= SPIN {
                    break;
                }
                if elapsed >= ALONE {
                    // The other side may be waiting for this very core.
                    thread::yield_now();
                }
            }
        }
        let bell: &Futex = match self.side {
            Side::Host => &self.line.memory.host_bell,
            Side::Worker => &self.line.memory.worker_bell,
        };
        let outcome = sleep(bell, what, count, watch);
        bell.store(AWAKE, Relaxed);
        outcome
    }

    /// Wakes the other side if it sleeps for `what`.
    fn wake(&self, what: u32) {
        let bell: &Futex = match self.side {
            Side::Host => &self.line.memory.worker_bell,
            Side::Worker => &self.line.memory.host_bell,
        };
        // Partner: the fence in `sleep`. One of the two sees what the other has stored before its fence.
        fence(SeqCst);
        if bell.load(Relaxed) == what {
            ring(bell);
        }
    }
}

const CAPACITY: u64 = RING_WORDS as u64;

fn sleep<W: Watch>(
    bell: &Futex,
    what: u32,
    count: impl Fn() -> Result<usize, RingError<W::Reason>>,
    watch: &mut W,
) -> Result<usize, RingError<W::Reason>> {
    let mut slept = false;
    loop {
        bell.store(what, Relaxed);
        // Partner: the fences in `wake`, `Line::set_dead` and `Line::close`.
        fence(SeqCst);
        let ready = count()?;
        if ready != 0 {
            return Ok(ready);
        }
        if let Err(reason) = watch.gone(slept) {
            // What it sent before it went still counts.
            let ready = count()?;
            return if ready == 0 { Err(RingError::GaveUp(reason)) } else { Ok(ready) };
        }
        watch.tick().map_err(RingError::GaveUp)?;
        // Returns at once if the bell was rung since. Why it returns does not matter, except for what `gone` looks at.
        slept = !bell.wait(what, watch.slice());
        let ready = count()?;
        if ready != 0 {
            return Ok(ready);
        }
    }
}

/// Wakes whoever sleeps on `bell`.
pub(crate) fn ring(bell: &Futex) {
    if bell.swap(AWAKE, Relaxed) != AWAKE {
        bell.wake();
    }
}

/// Where word `position` lies.
fn place(position: u64) -> usize {
    (position % CAPACITY) as usize
}

/// The one or two ranges in which `count` words from `position` on lie, each with how many words lie before it.
fn pieces(position: u64, count: usize) -> impl Iterator<Item = (std::ops::Range<usize>, usize)> {
    let start = place(position);
    let first = count.min(RING_WORDS - start);
    [(start..start + first, 0), (0..count - first, first)].into_iter().filter(|(range, _)| !range.is_empty())
}

/// The bytes of a word that are not there are zero.
fn padded(bytes: &[u8]) -> [u8; 8] {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    word
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shared_memory::SharedMemory;

    /// Gives up after some looks around.
    struct Patience(usize);

    impl Watch for Patience {
        type Reason = ();

        fn slice(&self) -> Duration {
            Duration::from_millis(1)
        }
        fn tick(&mut self) -> Result<(), ()> {
            Ok(())
        }
        fn gone(&mut self, _: bool) -> Result<(), ()> {
            self.0 = self.0.checked_sub(1).ok_or(())?;
            Ok(())
        }
    }

    const LONG: usize = usize::MAX;

    fn line() -> Arc<Line> {
        Arc::new(Line::new(SharedMemory::create().unwrap().1))
    }

    fn ends(line: &Arc<Line>, spin: bool) -> (End, End) {
        (End::new(Arc::clone(line), Side::Host, spin), End::new(Arc::clone(line), Side::Worker, spin))
    }

    #[test]
    fn frames_of_all_lengths_arrive_whole_and_in_order() {
        for spin in [false, true] {
            let line = line();
            let (mut host, mut worker) = ends(&line, spin);
            let lengths = [0, 1, 7, 8, 9, 4095, 65_528, 65_536, 65_537, 1 << 20, 3, 0];
            let frame = |len: usize| (0..len).map(|index| (index * 31 + len) as u8).collect::<Vec<_>>();
            thread::scope(|scope| {
                scope.spawn(move || {
                    for _ in 0..3 * lengths.len() {
                        let frame = worker.read(&mut Patience(LONG)).unwrap();
                        assert_eq!(frame.kind, FrameKind::Call);
                        worker.write(FrameKind::Reply, &frame.bytes, &mut Patience(LONG)).unwrap();
                    }
                });
                for len in lengths.iter().cycle().take(3 * lengths.len()) {
                    host.write(FrameKind::Call, &frame(*len), &mut Patience(LONG)).unwrap();
                    assert_eq!(host.read(&mut Patience(LONG)).unwrap(), Frame { kind: FrameKind::Reply, bytes: frame(*len) });
                }
                assert!(!host.has_unread());
            });
        }
    }

    #[test]
    fn no_wake_up_is_lost() {
        let line = line();
        let (mut host, mut worker) = ends(&line, false);
        thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..20_000 {
                    let frame = worker.read(&mut Patience(LONG)).unwrap();
                    worker.write(FrameKind::Reply, &frame.bytes, &mut Patience(LONG)).unwrap();
                }
            });
            // A lost wake-up would cost a slice each time.
            for number in 0..20_000_u32 {
                host.write(FrameKind::Call, &number.to_ne_bytes(), &mut Patience(LONG)).unwrap();
                assert_eq!(host.read(&mut Patience(LONG)).unwrap().bytes, number.to_ne_bytes());
            }
        });
    }

    #[test]
    fn whoever_waits_in_vain_gives_up() {
        let line = line();
        let (mut host, _worker) = ends(&line, false);
        assert_eq!(host.read(&mut Patience(2)), Err(RingError::GaveUp(())));
        assert_eq!(host.write(FrameKind::Call, &[0; 1 << 17], &mut Patience(2)), Err(RingError::GaveUp(())));
    }

    #[test]
    fn half_a_frame_is_garbage_once_its_sender_waits_for_the_next_one() {
        for (bell, expected) in
            [(AWAKE, RingError::GaveUp(())), (FOR_ROOM, RingError::GaveUp(())), (FOR_DATA, RingError::Garbage("half a frame".into()))]
        {
            let line = line();
            let (mut host, _worker) = ends(&line, false);
            let whole = MARK << 40 | (FrameKind::Reply as u64) << 32 | 100;
            line.memory.to_host.words[0].store(whole, Relaxed);
            line.memory.to_host.head.store(3, Relaxed);
            line.memory.worker_bell.store(bell, Relaxed);
            assert_eq!(host.read(&mut Patience(2)), Err(expected));
        }
    }

    #[test]
    fn positions_out_of_range_are_garbage() {
        let line = line();
        let (mut host, _worker) = ends(&line, false);
        for head in [CAPACITY + 1, u64::MAX, 1 << 63] {
            line.memory.to_host.head.store(head, Relaxed);
            assert!(matches!(host.read(&mut Patience(2)), Err(RingError::Garbage(_))));
        }
        for tail in [1, CAPACITY, u64::MAX - CAPACITY] {
            line.memory.to_worker.tail.store(tail, Relaxed);
            assert!(matches!(host.write(FrameKind::Call, &[], &mut Patience(2)), Err(RingError::Garbage(_))));
        }
    }

    proptest! {
        #[test]
        fn whatever_lies_in_the_memory_is_a_frame_or_an_error(
            words in prop::collection::vec(prop_oneof![any::<u64>(), (0..1_u64 << 34).prop_map(|low| MARK << 40 | low)], 1..64),
            head in prop_oneof![any::<u64>(), 0..70_u64],
            bell in any::<u32>(),
        ) {
            let line = line();
            let (mut host, _worker) = ends(&line, false);
            for (place, word) in line.memory.to_host.words.iter().zip(&words) {
                place.store(*word, Relaxed);
            }
            line.memory.to_host.head.store(head, Relaxed);
            line.memory.host_bell.store(bell, Relaxed);
            line.memory.worker_bell.store(bell, Relaxed);
            while let Ok(frame) = host.read(&mut Patience(1)) {
                prop_assert!(frame.bytes.len() <= RING_WORDS * 8);
            }
        }
    }
}
