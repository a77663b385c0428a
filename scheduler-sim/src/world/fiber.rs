//! A stack of its own for each logical thread.
#![expect(unsafe_code, reason = "the way from a stack back to whoever runs it")]

use std::cell::Cell;
use std::ptr::{self, NonNull};

use corosensei::stack::{DefaultStack, Stack};
use corosensei::{Coroutine, CoroutineResult, Yielder};
use poniard::platform::Locals;

/// Bytes of a stack, of which only what is used takes memory.
const STACK_BYTES: usize = 512 << 10;
/// The runtime finds less left than there is, as a signal handler or a panic may need some.
const SPARE_BYTES: usize = 32 << 10;

/// A logical thread that has not ended.
pub(super) struct Fiber {
    coroutine: Option<Coroutine<(), (), (), DefaultStack>>,
    locals: Locals,
    /// The lowest address of the stack.
    limit: usize,
}

thread_local! {
    /// How the fiber that runs on this thread stops; null while none does.
    static YIELDER: Cell<*const Yielder<(), ()>> = const { Cell::new(ptr::null()) };
}

impl Fiber {
    pub(super) fn new(body: Box<dyn FnOnce()>) -> std::io::Result<Self> {
        let stack = DefaultStack::new(STACK_BYTES)?;
        let limit = stack.limit().get();
        let coroutine = Coroutine::with_stack(stack, move |yielder: &Yielder<(), ()>, ()| {
            YIELDER.set(yielder);
            body();
        });
        Ok(Self { coroutine: Some(coroutine), locals: Locals::new(), limit })
    }

    /// Lets it go on until it stops or has ended; whether it has ended.
    pub(super) fn resume(&mut self) -> bool {
        /// Takes the thread-locals back, however the fiber stops.
        struct Back<'a>(&'a mut Locals, *const Yielder<(), ()>);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                YIELDER.set(self.1);
                // SAFETY: what is put back was taken below, when the stack that runs now gave way to the fiber's.
                unsafe { self.0.swap() };
            }
        }
        let Some(coroutine) = &mut self.coroutine else { unreachable!("it has not ended") };
        // SAFETY: they are new, or were taken when the fiber stopped, and nothing else has run its stack since.
        unsafe { self.locals.swap() };
        let _back = Back(&mut self.locals, YIELDER.replace(ptr::null()));
        matches!(coroutine.resume(()), CoroutineResult::Return(()))
    }

    /// The lowest address of its stack that may be used.
    pub(super) fn limit(&self) -> usize {
        self.limit + SPARE_BYTES
    }

    /// It never goes on: what is on its stack stays there for ever.
    pub(super) fn abandon(mut self) {
        std::mem::forget(self.coroutine.take());
    }
}

/// Stops the fiber that runs, until somebody lets it go on.
pub(super) fn stop() {
    let yielder = YIELDER.get();
    let Some(at) = NonNull::new(yielder.cast_mut()) else { unreachable!("only fibers stop") };
    // SAFETY: the fiber that runs has set it, and it lives on that fiber's stack as long as its body runs.
    unsafe { at.as_ref() }.suspend(());
    // Whoever let this one go on has put in nothing: others ran meanwhile.
    YIELDER.set(yielder);
}

/// The address of something on the stack that runs.
pub(super) fn here() -> usize {
    let marker = 0u8;
    (&raw const marker).addr()
}
