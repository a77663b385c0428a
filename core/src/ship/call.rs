//! What the bytes of calls, replies and requests mean.

use crate::error::BoxError;
use crate::wire::{Place, Reader, WireError, Writer};

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

/// First bytes of replies: what became of the call.
pub(crate) const VALUE: u8 = 0;
pub(crate) const RETURNED: u8 = 1;
pub(crate) const PANICKED: u8 = 2;
pub(crate) const REFUSED: u8 = 3;
/// It panicked outside of the function: where arguments are read, or a value is written.
pub(crate) const BROKEN: u8 = 4;
/// Followed by nothing but a text.
pub(crate) const NO_CODE: u8 = 5;

/// A request of a process in the middle of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
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
}

impl Request {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let (tag, numbers) = match self {
            Self::Allocate { len_bytes } => (0, [len_bytes, 0, 0]),
            Self::Map { arena } => (1, [arena, 0, 0]),
            Self::Library { number } => (2, [number, 0, 0]),
            Self::Value { number } => (3, [number, 0, 0]),
            Self::Return { place: Place { arena, offset, len_bytes } } => (4, [arena, offset, len_bytes]),
        };
        [vec![tag], answer(numbers)].concat()
    }

    /// The request that the bytes are, if they are one.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (tag, numbers) = bytes.split_first()?;
        match (tag, of_answer(numbers)?) {
            (0, [len_bytes, 0, 0]) => Some(Self::Allocate { len_bytes }),
            (1, [arena, 0, 0]) => Some(Self::Map { arena }),
            (2, [number, 0, 0]) => Some(Self::Library { number }),
            (3, [number, 0, 0]) => Some(Self::Value { number }),
            (4, [arena, offset, len_bytes]) => Some(Self::Return { place: Place { arena, offset, len_bytes } }),
            _ => None,
        }
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
    use super::*;

    #[test]
    fn requests_and_answers_come_back_and_others_are_none() {
        let place = Place { arena: 1, offset: 64, len_bytes: 3 };
        for request in [
            Request::Allocate { len_bytes: u64::MAX },
            Request::Map { arena: 7 },
            Request::Library { number: 9 },
            Request::Value { number: 3 },
            Request::Return { place },
        ] {
            assert_eq!(Request::of_bytes(&request.to_bytes()), Some(request));
        }
        assert_eq!(Request::of_bytes(&[99; 25]), None);
        assert_eq!(Request::of_bytes(&[1; 25]), None);
        assert_eq!(Request::of_bytes(&[0; 24]), None);
        assert_eq!(Request::of_bytes(&[]), None);
        assert_eq!(of_answer(&answer([1, 2, 3])), Some([1, 2, 3]));
        assert_eq!(of_answer(&[]), None);
        for len in 0..60 {
            let refusal = refusal(&"é".repeat(len));
            assert_eq!((of_answer(&refusal), reason_of(&refusal)), (None, "é".repeat(len)));
        }
        assert_eq!(of_answer(&[0; 25]), None);
    }
}
