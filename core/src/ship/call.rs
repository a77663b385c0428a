//! What the bytes of calls, replies and requests mean.

use poniard_interface::{SpaceId, WorkerId};

use super::code::Named;
use crate::error::{BoxError, FailureKind, with_causes};
use crate::scope::{ProcessId, ProcessorIdentity};
use crate::task::record::{TaskRef, Travel};
use crate::wire::{NoBuffers, Place, Reader, WireError, Writer};

/// Reads arguments, calls a function and writes its value. One for each function that travels, made by the compiler.
pub(crate) type CallBody = fn(&mut Reader<'_>, &mut Writer<'_>) -> Result<(), CallFailure>;

/// Why a call gave no value.
#[derive(Debug)]
pub(crate) enum CallFailure {
    /// The function returned an error.
    Returned(BoxError),
    /// It panicked, with this message.
    Panicked(String),
    /// The arguments could not be read, or the value not be written.
    Wire(WireError),
    /// The function is not to be had in this process; nothing was read.
    NoCode(String),
}

impl From<WireError> for CallFailure {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// Bits of the first byte of a call: the host is short of memory; what the body waits is to be told; its CPU time, too.
pub(crate) const IS_TIGHT: u8 = 1;
pub(crate) const MEASURES: u8 = 2;
pub(crate) const MEASURES_CPU: u8 = 4;
/// In a reply: no CPU time.
pub(crate) const NOT_MEASURED: u64 = u64::MAX;

/// First bytes of replies: what became of the call.
pub(crate) const VALUE: u8 = 0;
pub(crate) const RETURNED: u8 = 1;
pub(crate) const PANICKED: u8 = 2;
pub(crate) const REFUSED: u8 = 3;
/// It panicked outside of the function: where arguments are read, or a value is written.
pub(crate) const BROKEN: u8 = 4;
/// The function is not to be had in the process.
pub(crate) const NO_CODE: u8 = 5;
/// These are said of calls that were handed on.
pub(crate) const CANCELLED: u8 = 6;
pub(crate) const LATE: u8 = 7;
pub(crate) const SHUT_DOWN: u8 = 8;
pub(crate) const FAILED: u8 = 9;

/// Whether a reply with this first byte gives back what was to be changed in place.
pub(crate) fn gives_back(tag: u8) -> bool {
    matches!(tag, VALUE | RETURNED | PANICKED)
}

/// Takes what came of a task that this thread has claimed, and another process has run. Why it has no value, if it has none.
///
/// # Errors
/// [`WireError`] when the bytes say nothing of the kind.
pub(crate) fn accept(task: &TaskRef, travel: &Travel, tag: u8, reader: &mut Reader<'_>) -> Result<Option<FailureKind>, WireError> {
    if tag == VALUE {
        // Read to the end before the task counts as run.
        task.accept(travel, reader)?;
        return Ok(None);
    }
    let text = reader.take_text()?.to_owned();
    if gives_back(tag) {
        task.take_back(travel, reader)?;
    }
    let kind = match tag {
        RETURNED => FailureKind::Returned(text.into()),
        PANICKED | BROKEN => FailureKind::Panicked(text),
        NO_CODE => FailureKind::Stays { reason: text },
        REFUSED => return Err(WireError::new(text)),
        CANCELLED => FailureKind::Cancelled,
        LATE => FailureKind::DeadlineExceeded,
        SHUT_DOWN => FailureKind::Shutdown,
        FAILED => FailureKind::Processor { processor: text, reason: reader.take_text()?.to_owned() },
        _ => return Err(WireError::new(format!("{tag} says nothing about a call"))),
    };
    reader.end()?;
    Ok(Some(kind))
}

impl CallFailure {
    /// The first byte of a reply that says so, and its text.
    pub(crate) fn told(self) -> (u8, String) {
        match self {
            Self::Returned(error) => (RETURNED, with_causes(&*error)),
            Self::Panicked(message) => (PANICKED, message),
            Self::Wire(error) => (REFUSED, error.to_string()),
            Self::NoCode(reason) => (NO_CODE, reason),
        }
    }
}

/// A request of a process in the middle of a call.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Request {
    /// Lend me so many bytes.
    Allocate { len_bytes: u64 },
    /// Where is this arena?
    Map { arena: u64 },
    /// Which library has this number? Answered by `code::Named`.
    Library { number: u64 },
    /// Send me the argument of my call that has this number. Answered by its bytes.
    Value { number: u64 },
    /// Here is a block that you have lent me.
    Return { place: Place },
    /// Which number has this library?
    Number { library: Named },
    /// What processors are there, and which one am I?
    Processors,
    /// Take this, and give me what there is for me.
    Exchange(Parcel),
}

impl Request {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let (tag, rest) = match self {
            Self::Allocate { len_bytes } => (0, answer([*len_bytes, 0, 0])),
            Self::Map { arena } => (1, answer([*arena, 0, 0])),
            Self::Library { number } => (2, answer([*number, 0, 0])),
            Self::Value { number } => (3, answer([*number, 0, 0])),
            Self::Return { place: Place { arena, offset, len_bytes } } => (4, answer([*arena, *offset, *len_bytes])),
            Self::Processors => (5, Vec::new()),
            Self::Exchange(parcel) => (6, parcel.to_bytes()),
            Self::Number { library } => (7, library.to_bytes()),
        };
        [vec![tag], rest].concat()
    }

    /// The request that the bytes are, if they are one.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        match (tag, of_answer(rest)) {
            (0, Some([len_bytes, 0, 0])) => Some(Self::Allocate { len_bytes }),
            (1, Some([arena, 0, 0])) => Some(Self::Map { arena }),
            (2, Some([number, 0, 0])) => Some(Self::Library { number }),
            (3, Some([number, 0, 0])) => Some(Self::Value { number }),
            (4, Some([arena, offset, len_bytes])) => Some(Self::Return { place: Place { arena, offset, len_bytes } }),
            (5, _) if rest.is_empty() => Some(Self::Processors),
            (6, _) => Parcel::of_bytes(rest).ok().map(Self::Exchange),
            (7, _) => Named::of_bytes(rest).map(|library| Self::Number { library }),
            _ => None,
        }
    }
}

/// What a process and the host have for each other while the process executes a call: the same both ways.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Parcel {
    /// Of a process: nothing is to be done there just now.
    pub(crate) idle: bool,
    /// Of a process: the answer may take a while if there is nothing for it.
    pub(crate) waits: bool,
    /// Tasks that the other side is to have run.
    pub(crate) offers: Vec<Offer>,
    /// Which of those that it was offered before are to stop.
    pub(crate) stops: Vec<u64>,
    /// What came of those that this side was offered.
    pub(crate) outcomes: Vec<Ended>,
}

/// A task that another process is to run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Offer {
    /// Tells it from the others of its side, while the call lasts.
    pub(crate) ticket: u64,
    /// Its function, and its arguments.
    pub(crate) call: Vec<u8>,
    /// It is not to begin before so many nanoseconds have passed.
    pub(crate) pause_ns: u64,
    /// The processors that may run it, by their places on the host; none, where that is not in question.
    pub(crate) places: Vec<u64>,
    pub(crate) name: String,
    pub(crate) level: u8,
    pub(crate) occupancy: f64,
    pub(crate) once: bool,
}

/// What came of an offer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ended {
    pub(crate) ticket: u64,
    /// The first byte says what became of it.
    pub(crate) reply: Vec<u8>,
    /// The blocks that lie in it, which are the receiver's from now on.
    pub(crate) blocks: Vec<Place>,
}

impl Parcel {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut none = NoBuffers;
        let mut writer = Writer::new(&mut none);
        self.write(&mut writer);
        writer.finish().bytes
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut none = NoBuffers;
        let mut reader = Reader::new(bytes, &mut none);
        let parcel = Self::read(&mut reader)?;
        reader.end()?;
        Ok(parcel)
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.offers.is_empty() && self.stops.is_empty() && self.outcomes.is_empty()
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.put_u8(u8::from(self.idle) | u8::from(self.waits) << 1);
        writer.put_u64(self.offers.len() as u64);
        for offer in &self.offers {
            [offer.ticket, offer.pause_ns, offer.occupancy.to_bits()].iter().for_each(|number| writer.put_u64(*number));
            writer.put_u8(offer.level);
            writer.put_u8(u8::from(offer.once));
            writer.put_bytes(&offer.call);
            writer.put_text(&offer.name);
            put_numbers(&offer.places, writer);
        }
        put_numbers(&self.stops, writer);
        writer.put_u64(self.outcomes.len() as u64);
        for ended in &self.outcomes {
            writer.put_u64(ended.ticket);
            writer.put_bytes(&ended.reply);
            put_places(&ended.blocks, writer);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let flags = reader.take_u8()?;
        let offers = (0..reader.take_len(1)?).map(|_| {
            let [ticket, pause_ns, occupancy] = [(); 3].map(|()| reader.take_u64());
            Ok(Offer {
                ticket: ticket?,
                pause_ns: pause_ns?,
                occupancy: f64::from_bits(occupancy?),
                level: reader.take_u8()?,
                once: reader.take_u8()? != 0,
                call: reader.take_bytes()?.to_vec(),
                name: reader.take_text()?.to_owned(),
                places: take_numbers(reader)?,
            })
        });
        let offers = offers.collect::<Result<_, WireError>>()?;
        let stops = take_numbers(reader)?;
        let outcomes = (0..reader.take_len(1)?).map(|_| {
            let (ticket, reply) = (reader.take_u64()?, reader.take_bytes()?.to_vec());
            Ok(Ended { ticket, reply, blocks: take_places(reader)? })
        });
        let outcomes = outcomes.collect::<Result<_, WireError>>()?;
        Ok(Self { idle: flags & 1 != 0, waits: flags & 2 != 0, offers, stops, outcomes })
    }
}

fn put_numbers(numbers: &[u64], writer: &mut Writer<'_>) {
    writer.put_u64(numbers.len() as u64);
    numbers.iter().for_each(|number| writer.put_u64(*number));
}

fn take_numbers(reader: &mut Reader<'_>) -> Result<Vec<u64>, WireError> {
    (0..reader.take_len(8)?).map(|_| reader.take_u64()).collect()
}

/// The processors of the host, for a process that asks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Processors {
    /// Which of them the process is.
    pub(crate) own: usize,
    pub(crate) identities: Vec<ProcessorIdentity>,
}

impl Processors {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut none = NoBuffers;
        let mut writer = Writer::new(&mut none);
        writer.put_u64(self.own as u64);
        writer.put_u64(self.identities.len() as u64);
        for identity in &self.identities {
            [&identity.name, identity.kind.as_str(), &identity.backend].iter().for_each(|text| writer.put_text(text));
            let worker = identity.worker.map_or(u64::MAX, |worker| worker.0.into());
            [identity.process.0.into(), identity.space.0.into(), worker].iter().for_each(|number| writer.put_u64(*number));
        }
        writer.finish().bytes
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut none = NoBuffers;
        let mut reader = Reader::new(bytes, &mut none);
        let (own, len) = (reader.take_u64()? as usize, reader.take_len(1)?);
        let identities = (0..len).map(|_| {
            let [name, kind, backend] = [(); 3].map(|()| reader.take_text().map(ToOwned::to_owned));
            let [process, space, worker] = [(); 3].map(|()| reader.take_u64());
            let worker = u32::try_from(worker?).ok().map(WorkerId);
            Ok(ProcessorIdentity {
                name: name?,
                kind: kind?.into(),
                backend: backend?,
                process: ProcessId(process? as u32),
                space: SpaceId(space? as u32),
                device: None,
                worker,
            })
        });
        let identities: Vec<_> = identities.collect::<Result<_, WireError>>()?;
        reader.end()?;
        if own >= identities.len() {
            return Err(WireError::new(format!("processor {own} of {} cannot be", identities.len())));
        }
        Ok(Self { own, identities })
    }
}

/// Three numbers: the answer to a request that can be met.
pub(crate) fn answer(numbers: [u64; 3]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

/// The three numbers of an answer.
pub(crate) fn of_answer(bytes: &[u8]) -> Option<[u64; 3]> {
    let (numbers, []) = bytes.as_chunks::<8>() else { return None };
    <[[u8; 8]; 3]>::try_from(numbers).ok().map(|numbers| numbers.map(u64::from_ne_bytes))
}

/// The answer to a request that cannot be met: why, in words. It is longer by a few spaces than a whole number of numbers.
pub(crate) fn refusal(reason: &str) -> Vec<u8> {
    let width = reason.chars().count() + 8 - reason.len() % 8 + 1;
    format!("{reason:width$}").into_bytes()
}

/// The words of an answer that is no numbers.
pub(crate) fn reason_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

/// Writes the places of blocks that are given back.
pub(crate) fn put_places(places: &[Place], writer: &mut Writer<'_>) {
    writer.put_u64(places.len() as u64);
    for place in places {
        writer.put_u64(place.arena);
        writer.put_u64(place.offset);
        writer.put_u64(place.len_bytes);
    }
}

/// Reads them again.
pub(crate) fn take_places(reader: &mut Reader<'_>) -> Result<Vec<Place>, WireError> {
    let len = reader.take_len(24)?;
    (0..len).map(|_| Ok(Place { arena: reader.take_u64()?, offset: reader.take_u64()?, len_bytes: reader.take_u64()? })).collect()
}

#[cfg(test)]
mod tests {
    use super::super::object::BuildId;
    use super::*;

    fn parcel() -> Parcel {
        let offer = Offer {
            ticket: 1,
            call: vec![1, 2, 3],
            pause_ns: u64::MAX,
            places: vec![0, 7],
            name: "task".into(),
            level: 2,
            occupancy: 0.5,
            once: true,
        };
        let ended = Ended { ticket: 9, reply: vec![VALUE, 4], blocks: vec![Place { arena: 1, offset: 64, len_bytes: 3 }] };
        Parcel { idle: true, waits: false, offers: vec![offer.clone(), offer], stops: vec![5], outcomes: vec![ended] }
    }

    #[test]
    fn requests_and_answers_come_back_and_others_are_none() {
        let place = Place { arena: 1, offset: 64, len_bytes: 3 };
        let library = Named { id: BuildId(vec![1, 2]), file: "/lib/one.so".into() };
        for request in [
            Request::Allocate { len_bytes: u64::MAX },
            Request::Map { arena: 7 },
            Request::Library { number: 9 },
            Request::Value { number: 3 },
            Request::Return { place },
            Request::Processors,
            Request::Exchange(parcel()),
        ] {
            let mut bytes = request.to_bytes();
            assert_eq!(Request::of_bytes(&bytes).as_ref(), Some(&request));
            for len in 0..bytes.len() {
                assert_eq!(Request::of_bytes(&bytes[..len]), None, "{request:?} is cut off");
            }
            bytes.push(0);
            assert_eq!(Request::of_bytes(&bytes), None);
        }
        // The file goes to the end.
        let request = Request::Number { library };
        assert_eq!(Request::of_bytes(&request.to_bytes()), Some(request));
        assert_eq!(Request::of_bytes(&[99; 25]), None);
        assert_eq!(Request::of_bytes(&[1; 25]), None);
        assert_eq!(Parcel::of_bytes(&parcel().to_bytes()), Ok(parcel()));
        assert_eq!(of_answer(&answer([1, 2, 3])), Some([1, 2, 3]));
        assert_eq!(of_answer(&[]), None);
        for len in 0..60 {
            let refusal = refusal(&"é".repeat(len));
            assert_eq!((of_answer(&refusal), reason_of(&refusal)), (None, "é".repeat(len)));
        }
        assert_eq!(of_answer(&[0; 25]), None);
    }

    #[test]
    fn processors_come_back() {
        let identity = |worker| ProcessorIdentity {
            name: "one".into(),
            kind: "cpu".into(),
            backend: "process".into(),
            process: ProcessId(3),
            space: SpaceId::HOST,
            worker,
            device: None,
        };
        let processors = Processors { own: 1, identities: vec![identity(None), identity(Some(WorkerId(4)))] };
        let bytes = processors.to_bytes();
        assert_eq!(Processors::of_bytes(&bytes), Ok(processors.clone()));
        Processors::of_bytes(&bytes[..bytes.len() - 1]).expect_err("it is cut off");
        Processors::of_bytes(&Processors { own: 2, ..processors }.to_bytes()).expect_err("there are two");
    }
}
