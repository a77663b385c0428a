//! Typed access to values whose types are known at run time only.
#![expect(unsafe_code, reason = "makes and opens the pointer of an erased value")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use poniard_interface::{Erased, ErasedVTable};

use crate::data::Data;

/// Makes an [`Erased`] of a value and looks into it again. Implemented for [`Erased`] only.
pub trait ErasedExt: Sized {
    /// Erases the type of `value`. The copy of such a value is refused ([`Erased::try_clone`] gives `None`).
    fn of<T: Data>(value: T) -> Self;

    /// The value, if it is a `T`.
    fn get<T: Data>(&self) -> Option<&T>;

    /// The value itself, if it is a `T`.
    ///
    /// # Errors
    /// The erased value, unchanged, when it is something else.
    fn into_value<T: Data>(self) -> Result<T, Self>;
}

struct Table<T>(std::marker::PhantomData<T>);

impl<T: Data> Table<T> {
    const TABLE: ErasedVTable = ErasedVTable { key: T::KEY, name: T::NAME, drop: drop_boxed::<T>, clone: None };
}

unsafe extern "C" fn drop_boxed<T>(data: *mut ()) {
    // SAFETY: the table is only paired with pointers from `Box::into_raw` in `ErasedExt::of`, and `Erased` calls this once.
    let value = unsafe { Box::from_raw(data.cast::<T>()) };
    // Nothing may unwind out of here. The panic hook has said what there is to say.
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        std::mem::forget(payload);
    }
}

impl ErasedExt for Erased {
    fn of<T: Data>(value: T) -> Self {
        let data = Box::into_raw(Box::new(value)).cast();
        // SAFETY: `data` is a live, owned `T`; `Data` requires `Send + Sync + 'static`; the table's function is made for `T` and does not unwind.
        unsafe { Self::from_raw(data, const { &Table::<T>::TABLE }) }
    }

    fn get<T: Data>(&self) -> Option<&T> {
        // SAFETY: equal keys mean equal types (`Data`), and the value lives as long as `self`.
        (self.key() == T::KEY).then(|| unsafe { &*self.as_ptr().cast::<T>() })
    }

    fn into_value<T: Data>(self) -> Result<T, Self> {
        if self.key() != T::KEY {
            return Err(self);
        }
        let (data, _) = self.into_raw();
        // SAFETY: equal keys mean equal types, so `data` came from `Box::<T>::into_raw`; the erased value gave it up.
        Ok(*unsafe { Box::from_raw(data.cast::<T>()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_as_its_own_type_only() {
        let erased = Erased::of(vec![1u64, 2]);
        assert_eq!(erased.get::<Vec<u64>>(), Some(&vec![1, 2]));
        assert!(erased.get::<Vec<i64>>().is_none());
        assert!(erased.get::<u64>().is_none());
        let erased = erased.into_value::<Vec<f64>>().expect_err("not a Vec<f64>");
        assert_eq!(erased.into_value::<Vec<u64>>().expect("a Vec<u64>"), [1, 2]);
    }
}
