//! A device's memory as the runtime sees it: a space, and chunks in it.
#![expect(unsafe_code, reason = "imports memory of the host, and copies to and from memory that the driver maps")]

use std::collections::VecDeque;
use std::sync::Arc;

use poniard_interface::chunk::check_range;
use poniard_interface::{
    AllocateError, Chunk, ChunkInfo, DeviceClass, ElementKind, HostBlock, MemorySpace, SpaceId, SpaceInfo, TransferError,
};

use crate::memory::{Import, Memory, Piece, read_host, write_host, zero_host};
use crate::order::Lane;
use crate::queue::{Queue, Ticket, Work};
use crate::staging::{Direction, STAGING_BYTES, Staging};

/// How many pieces of a copy are under way at once: the host works on one while the device works on another.
const PIECES_AT_ONCE: usize = 2;

/// The memory that a device works in.
#[derive(Debug)]
pub(crate) struct VulkanSpace {
    id: SpaceId,
    queue: Arc<Queue>,
}

impl VulkanSpace {
    /// The space of `queue`'s device.
    pub(crate) fn new(id: SpaceId, queue: Arc<Queue>) -> Self {
        Self { id, queue }
    }

    fn chunk(&self, piece: Arc<Piece>) -> Box<dyn Chunk> {
        self.queue.add_chunk(Arc::clone(&piece));
        Box::new(VulkanChunk { space: self.id, queue: Arc::clone(&self.queue), piece })
    }
}

impl MemorySpace for VulkanSpace {
    fn info(&self) -> SpaceInfo {
        let physical = &self.queue.physical;
        let shares = matches!(physical.class, DeviceClass::Integrated | DeviceClass::Software);
        let most = physical.heap_bytes / 10 * 9;
        SpaceInfo {
            id: self.id,
            name: physical.name.clone(),
            capacity_bytes: Some(self.queue.settings.memory_bytes.map_or(most, |bytes| bytes.min(physical.heap_bytes))),
            imports: physical.limits.import_alignment.is_some() && self.queue.settings.import.unwrap_or(shares),
        }
    }

    fn allocate(&self, len_bytes: u64, zeroed: bool) -> Result<Box<dyn Chunk>, AllocateError> {
        let refuse = |reason: &str| AllocateError::new(len_bytes, reason);
        let made = self.queue.made().map_err(refuse)?;
        let memory = Memory::new(&made.device, len_bytes, gpu_allocator::MemoryLocation::GpuOnly).map_err(|reason| refuse(&reason))?;
        let piece = Arc::new(Piece::owned(memory, len_bytes));
        if zeroed && len_bytes > 0 {
            match piece.address() {
                // SAFETY: the memory is this chunk's alone, and nothing uses it yet.
                Some(address) => unsafe { zero_host(address, len_bytes) },
                None => self.queue.zero_later(Arc::clone(&piece)),
            }
        }
        Ok(self.chunk(piece))
    }

    unsafe fn import(&self, block: HostBlock) -> Result<Box<dyn Chunk>, AllocateError> {
        let refuse = |reason: &str| AllocateError::new(block.len_bytes, reason);
        let made = self.queue.made().map_err(refuse)?;
        // SAFETY: the caller promises that the arena stays mapped for good.
        let place = unsafe { Import::place(&made.device, block) }.map_err(|reason| refuse(&reason))?;
        let alignment = self.queue.physical.limits.binding_alignment;
        if !place.offset.is_multiple_of(alignment) {
            return Err(refuse(&format!(
                "the device binds multiples of {alignment} bytes, and the block begins {} bytes into its arena",
                place.offset
            )));
        }
        Ok(self.chunk(Arc::new(Piece::imported(place, block))))
    }
}

/// A chunk in a device's space.
#[derive(Debug)]
pub(crate) struct VulkanChunk {
    space: SpaceId,
    queue: Arc<Queue>,
    piece: Arc<Piece>,
}

impl VulkanChunk {
    /// Waits until nothing uses the chunk, and gives the address of its byte `offset`, if the host sees it.
    fn settled(&self, offset: usize) -> Result<Option<u64>, String> {
        let Some(address) = self.piece.address() else { return Ok(None) };
        self.queue.wait(&self.queue.ask(Work::Touch(Arc::clone(&self.piece))))?;
        Ok(Some(address + offset as u64))
    }

    /// Copies `len` bytes from byte `start` on through staging, piece by piece. `each` works on the host's side of a piece, which begins at the given byte of the copy:
    /// before the device copies it up, or after it has copied it down.
    fn staged(
        &self,
        direction: Direction,
        start: u64,
        len: usize,
        mut each: impl FnMut(&Staging, std::ops::Range<usize>),
    ) -> Result<(), String> {
        let made = self.queue.made().map_err(ToOwned::to_owned)?;
        let mut under_way: VecDeque<(Staging, Arc<Ticket>, std::ops::Range<usize>)> = VecDeque::new();
        let mut begun = 0;
        while begun < len || !under_way.is_empty() {
            if begun == len || under_way.len() == PIECES_AT_ONCE {
                let Some((staging, ticket, range)) = under_way.pop_front() else { break };
                // On an error the block is dropped while the device may use it: then the device is lost, and nothing is freed.
                self.queue.wait(&ticket)?;
                if direction == Direction::Down {
                    each(&staging, range);
                }
                made.staging.give_back(staging, direction);
                continue;
            }
            let range = begun..len.min(begun + STAGING_BYTES as usize);
            let staging = made.staging.take(&made.device, direction)?;
            let (near, far) = (staging.memory.place(), self.piece.place.after(start + begun as u64));
            let (from, to) = match direction {
                Direction::Up => (near, far),
                Direction::Down => (far, near),
            };
            if direction == Direction::Up {
                each(&staging, range.clone());
            }
            begun = range.end;
            let work = Work::Copy { lane: Lane::Transfer, from, to, len_bytes: range.len() as u64, pieces: vec![Arc::clone(&self.piece)] };
            under_way.push_back((staging, self.queue.ask(work), range));
        }
        Ok(())
    }
}

impl Chunk for VulkanChunk {
    fn info(&self) -> ChunkInfo {
        ChunkInfo { space: self.space, element: ElementKind::Opaque, len_bytes: self.piece.len_bytes }
    }

    fn id(&self) -> u64 {
        self.piece.id
    }

    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> Result<(), TransferError> {
        let range = check_range(self.info(), offset_bytes, into.len())?;
        let refuse = |reason: String| TransferError::new(self.info(), offset_bytes, range.len() as u64, reason);
        if range.is_empty() {
            return Ok(());
        }
        if let Some(address) = self.settled(range.start).map_err(refuse)? {
            // SAFETY: the range lies in the chunk, the host sees it, and what was submitted before has ended.
            unsafe { read_host(address, into) };
        } else {
            let len = into.len();
            self.staged(Direction::Down, offset_bytes, len, |staging, part| {
                // SAFETY: the part is no longer than the block, and the device has written it and is done.
                unsafe { read_host(staging.address, &mut into[part]) };
            })
            .map_err(refuse)?;
        }
        self.queue.counters.bytes_down.fetch_add(range.len() as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    fn write(&mut self, offset_bytes: u64, from: &[u8]) -> Result<(), TransferError> {
        let range = check_range(self.info(), offset_bytes, from.len())?;
        let refuse = |reason: String| TransferError::new(self.info(), offset_bytes, range.len() as u64, reason);
        if range.is_empty() {
            return Ok(());
        }
        if let Some(address) = self.settled(range.start).map_err(refuse)? {
            // SAFETY: the range lies in the chunk, the host sees it, and what was submitted before has ended.
            unsafe { write_host(address, from) };
        } else {
            self.staged(Direction::Up, offset_bytes, from.len(), |staging, part| {
                // SAFETY: the part is no longer than the block, which nobody else uses.
                unsafe { write_host(staging.address, &from[part]) };
            })
            .map_err(refuse)?;
        }
        self.queue.counters.bytes_up.fetch_add(range.len() as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for VulkanChunk {
    fn drop(&mut self) {
        self.queue.remove_chunk(self.piece.id);
    }
}
