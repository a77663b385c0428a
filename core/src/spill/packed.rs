//! Blocks as they lie on the disk when they are compressed: LZ4 of one piece of 1 MiB after the other, each behind its length.
//!
//! Where they end and what they sum up to is kept in memory, so what the disk gives back is known to be what it got.

use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};

use crate::machine;

/// What is compressed at once: more gains nothing, and has to be kept twice.
const PIECE_BYTES: usize = 1 << 20;
/// The bytes of a piece's length.
const HEAD_BYTES: usize = size_of::<u32>();

/// What is to be known of a block that is compressed on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    used_bytes: usize,
    sum: u64,
}

/// Whole pages at the beginning of a page, as direct access to the disk wants them.
pub(super) struct Pages {
    memory: Vec<u8>,
    begin: usize,
    len_bytes: usize,
}

impl Pages {
    pub(super) fn new(len_bytes: usize) -> Self {
        let page = machine::page_bytes() as usize;
        let memory = vec![0; len_bytes + page];
        let begin = memory.as_ptr().align_offset(page);
        Self { memory, begin, len_bytes }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[self.begin..][..self.len_bytes]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.begin..][..self.len_bytes]
    }
}

/// Compresses a block of whole pages, if that spares an eighth of it. The length is one of eight for each length of block, so ranges of the disk fit again.
pub(super) fn pack(block: &[u8]) -> Option<(Pages, Packed)> {
    let page = machine::page_bytes() as usize;
    let step = (block.len() / 8).next_multiple_of(page);
    let mut pages = Pages::new(block.len().checked_sub(step)?);
    let mut piece = vec![0; get_maximum_output_size(PIECE_BYTES.min(block.len()))];
    let mut used_bytes = 0;
    for from in block.chunks(PIECE_BYTES) {
        let len = compress_into(from, &mut piece).ok()?;
        let room = pages.bytes_mut().get_mut(used_bytes..used_bytes + HEAD_BYTES + len)?;
        let (head, to) = room.split_at_mut(HEAD_BYTES);
        head.copy_from_slice(&(len as u32).to_le_bytes());
        to.copy_from_slice(&piece[..len]);
        used_bytes += HEAD_BYTES + len;
    }
    pages.len_bytes = used_bytes.next_multiple_of(step).min(pages.len_bytes);
    let sum = sum(&pages.bytes()[..used_bytes]);
    Some((pages, Packed { used_bytes, sum }))
}

impl Packed {
    /// Makes the block again of what the disk has.
    ///
    /// # Errors
    /// It is not what was written.
    pub(super) fn unpack(self, from: &[u8], block: &mut [u8]) -> Result<(), String> {
        let used = from.get(..self.used_bytes).filter(|used| sum(used) == self.sum);
        let whole = used.and_then(|mut used| {
            for to in block.chunks_mut(PIECE_BYTES) {
                let (head, rest) = used.split_first_chunk()?;
                let (piece, rest) = rest.split_at_checked(u32::from_le_bytes(*head) as usize)?;
                (decompress_into(piece, to).ok()? == to.len()).then_some(())?;
                used = rest;
            }
            Some(())
        });
        whole.ok_or_else(|| format!("the {} bytes that were read back are not those that were written", from.len()))
    }
}

/// Changes with each bit, and takes a fraction of the time that compressing takes.
fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks(size_of::<u64>()).fold(bytes.len() as u64, |sum, chunk| {
        let mut word = [0; size_of::<u64>()];
        word[..chunk.len()].copy_from_slice(chunk);
        (sum ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// So many bytes, in runs of so many that are the same; 1 is noise.
    fn block(len_bytes: usize, run: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let mut bytes = Vec::with_capacity(len_bytes + run);
        while bytes.len() < len_bytes {
            bytes.extend(std::iter::repeat_n(next(), run));
        }
        bytes.truncate(len_bytes);
        bytes
    }

    #[test]
    fn what_does_not_shrink_by_an_eighth_is_left_alone() {
        let page = machine::page_bytes() as usize;
        assert!(pack(&block(5 << 18, 1, 1)).is_none());
        // Seven eighths of it are noise: there is no room for their heads.
        let mut mostly = block(1 << 20, 1, 1);
        mostly[7 << 17..].fill(0);
        assert!(pack(&mostly).is_none());
        mostly[3 << 18..].fill(0);
        assert!(pack(&mostly).is_some_and(|(pages, _)| pages.bytes().len() == 7 << 17));
        assert!(pack(&vec![0; 5 << 18]).is_some_and(|(pages, _)| pages.bytes().len() == 5 << 15));
        assert!(pack(&vec![0; page]).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_was_packed_comes_back_and_what_was_damaged_does_not(pages in 16..400usize, run in 2..5000usize, seed: u64, at: prop::sample::Index, bit in 0..8u32) {
            let block = block(pages * machine::page_bytes() as usize, run, seed);
            let Some((mut packed, known)) = pack(&block) else { return Ok(()) };
            prop_assert!(packed.bytes().len() <= block.len() / 8 * 7);
            prop_assert_eq!(packed.bytes().as_ptr().align_offset(machine::page_bytes() as usize), 0);
            let mut back = vec![0xa5; block.len()];
            known.unpack(packed.bytes(), &mut back).expect("it is what was written");
            prop_assert!(back == block);
            prop_assert!(known.unpack(&packed.bytes()[..known.used_bytes - 1], &mut back).is_err(), "short");
            let at = at.index(known.used_bytes);
            packed.bytes_mut()[at] ^= 1u8 << bit;
            prop_assert!(known.unpack(packed.bytes(), &mut back).is_err(), "damaged");
            // Whatever it sums up to, nothing is written that is not the block's.
            let sum = sum(&packed.bytes()[..known.used_bytes]);
            let _ = Packed { sum, ..known }.unpack(packed.bytes(), &mut back);
        }
    }
}
