//! Memory that both sides reach, for copies between the host and a device whose memory the host does not see.

use std::sync::{Arc, Mutex, PoisonError};

use gpu_allocator::MemoryLocation;

use crate::device::Device;
use crate::memory::Memory;

/// Larger copies go through several blocks: while the device copies one, the host fills the next.
pub(crate) const STAGING_BYTES: u64 = 8 << 20;
/// So many blocks are kept, or in the hands of batches.
const STAGING_COUNT: usize = 8;

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To the device.
    Up,
    /// To the host.
    Down,
}

/// A block of memory that is mapped for good.
#[derive(Debug)]
pub(crate) struct Staging {
    pub(crate) memory: Memory,
    /// Where the host sees it.
    pub(crate) address: u64,
}

impl Staging {
    /// # Errors
    /// Why there is no room.
    pub(crate) fn new(device: &Arc<Device>, direction: Direction) -> Result<Self, String> {
        let location = match direction {
            Direction::Up => MemoryLocation::CpuToGpu,
            Direction::Down => MemoryLocation::GpuToCpu,
        };
        let memory = Memory::new(device, STAGING_BYTES, location)?;
        let address = memory.address().ok_or("the driver has no coherent memory that both sides reach")?;
        Ok(Self { memory, address })
    }
}

/// The blocks of the batches: each batch fills some, and they come back when it has ended.
#[derive(Debug, Default)]
pub(crate) struct BatchStaging {
    free: Vec<Staging>,
    made: usize,
}

impl BatchStaging {
    /// A block; `None` while all are in use.
    ///
    /// # Errors
    /// Why there is no room, while no batch has any either.
    pub(crate) fn take(&mut self, device: &Arc<Device>) -> Result<Option<Staging>, String> {
        if let Some(block) = self.free.pop() {
            return Ok(Some(block));
        }
        if self.made == STAGING_COUNT {
            return Ok(None);
        }
        match Staging::new(device, Direction::Up) {
            Ok(block) => {
                self.made += 1;
                Ok(Some(block))
            }
            // Those that are in use come back.
            Err(_) if self.made > 0 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes blocks back.
    pub(crate) fn give_back(&mut self, blocks: impl IntoIterator<Item = Staging>) {
        self.free.extend(blocks);
    }
}

/// The blocks of threads that read and write chunks themselves.
#[derive(Debug, Default)]
pub(crate) struct ThreadStaging {
    up: Mutex<Vec<Staging>>,
    down: Mutex<Vec<Staging>>,
}

impl ThreadStaging {
    fn list(&self, direction: Direction) -> &Mutex<Vec<Staging>> {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    /// A block.
    ///
    /// # Errors
    /// Why there is no room.
    pub(crate) fn take(&self, device: &Arc<Device>, direction: Direction) -> Result<Staging, String> {
        let kept = self.list(direction).lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.map_or_else(|| Staging::new(device, direction), Ok)
    }

    /// Takes a block back.
    pub(crate) fn give_back(&self, block: Staging, direction: Direction) {
        let mut list = self.list(direction).lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() < STAGING_COUNT {
            list.push(block);
        }
    }
}
