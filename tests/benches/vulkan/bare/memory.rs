//! A buffer with memory of its own.
#![expect(unsafe_code, reason = "calls Vulkan, and reads and writes memory that is mapped or imported")]

use std::ptr::NonNull;

use ash::vk;

use super::Bare;

/// What memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// What the device works with.
    Device,
    /// What the host writes, for the device to copy.
    Up,
    /// What the device has copied, for the host to read.
    Down,
}

/// A buffer with memory of its own. The device has ended what uses it when it is looked at, changed or dropped.
pub(crate) struct Memory<'a> {
    bare: &'a Bare,
    pub(super) buffer: vk::Buffer,
    memory: vk::DeviceMemory,
    len_bytes: usize,
    /// Where the host sees it.
    mapped: Option<NonNull<u8>>,
    /// What is imported, and some bytes around it. Nobody touches it but through `mapped`.
    _imported: Vec<u8>,
}

/// How all are used.
const USAGE: vk::BufferUsageFlags = vk::BufferUsageFlags::from_raw(
    vk::BufferUsageFlags::STORAGE_BUFFER.as_raw()
        | vk::BufferUsageFlags::TRANSFER_SRC.as_raw()
        | vk::BufferUsageFlags::TRANSFER_DST.as_raw(),
);
const POINTER: vk::ExternalMemoryHandleTypeFlags = vk::ExternalMemoryHandleTypeFlags::HOST_ALLOCATION_EXT;

impl Bare {
    /// Memory of at least four bytes. What is in it is not known.
    pub(crate) fn memory(&self, home: Home, len_bytes: usize) -> Memory<'_> {
        let len_bytes = len_bytes.max(4);
        let info = vk::BufferCreateInfo::default().size(len_bytes as u64).usage(USAGE);
        // SAFETY: the structure is complete.
        let buffer = unsafe { self.device.create_buffer(&info, None) }.expect("a buffer");
        // SAFETY: the buffer is the device's.
        let needs = unsafe { self.device.get_buffer_memory_requirements(buffer) };
        let info = vk::MemoryAllocateInfo::default().allocation_size(needs.size).memory_type_index(self.best(home, needs.memory_type_bits));
        // SAFETY: the structure is complete.
        let memory = unsafe { self.device.allocate_memory(&info, None) }.expect("memory");
        // SAFETY: the memory is new and as large as the buffer needs.
        unsafe { self.device.bind_buffer_memory(buffer, memory, 0) }.expect("bound memory");
        let flags = self.memory.memory_types[info.memory_type_index as usize].property_flags;
        let is_mapped = flags.contains(vk::MemoryPropertyFlags::HOST_VISIBLE | vk::MemoryPropertyFlags::HOST_COHERENT);
        let mapped = is_mapped.then(|| {
            // SAFETY: the host can see it, and it is not mapped yet.
            let address = unsafe { self.device.map_memory(memory, 0, vk::WHOLE_SIZE, vk::MemoryMapFlags::empty()) };
            NonNull::new(address.expect("mapped memory").cast()).expect("an address")
        });
        Memory { bare: self, buffer, memory, len_bytes, mapped, _imported: Vec::new() }
    }

    /// The type of memory to use among `allowed`.
    fn best(&self, home: Home, allowed: u32) -> u32 {
        use vk::MemoryPropertyFlags as Flags;
        let visible = Flags::HOST_VISIBLE | Flags::HOST_COHERENT;
        let wishes = match home {
            Home::Device => [Flags::DEVICE_LOCAL, Flags::empty()],
            Home::Up => [visible, visible],
            Home::Down => [visible | Flags::HOST_CACHED, visible],
        };
        let types = self.memory.memory_types_as_slice();
        let find = |wish| (0..).zip(types).find(|(index, kind)| allowed >> index & 1 == 1 && kind.property_flags.contains(wish));
        wishes.into_iter().find_map(find).expect("memory of that kind").0
    }

    /// Memory of the host as the device's; none if the device cannot have it.
    pub(crate) fn import(&self, len_bytes: usize) -> Option<Memory<'_>> {
        let (functions, alignment) = self.import.as_ref()?;
        let alignment = *alignment as usize;
        let size = len_bytes.next_multiple_of(alignment);
        let mut bytes = vec![0u8; size + alignment];
        let start = bytes.as_ptr().align_offset(alignment);
        let address = NonNull::from(&mut bytes[start]);
        let mut properties = vk::MemoryHostPointerPropertiesEXT::default();
        let get = functions.fp().get_memory_host_pointer_properties_ext;
        // SAFETY: the address is aligned as the device asks for, and begins `size` bytes that are there.
        let code = unsafe { get(self.device.handle(), POINTER, address.as_ptr().cast(), &raw mut properties) };
        code.result().ok()?;
        let mut external = vk::ExternalMemoryBufferCreateInfo::default().handle_types(POINTER);
        let info = vk::BufferCreateInfo::default().size(size as u64).usage(USAGE).push_next(&mut external);
        // SAFETY: the structures are complete.
        let buffer = unsafe { self.device.create_buffer(&info, None) }.expect("a buffer");
        // SAFETY: the buffer is the device's.
        let needs = unsafe { self.device.get_buffer_memory_requirements(buffer) };
        let kind = (needs.memory_type_bits & properties.memory_type_bits).trailing_zeros();
        let mut pointer = vk::ImportMemoryHostPointerInfoEXT::default().handle_type(POINTER).host_pointer(address.as_ptr().cast());
        let info = vk::MemoryAllocateInfo::default().allocation_size(size as u64).memory_type_index(kind).push_next(&mut pointer);
        // SAFETY: the bytes are there until the memory is freed; the type is one that the device has for them.
        let memory = unsafe { self.device.allocate_memory(&info, None) }.expect("imported memory");
        // SAFETY: the memory is new and as large as the buffer.
        unsafe { self.device.bind_buffer_memory(buffer, memory, 0) }.expect("bound memory");
        Some(Memory { bare: self, buffer, memory, len_bytes, mapped: Some(address), _imported: bytes })
    }
}

impl Memory<'_> {
    /// Whether the host can see it.
    pub(crate) fn is_mapped(&self) -> bool {
        self.mapped.is_some()
    }

    /// Its length.
    pub(crate) fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// What the host sees.
    pub(crate) fn bytes(&self) -> &[u8] {
        let address = self.mapped.expect("memory that the host sees");
        // SAFETY: so many bytes are mapped there, and the device has ended what writes to them.
        unsafe { std::slice::from_raw_parts(address.as_ptr(), self.len_bytes) }
    }

    /// What the host sees, to be changed.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let address = self.mapped.expect("memory that the host sees");
        // SAFETY: so many bytes are mapped there, the device has ended what uses them, and this is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(address.as_ptr(), self.len_bytes) }
    }

    /// Copies from the host, through memory that the device copies from.
    pub(crate) fn upload(&self, bytes: &[u8]) {
        let mut up = self.bare.memory(Home::Up, bytes.len());
        up.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        self.bare.run(|recording| recording.copy(&up, self, bytes.len()));
    }

    /// Copies to the host: `len_bytes` from `start` on.
    pub(crate) fn download(&self, start: usize, len_bytes: usize) -> Vec<u8> {
        let down = self.bare.memory(Home::Down, len_bytes);
        self.bare.run(|recording| {
            recording.barrier();
            recording.copy_part(self, start, &down, 0, len_bytes);
            recording.host_barrier();
        });
        down.bytes()[..len_bytes].to_vec()
    }

    /// The word at this index.
    pub(crate) fn word(&self, index: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.download(index * 4, 4));
        u32::from_ne_bytes(bytes)
    }
}

impl Drop for Memory<'_> {
    fn drop(&mut self) {
        // SAFETY: the device has ended what uses it.
        unsafe { self.bare.device.destroy_buffer(self.buffer, None) };
        // SAFETY: its buffer is gone. What is mapped ends to be.
        unsafe { self.bare.device.free_memory(self.memory, None) };
    }
}
