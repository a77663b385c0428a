//! A value whose type only its maker knows.
#![expect(unsafe_code, reason = "a value behind a pointer and a table of its maker's functions")]

use std::fmt;

use crate::type_key::TypeKey;

/// What can be done with an erased value without knowing its type. Every function belongs to the image that made the value
/// and does not unwind.
#[repr(C)]
pub struct ErasedVTable {
    /// The type's identity.
    pub key: TypeKey,
    /// The type's name, for messages only.
    pub name: &'static str,
    /// Drops the value and frees its memory.
    pub drop: unsafe extern "C" fn(*mut ()),
    /// A copy of the value, where the type can be copied; null when copying it panicked.
    pub clone: Option<unsafe extern "C" fn(*const ()) -> *mut ()>,
}

impl fmt::Debug for ErasedVTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErasedVTable").field("name", &self.name).field("key", &self.key).finish()
    }
}

/// An owned value of a type that only its maker knows: a pointer and a table of functions.
///
/// Moving one costs two words. Whoever holds it may drop it, copy it where its type allows, and ask whether it is of a given type;
/// only code compiled with the type looks inside.
pub struct Erased {
    data: *mut (),
    vtable: &'static ErasedVTable,
}

// SAFETY: `from_raw` requires the value behind `data` to be `Send`.
unsafe impl Send for Erased {}
// SAFETY: `from_raw` requires the value behind `data` to be `Sync`.
unsafe impl Sync for Erased {}

impl Erased {
    /// Takes ownership of the value at `data`.
    ///
    /// # Safety
    /// * `data` points to a live value of the type that `vtable.key` names, and nothing else frees it;
    /// * the value is `Send + Sync + 'static`;
    /// * the functions of `vtable` work on such a pointer and do not unwind.
    pub unsafe fn from_raw(data: *mut (), vtable: &'static ErasedVTable) -> Self {
        Self { data, vtable }
    }

    /// The identity of the value's type.
    pub fn key(&self) -> TypeKey {
        self.vtable.key
    }

    /// The name of the value's type, for messages.
    pub fn type_name(&self) -> &'static str {
        self.vtable.name
    }

    /// The value's address.
    pub fn as_ptr(&self) -> *const () {
        self.data
    }

    /// Gives the value's memory to the caller, who frees it through the table of its maker.
    pub fn into_raw(self) -> (*mut (), &'static ErasedVTable) {
        let this = std::mem::ManuallyDrop::new(self);
        (this.data, this.vtable)
    }

    /// A copy, where the type can be copied and copying it did not panic.
    pub fn try_clone(&self) -> Option<Self> {
        let clone = self.vtable.clone?;
        // SAFETY: `data` is a live value of the table's type (`from_raw`), borrowed for the call.
        let data = unsafe { clone(self.data) };
        (!data.is_null()).then_some(Self { data, vtable: self.vtable })
    }
}

impl Drop for Erased {
    fn drop(&mut self) {
        // SAFETY: `data` is owned by `self` (`from_raw`) and not used afterwards.
        unsafe { (self.vtable.drop)(self.data) }
    }
}

impl fmt::Debug for Erased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Erased({})", self.vtable.name)
    }
}
