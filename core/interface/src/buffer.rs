//! Large data: an owned, arena-backed `[T]`.
#![expect(unsafe_code, reason = "typed access to raw memory that an arena owns")]

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use crate::F16;
use crate::chunk::{Chunk, ChunkInfo, TransferError, check_range};
use crate::ids::SpaceId;

/// The scalar types that every backend understands.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ElementKind {
    /// A plain structure: a backend moves it and does not compute with it.
    Opaque = 0,
    /// `u8`.
    U8 = 1,
    /// `u16`.
    U16 = 2,
    /// `u32`.
    U32 = 3,
    /// `u64`.
    U64 = 4,
    /// `i8`.
    I8 = 5,
    /// `i16`.
    I16 = 6,
    /// `i32`.
    I32 = 7,
    /// `i64`.
    I64 = 8,
    /// `f32`.
    F32 = 9,
    /// `f64`.
    F64 = 10,
    /// [`F16`].
    F16 = 11,
}

/// A type that may be the element of a [`Buffer`].
///
/// # Safety
/// * every bit pattern of `size_of::<Self>()` bytes is a valid value, all zeros included;
/// * the type has no padding, no pointers and no interior mutability, and its alignment is at most 64.
pub unsafe trait Element: Copy + Send + Sync + 'static {
    /// What a backend may take it for.
    const KIND: ElementKind;
    /// The name that its type key and messages use.
    const NAME: &'static str;
}

macro_rules! elements {
    ($($type:ident $kind:ident),*) => { $(
        // SAFETY: a primitive number has no padding and no invalid bit pattern.
        unsafe impl Element for $type {
            const KIND: ElementKind = ElementKind::$kind;
            const NAME: &'static str = stringify!($type);
        }
    )* };
}
elements!(u8 U8, u16 U16, u32 U32, u64 U64, i8 I8, i16 I16, i32 I32, i64 I64, f32 F32, f64 F64, F16 F16);

/// Memory that an arena lent: `len_bytes` bytes at `data`, given back by `release`.
///
/// `(arena, offset)` names the place for every process that maps the same arena, so bulk data crosses processes as three numbers.
#[repr(C)]
pub struct RawBuffer {
    data: *mut u8,
    len_bytes: u64,
    arena: u64,
    offset: u64,
    functions: &'static ArenaFunctions,
    /// Whether there may be replicas in other spaces, which a change here makes stale.
    has_replicas: AtomicBool,
}

/// What an arena does with memory that it lent. The functions belong to the image that made the arena, work on any thread and do not unwind.
#[repr(C)]
pub struct ArenaFunctions {
    /// Takes the memory back. Called once.
    pub release: unsafe extern "C" fn(data: *mut u8, len_bytes: u64, arena: u64, offset: u64),
    /// Lends `len_bytes` bytes more, written to `place`; false when there is no room. They are zero, or with `zeroed` false initialised and of any value.
    pub allocate: unsafe extern "C" fn(len_bytes: u64, zeroed: bool, place: *mut RawBuffer) -> bool,
    /// The memory is about to be changed by whoever holds the buffer: replicas of it in other spaces are stale from now on. Called when there may be some. False when
    /// what was on a disk cannot be read back: the memory must not be changed then.
    pub changes: unsafe extern "C" fn(len_bytes: u64, arena: u64, offset: u64) -> bool,
}

impl fmt::Debug for ArenaFunctions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ArenaFunctions")
    }
}

// SAFETY: a `RawBuffer` owns its memory alone; an arena's functions work on any thread.
unsafe impl Send for RawBuffer {}
// SAFETY: shared access reads plain bytes.
unsafe impl Sync for RawBuffer {}

impl RawBuffer {
    /// Takes ownership of memory that an arena lent.
    ///
    /// # Safety
    /// * `data` is aligned to 64 bytes and valid for reads and writes of `len_bytes` initialised bytes until `functions.release` is called;
    /// * nothing else reads or writes those bytes before then;
    /// * `functions.release` may be called once with these values, and `functions.allocate` any number of times.
    pub unsafe fn from_raw_parts(data: *mut u8, len_bytes: u64, arena: u64, offset: u64, functions: &'static ArenaFunctions) -> Self {
        Self { data, len_bytes, arena, offset, functions, has_replicas: AtomicBool::new(false) }
    }

    /// Notes that there are replicas in other spaces. For the arena that it is from.
    pub fn note_replicas(&self) {
        // Relaxed: whoever changes the memory has the buffer to himself, and with it all that was noted before.
        self.has_replicas.store(true, Relaxed);
    }

    /// Before the memory is changed.
    #[inline]
    fn change(&mut self) {
        if *self.has_replicas.get_mut() {
            self.forget_replicas();
        }
    }

    #[cold]
    fn forget_replicas(&mut self) {
        // SAFETY: the place is that of memory which this arena lent (`from_raw_parts`).
        let may_change = unsafe { (self.functions.changes)(self.len_bytes, self.arena, self.offset) };
        assert!(may_change, "{} bytes of a buffer that were on a disk cannot be read back", self.len_bytes);
        *self.has_replicas.get_mut() = false;
    }

    /// Length in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// The arena, as its allocator numbers them.
    pub fn arena(&self) -> u64 {
        self.arena
    }

    /// Whether these are the functions of the arena that it came from.
    pub fn is_from(&self, functions: &'static ArenaFunctions) -> bool {
        std::ptr::eq(self.functions, functions)
    }

    /// Distance from the arena's start, in bytes.
    pub fn offset_bytes(&self) -> u64 {
        self.offset
    }

    /// `len_bytes` zeroed bytes of the same allocator.
    ///
    /// # Errors
    /// [`crate::AllocateError`] when there is no room.
    pub fn allocate_alike(&self, len_bytes: u64) -> Result<Self, crate::AllocateError> {
        self.allocate(len_bytes, true)
    }

    /// A copy of the bytes, of the same allocator. Each byte is written once.
    ///
    /// # Errors
    /// As [`allocate_alike`](Self::allocate_alike).
    pub fn copy(&self) -> Result<Self, crate::AllocateError> {
        let mut copy = self.allocate(self.len_bytes, false)?;
        copy.as_bytes_mut().copy_from_slice(self.as_bytes());
        Ok(copy)
    }

    fn allocate(&self, len_bytes: u64, zeroed: bool) -> Result<Self, crate::AllocateError> {
        let mut place = std::mem::MaybeUninit::uninit();
        // SAFETY: `allocate` writes a `RawBuffer` to a place that is one's size, or returns false.
        if unsafe { (self.functions.allocate)(len_bytes, zeroed, place.as_mut_ptr()) } {
            // SAFETY: `allocate` returned true, so it wrote the value.
            Ok(unsafe { place.assume_init() })
        } else {
            Err(crate::AllocateError::new(len_bytes, "the arena has no room, or as much as it may have is in use"))
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: `from_raw_parts` requires `len_bytes` readable, initialised bytes at `data` that only this value reaches.
        unsafe { std::slice::from_raw_parts(self.data, self.len_bytes as usize) }
    }

    /// Where it lies, for whoever uses some of the bytes while others use others. Who writes there has told the arena before what he changes.
    pub fn as_ptr(&self) -> *mut u8 {
        self.data
    }

    /// The bytes, to be written.
    ///
    /// # Panics
    /// When they were on a disk, as memory was short, and cannot be read back.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        self.change();
        // SAFETY: as in `as_bytes`; `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.data, self.len_bytes as usize) }
    }
}

impl Drop for RawBuffer {
    fn drop(&mut self) {
        // SAFETY: `from_raw_parts` requires that `release` may be called once with these values; `self` is gone afterwards.
        unsafe { (self.functions.release)(self.data, self.len_bytes, self.arena, self.offset) }
    }
}

impl fmt::Debug for RawBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawBuffer")
            .field("len_bytes", &self.len_bytes)
            .field("arena", &self.arena)
            .field("offset_bytes", &self.offset)
            .finish_non_exhaustive()
    }
}

/// Lends zeroed memory. The runtime's arenas are shared-memory files that are recycled by size class.
pub trait Arena {
    /// `len_bytes` zeroed bytes, aligned to 64.
    ///
    /// # Errors
    /// [`crate::AllocateError`] when there is no room.
    fn allocate(&self, len_bytes: u64) -> Result<RawBuffer, crate::AllocateError>;
}

/// An owned `[T]` in an arena: what users put large data in, and the storage of a chunk in host memory.
///
/// Derefs to `[T]`, so slices, iterators and `ndarray` views over it cost nothing.
pub struct Buffer<T> {
    raw: RawBuffer,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Element> Buffer<T> {
    /// `len` zeros, from `arena`.
    ///
    /// # Errors
    /// [`crate::AllocateError`] when the size overflows, or the arena has no room or lends memory of another size.
    pub fn zeroed_in(arena: &dyn Arena, len: usize) -> Result<Self, crate::AllocateError> {
        const { assert!(align_of::<T>() <= 64, "elements are aligned to at most 64 bytes") };
        let len_bytes = (len as u64)
            .checked_mul(size_of::<T>() as u64)
            .filter(|bytes| *bytes <= isize::MAX as u64)
            .ok_or_else(|| crate::AllocateError::overflow(len as u64, size_of::<T>() as u64))?;
        let raw = arena.allocate(len_bytes)?;
        // `Arena` is a safe trait: what an implementor gets wrong must not become access out of bounds.
        if raw.len_bytes != len_bytes {
            return Err(crate::AllocateError::new(len_bytes, format!("the arena lent {} bytes", raw.len_bytes)));
        }
        Ok(Self { raw, len, element: PhantomData })
    }

    /// The elements that lie in `raw`.
    ///
    /// # Errors
    /// The memory, unchanged, when it is no whole number of elements.
    pub fn from_raw(raw: RawBuffer) -> Result<Self, RawBuffer> {
        const { assert!(align_of::<T>() <= 64, "elements are aligned to at most 64 bytes") };
        match raw.len_bytes.checked_div(size_of::<T>() as u64) {
            Some(len) if len * size_of::<T>() as u64 == raw.len_bytes => Ok(Self { raw, len: len as usize, element: PhantomData }),
            _ => Err(raw),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first element, for whoever uses elements one by one while others use others. What devices have of the buffer is stale from now on.
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.raw.change();
        self.raw.data.cast()
    }

    /// The memory, without its type.
    pub fn as_raw(&self) -> &RawBuffer {
        &self.raw
    }

    /// The same, and the buffer is gone.
    pub fn into_raw(self) -> RawBuffer {
        self.raw
    }
}

impl<T: Element> Clone for Buffer<T> {
    /// Copies the elements.
    ///
    /// # Panics
    /// When there is no memory for them.
    fn clone(&self) -> Self {
        match self.raw.copy() {
            Ok(raw) => Self { raw, len: self.len, element: PhantomData },
            Err(error) => panic!("{error}"),
        }
    }
}

impl<T: Element> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the memory holds `len * size_of::<T>()` initialised bytes aligned to 64 (`zeroed_in`), and every bit pattern is a `T`.
        unsafe { std::slice::from_raw_parts(self.raw.data.cast::<T>(), self.len) }
    }
}

impl<T: Element> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.raw.change();
        // SAFETY: as in `deref`; `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.raw.data.cast::<T>(), self.len) }
    }
}

impl<T: Element + fmt::Debug> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Element + PartialEq> PartialEq for Buffer<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<'a, T: Element> IntoIterator for &'a Buffer<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Element> Chunk for Buffer<T> {
    fn info(&self) -> ChunkInfo {
        ChunkInfo { space: SpaceId::HOST, element: T::KIND, len_bytes: self.raw.len_bytes }
    }

    fn host_bytes(&self) -> Option<&[u8]> {
        Some(self.raw.as_bytes())
    }

    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> Result<(), TransferError> {
        let range = check_range(self.info(), offset_bytes, into.len())?;
        into.copy_from_slice(&self.raw.as_bytes()[range]);
        Ok(())
    }

    fn write(&mut self, offset_bytes: u64, from: &[u8]) -> Result<(), TransferError> {
        let range = check_range(self.info(), offset_bytes, from.len())?;
        self.raw.as_bytes_mut()[range].copy_from_slice(from);
        Ok(())
    }
}
