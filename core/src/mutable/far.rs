//! Elements of a part in another process than the value: how they get there and back.
#![expect(unsafe_code, reason = "elements of a value whose other elements belong to other tasks meanwhile")]

use std::mem::MaybeUninit;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use poniard_interface::{Access, RawBuffer};

use super::history::{CopyKind, History};
use super::turn::Line;
use super::{Elements, Historic};
use crate::data::Data;
use crate::error::TaskError;
use crate::function::caller;
use crate::part::{Form, Part, PartError, Spans, put_elements, swap_elements, take_elements};
use crate::region::shadow::{Lying, Shown};
use crate::task::record::dropped_quietly;
use crate::wire::{Reader, WireError, Writer};

/// How elements travel: one after the other, or not at all, as they lie where the other process reaches them.
const COPIED: u8 = 0;
const IN_PLACE: u8 = 1;

/// Alignment of the memory of buffers.
const ALIGNMENT: usize = 64;

/// Writes a part for another process: where its elements lie, if they may be used there, and else the elements.
///
/// # Safety
/// The elements are there, from `first` on, and until the task that this is for has ended nobody changes them, nor with an access to write looks at them, but that one.
pub(super) unsafe fn send<E: Data>(
    owner: &dyn Elements<E>,
    access: Access,
    form: &Form,
    first: NonNull<E>,
    writer: &mut Writer<'_>,
) -> Result<(), WireError> {
    writer.put_u8(access as u8);
    form.put(writer);
    let mut is_lent = false;
    owner.memory(&mut |raw| is_lent = writer.lend(raw, access));
    if is_lent {
        return Ok(());
    }
    // SAFETY: the precondition.
    unsafe { put_elements(first, form, writer) }
}

/// Writes what the body has made of elements that came with the call.
///
/// # Safety
/// The elements are there, from `first` on, and nobody changes them meanwhile.
pub(super) unsafe fn send_back<E: Data>(is_copy: bool, form: &Form, first: NonNull<E>, writer: &mut Writer<'_>) -> Result<(), WireError> {
    if !is_copy {
        writer.put_u8(IN_PLACE);
        return Ok(());
    }
    writer.put_u8(COPIED);
    // SAFETY: the precondition.
    unsafe { put_elements(first, form, writer) }
}

/// Reads it again, and puts it where it belongs.
///
/// # Safety
/// The elements are there, from `first` on, and nobody else looks at them meanwhile.
pub(super) unsafe fn take_back<E: Data>(form: &Form, first: NonNull<E>, reader: &mut Reader<'_>) -> Result<(), WireError> {
    match reader.take_u8()? {
        IN_PLACE => Ok(()),
        COPIED => {
            // They were written from where they lie side by side.
            let mut elements = take_elements(&form.packed(), reader)?;
            // SAFETY: the precondition; there are as many as the part has.
            unsafe { swap_elements(first, form, &mut elements) };
            dropped_quietly(elements);
            Ok(())
        }
        tag => Err(no_way(tag)),
    }
}

fn no_way(tag: u8) -> WireError {
    WireError::new(format!("{tag} says nothing about how elements travel"))
}

/// A part that came here.
pub(super) struct Arrived<E> {
    pub(super) access: Access,
    /// Whether it came with its elements.
    pub(super) is_copy: bool,
    pub(super) part: Part<E>,
    pub(super) first: NonNull<E>,
}

/// Reads what `send` wrote.
pub(super) fn receive<E: Data>(reader: &mut Reader<'_>) -> Result<Arrived<E>, WireError> {
    let access = match reader.take_u8()? {
        access if access == Access::Read as u8 => Access::Read,
        access if access == Access::Write as u8 => Access::Write,
        access if access == Access::Overwrite as u8 => Access::Overwrite,
        other => return Err(WireError::new(format!("{other} is no access"))),
    };
    let form = Form::take(reader)?;
    match reader.take_lent(access)? {
        Some((memory, len_bytes)) => {
            if align_of::<E>() > ALIGNMENT || !form.is_within((len_bytes / size_of::<E>().max(1) as u64) as i64) {
                return Err(WireError::new(format!("{form:?} is no part of {len_bytes} bytes")));
            }
            // Within the memory, as was just looked at.
            let first = memory.cast::<E>().as_ptr().wrapping_offset(form.start as isize);
            let first = NonNull::new(first).ok_or_else(|| WireError::new("an element cannot lie at address 0"))?;
            Ok(Arrived { access, is_copy: false, part: Part::alone(Arc::new(Own::empty()), form), first })
        }
        None => {
            let elements = take_elements(&form, reader)?;
            let form = form.packed();
            let own = Own::new(elements, form);
            let first = own.room.cast();
            Ok(Arrived { access, is_copy: true, part: Part::alone(Arc::new(own), form), first })
        }
    }
}

/// Stands for the value.
struct Own<E> {
    history: Mutex<History>,
    line: Mutex<Line>,
    form: Form,
    /// As long as the rectangle; of its elements those are there that the part has.
    room: NonNull<[MaybeUninit<E>]>,
}

// SAFETY: it owns its elements, which are `Send` and `Sync` (`Data`).
unsafe impl<E: Data> Send for Own<E> {}
// SAFETY: as for `Send`.
unsafe impl<E: Data> Sync for Own<E> {}

impl<E: Data> Own<E> {
    /// Elements in the order of a form that has them side by side.
    fn new(elements: Vec<E>, form: Form) -> Self {
        let mut room = Box::new_uninit_slice(form.lens().iter().product());
        let mut elements = elements.into_iter();
        form.runs(&mut |at, len| {
            for (place, element) in room[at as usize..][..len].iter_mut().zip(&mut elements) {
                place.write(element);
            }
        });
        Self { history: Mutex::default(), line: Mutex::default(), form, room: NonNull::from(Box::leak(room)) }
    }

    /// For a part whose elements lie elsewhere.
    fn empty() -> Self {
        Self::new(Vec::new(), Form::list(0))
    }
}

impl<E> Drop for Own<E> {
    fn drop(&mut self) {
        // SAFETY: `new` has leaked it, and the part that looked at it is gone.
        let mut room = unsafe { Box::from_raw(self.room.as_ptr()) };
        if std::mem::needs_drop::<E>() {
            self.form.runs(&mut |at, len| {
                for place in &mut room[at as usize..][..len] {
                    // SAFETY: an element of the part, which `new` has put there.
                    unsafe { place.assume_init_drop() };
                }
            });
        }
    }
}

impl<E: Data> Historic for Own<E> {
    fn history(&self) -> &Mutex<History> {
        &self.history
    }

    fn line(&self) -> &Mutex<Line> {
        &self.line
    }

    fn settle_but(&self, _: Option<CopyKind>) {}

    fn location(&self) -> &'static Location<'static> {
        caller()
    }

    fn lying(&self) -> Option<Lying> {
        None
    }

    fn show(&self) -> Option<Shown> {
        // Checked regions run where the value is.
        None
    }

    fn consumed(&self) -> Option<TaskError> {
        None
    }

    fn make_ready(&self, _: Access) -> Result<(), String> {
        Ok(())
    }
}

impl<E: Data> Elements<E> for Own<E> {
    fn form(&self) -> Result<Form, PartError> {
        Ok(self.form)
    }

    fn bring(&self, _: Access, _: &Form, _: &Spans) -> Result<NonNull<E>, String> {
        Ok(self.room.cast())
    }

    fn begin_to_write(&self) {}

    fn end_to_write(&self, _: bool) {}

    fn memory(&self, look: &mut dyn FnMut(Option<&RawBuffer>)) {
        look(None);
    }
}
