//! Memory that a device reaches: buffers of its own, and arenas of the host.
#![expect(unsafe_code, reason = "calls the Vulkan driver, and copies to and from memory that it maps")]

use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use ash::vk;
use gpu_allocator::MemoryLocation;
use gpu_allocator::vulkan::{Allocation, AllocationCreateDesc, AllocationScheme};
use poniard_interface::HostBlock;

use crate::device::Device;
use crate::order::{Lane, Marks};

/// Buffers are a little longer than what lies in them, so that they can be filled by words and none is empty.
const GRAIN_BYTES: u64 = 16;

/// What a buffer is used for: anything that a batch does.
fn usage(device: &Device) -> vk::BufferUsageFlags {
    let all = vk::BufferUsageFlags::STORAGE_BUFFER | vk::BufferUsageFlags::TRANSFER_SRC | vk::BufferUsageFlags::TRANSFER_DST;
    if device.has_addresses { all | vk::BufferUsageFlags::SHADER_DEVICE_ADDRESS } else { all }
}

/// A number that no other memory of this process has.
pub(crate) fn fresh_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A part of a buffer as commands see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) buffer: vk::Buffer,
    pub(crate) offset: u64,
    /// What the tracker knows the buffer by.
    pub(crate) memory: u64,
    /// Whether the host may read it without another command.
    pub(crate) is_host_visible: bool,
}

impl Place {
    /// Where kernels find it that take addresses.
    pub(crate) fn device_address(&self, device: &Device) -> u64 {
        let info = vk::BufferDeviceAddressInfo::default().buffer(self.buffer);
        // SAFETY: the caller holds the buffer, which was made for it: devices whose buffers have no addresses are not asked.
        self.offset + unsafe { device.raw.get_buffer_device_address(&info) }
    }

    /// The same, `bytes` further on.
    pub(crate) fn after(self, bytes: u64) -> Self {
        Self { offset: self.offset + bytes, ..self }
    }
}

/// A buffer with memory of its own.
pub(crate) struct Memory {
    device: Arc<Device>,
    buffer: vk::Buffer,
    /// `None` only while it is dropped.
    allocation: Option<Allocation>,
    id: u64,
    /// Where the host sees it, if it does and need not flush.
    address: Option<u64>,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("id", &self.id).field("address", &self.address).finish_non_exhaustive()
    }
}

impl Memory {
    /// At least `len_bytes` at `location`.
    ///
    /// # Errors
    /// Why there is no room.
    pub(crate) fn new(device: &Arc<Device>, len_bytes: u64, location: MemoryLocation) -> Result<Self, String> {
        if let Some(reason) = device.lost() {
            return Err(format!("the device is lost: {reason}"));
        }
        let most = device.physical.limits.allocation_bytes;
        let size = len_bytes.checked_next_multiple_of(GRAIN_BYTES).map(|size| size.max(GRAIN_BYTES)).filter(|size| *size <= most);
        let Some(size) = size else {
            return Err(format!("the device has no pieces of more than {most} bytes"));
        };
        let buffer = device.buffer(vk::BufferCreateInfo::default().size(size).usage(usage(device)))?;
        // SAFETY: the buffer is the device's.
        let requirements = unsafe { device.raw.get_buffer_memory_requirements(buffer) };
        let wanted = AllocationCreateDesc {
            name: "chunk",
            requirements,
            location,
            linear: true,
            allocation_scheme: AllocationScheme::GpuAllocatorManaged,
        };
        let allocation = device.allocator().allocate(&wanted);
        let allocation = match allocation {
            Ok(allocation) => allocation,
            Err(error) => {
                // SAFETY: nothing uses the buffer yet.
                unsafe { device.raw.destroy_buffer(buffer, None) };
                return Err(format!("the device has no room: {error}"));
            }
        };
        // SAFETY: the memory is freed only after a buffer that is bound to it.
        let memory = unsafe { allocation.memory() };
        // SAFETY: the memory was allocated for what this buffer requires, and nothing is bound there.
        let bound = unsafe { device.raw.bind_buffer_memory(buffer, memory, allocation.offset()) };
        let is_coherent = allocation.memory_properties().contains(vk::MemoryPropertyFlags::HOST_COHERENT);
        let is_hidden = location == MemoryLocation::GpuOnly && device.without.mapping;
        let address = allocation.mapped_ptr().filter(|_| is_coherent && !is_hidden).map(|start| start.as_ptr().expose_provenance() as u64);
        // From here on dropping it cleans up.
        let memory = Self { device: Arc::clone(device), buffer, allocation: Some(allocation), id: fresh_id(), address };
        bound.map_err(|error| format!("the driver binds no memory: {error}"))?;
        Ok(memory)
    }

    /// All of it.
    pub(crate) fn place(&self) -> Place {
        Place { buffer: self.buffer, offset: 0, memory: self.id, is_host_visible: self.address.is_some() }
    }

    /// Where the host sees it.
    pub(crate) fn address(&self) -> Option<u64> {
        self.address
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.device.lost().is_some() {
            std::mem::forget(self.allocation.take());
            return;
        }
        // SAFETY: whoever records commands with the buffer holds it until they have ended.
        unsafe { self.device.raw.destroy_buffer(self.buffer, None) };
        if let Some(allocation) = self.allocation.take() {
            // A failure is a mistake in the allocator's books: the memory then stays until the device goes.
            let _ = self.device.allocator().free(allocation);
        }
    }
}

/// An arena of the host as a buffer. It stays as long as the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Import {
    buffer: vk::Buffer,
    memory: vk::DeviceMemory,
    id: u64,
}

impl Import {
    /// The arena of `block`, imported when it is first asked for, and where in it the block lies.
    ///
    /// # Errors
    /// Why the driver does not take it.
    ///
    /// # Safety
    /// The arena stays mapped for good.
    pub(crate) unsafe fn place(device: &Device, block: HostBlock) -> Result<Place, String> {
        let end = block.address.checked_add(block.len_bytes);
        let arena_end = block.arena_address.checked_add(block.arena_bytes);
        let Some(offset) = block.address.checked_sub(block.arena_address).filter(|_| end.is_some() && end <= arena_end) else {
            return Err("the block lies outside its arena".to_owned());
        };
        let mut imports = device.imports.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: as the caller promises.
        let new = || unsafe { Self::new(device, block.arena_address, block.arena_bytes) };
        let import = imports.entry(block.arena_address).or_insert_with(new).clone()?;
        Ok(Place { buffer: import.buffer, offset, memory: import.id, is_host_visible: true })
    }

    /// # Safety
    /// The arena stays mapped for good.
    unsafe fn new(device: &Device, address: u64, len_bytes: u64) -> Result<Self, String> {
        if let Some(reason) = device.lost() {
            return Err(format!("the device is lost: {reason}"));
        }
        let limits = device.physical.limits;
        let (Some(functions), Some(alignment)) = (&device.host_memory, limits.import_alignment) else {
            return Err("the driver imports no memory of the host".to_owned());
        };
        // Some drivers take any address and then reach the wrong bytes.
        if !address.is_multiple_of(alignment) || !len_bytes.is_multiple_of(alignment) || len_bytes == 0 {
            return Err(format!("the driver imports multiples of {alignment} bytes"));
        }
        if len_bytes > limits.allocation_bytes {
            return Err(format!("the driver imports at most {} bytes at once", limits.allocation_bytes));
        }
        let kind = vk::ExternalMemoryHandleTypeFlags::HOST_ALLOCATION_EXT;
        let pointer: *mut c_void = std::ptr::with_exposed_provenance_mut(address as usize);
        let mut known = vk::MemoryHostPointerPropertiesEXT::default();
        let ask = functions.fp().get_memory_host_pointer_properties_ext;
        // SAFETY: the extension is enabled, and the pointer is that of memory which is mapped.
        let asked = unsafe { ask(device.raw.handle(), kind, pointer, &raw mut known) };
        asked.result().map_err(|error| format!("the driver does not import this memory: {error}"))?;

        let mut outside = vk::ExternalMemoryBufferCreateInfo::default().handle_types(kind);
        let buffer = device.buffer(vk::BufferCreateInfo::default().size(len_bytes).usage(usage(device)).push_next(&mut outside))?;
        // SAFETY: the buffer is the device's.
        let requirements = unsafe { device.raw.get_buffer_memory_requirements(buffer) };
        let memory = Self::memory(device, pointer, len_bytes, known.memory_type_bits & requirements.memory_type_bits);
        let bound = memory.and_then(|memory| {
            // SAFETY: the memory is as long as the buffer, and nothing is bound to it.
            match unsafe { device.raw.bind_buffer_memory(buffer, memory, 0) } {
                Ok(()) => Ok(memory),
                Err(error) => {
                    // SAFETY: nothing uses it.
                    unsafe { device.raw.free_memory(memory, None) };
                    Err(format!("the driver does not bind imported memory: {error}"))
                }
            }
        });
        match bound {
            Ok(memory) => Ok(Self { buffer, memory, id: fresh_id() }),
            Err(error) => {
                // SAFETY: nothing uses it.
                unsafe { device.raw.destroy_buffer(buffer, None) };
                Err(error)
            }
        }
    }

    fn memory(device: &Device, pointer: *mut c_void, len_bytes: u64, types: u32) -> Result<vk::DeviceMemory, String> {
        let wanted = vk::MemoryPropertyFlags::HOST_COHERENT;
        let index =
            device.physical.memory_types.iter().enumerate().position(|(index, flags)| types >> index & 1 == 1 && flags.contains(wanted));
        let Some(index) = index else {
            return Err("the driver has no coherent memory of the host".to_owned());
        };
        let mut import = vk::ImportMemoryHostPointerInfoEXT::default()
            .handle_type(vk::ExternalMemoryHandleTypeFlags::HOST_ALLOCATION_EXT)
            .host_pointer(pointer);
        let mut addressed = vk::MemoryAllocateFlagsInfo::default().flags(vk::MemoryAllocateFlags::DEVICE_ADDRESS);
        let mut info = vk::MemoryAllocateInfo::default().allocation_size(len_bytes).memory_type_index(index as u32).push_next(&mut import);
        if device.has_addresses {
            info = info.push_next(&mut addressed);
        }
        // SAFETY: the pointer and the length are multiples of what the driver asks for, and the memory stays mapped.
        unsafe { device.raw.allocate_memory(&info, None) }.map_err(|error| format!("the driver does not import this memory: {error}"))
    }

    /// Gives it back.
    pub(crate) fn destroy(self, device: &ash::Device) {
        // SAFETY: called when the device is idle and goes.
        unsafe { device.destroy_buffer(self.buffer, None) };
        // SAFETY: the same, and the buffer that was bound to it is gone.
        unsafe { device.free_memory(self.memory, None) };
    }
}

/// What a chunk is, held by the chunk and by every batch that uses it.
#[derive(Debug)]
pub(crate) struct Piece {
    /// [`poniard_interface::Chunk::id`].
    pub(crate) id: u64,
    pub(crate) len_bytes: u64,
    pub(crate) place: Place,
    /// Where the host sees it.
    address: Option<u64>,
    /// The last batch of each lane that was recorded and uses it.
    last_use: [AtomicU64; 2],
    memory: Option<Memory>,
}

impl Piece {
    /// A chunk in memory of its own.
    pub(crate) fn owned(memory: Memory, len_bytes: u64) -> Self {
        Self {
            id: fresh_id(),
            len_bytes,
            place: memory.place(),
            address: memory.address(),
            last_use: Default::default(),
            memory: Some(memory),
        }
    }

    /// A chunk that is a block of an arena.
    pub(crate) fn imported(place: Place, block: HostBlock) -> Self {
        Self { id: fresh_id(), len_bytes: block.len_bytes, place, address: Some(block.address), last_use: Default::default(), memory: None }
    }

    /// The last batches that were recorded and use it.
    pub(crate) fn last_use(&self) -> Marks {
        [0, 1].map(|lane| self.last_use[lane].load(Ordering::Relaxed))
    }

    /// A batch uses it.
    pub(crate) fn used(&self, lane: Lane, number: u64) {
        self.last_use[lane as usize].store(number, Ordering::Relaxed);
    }

    /// Where the host sees it, if it does.
    pub(crate) fn address(&self) -> Option<u64> {
        self.address
    }

    /// The same, if the memory is this chunk's alone.
    pub(crate) fn own_address(&self) -> Option<u64> {
        self.address.filter(|_| self.memory.is_some())
    }
}

/// Copies to memory of the host that is known by its address.
///
/// # Safety
/// `address` is that of `from.len()` bytes that may be written and that nobody else uses.
pub(crate) unsafe fn write_host(address: u64, from: &[u8]) {
    let to: *mut u8 = std::ptr::with_exposed_provenance_mut(address as usize);
    // SAFETY: as the caller promises; `from` is borrowed, so it is somewhere else.
    unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
}

/// Copies from memory of the host that is known by its address.
///
/// # Safety
/// `address` is that of `into.len()` bytes that may be read and that nobody writes.
pub(crate) unsafe fn read_host(address: u64, into: &mut [u8]) {
    let from: *const u8 = std::ptr::with_exposed_provenance(address as usize);
    // SAFETY: as the caller promises; `into` is borrowed, so it is somewhere else.
    unsafe { std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
}

/// Copies between two places of the host's memory.
///
/// # Safety
/// Both are addresses of `len_bytes` bytes that do not overlap; the first may be read, the second written, and nobody else writes to either.
pub(crate) unsafe fn copy_host(from: u64, to: u64, len_bytes: u64) {
    let from: *const u8 = std::ptr::with_exposed_provenance(from as usize);
    let to: *mut u8 = std::ptr::with_exposed_provenance_mut(to as usize);
    // SAFETY: as the caller promises.
    unsafe { std::ptr::copy_nonoverlapping(from, to, len_bytes as usize) };
}

/// Fills memory of the host that is known by its address with zeros.
///
/// # Safety
/// `address` is that of `len_bytes` bytes that may be written and that nobody else uses.
pub(crate) unsafe fn zero_host(address: u64, len_bytes: u64) {
    let to: *mut u8 = std::ptr::with_exposed_provenance_mut(address as usize);
    // SAFETY: as the caller promises.
    unsafe { std::ptr::write_bytes(to, 0, len_bytes as usize) };
}
