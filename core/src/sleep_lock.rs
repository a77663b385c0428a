//! A lock that is held while something slow happens: a copy from a device, a launch that is repeated.
//!
//! Whoever waits for it sleeps, a logical thread as well: one that blocked in the lock of the system would keep all others of its platform from going on, also the one that has the lock.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use crate::platform;
use crate::sync::Unparker;
use crate::worker::waiter;

/// As the standard library's lock, and never poisoned. All who take it are logical threads of one platform, or none is one.
#[derive(Debug, Default)]
pub(crate) struct SleepLock<T> {
    value: Mutex<T>,
    /// Logical threads that wait.
    sleepers: Mutex<Vec<Unparker>>,
}

/// The value, for as long as the lock is held.
#[derive(Debug)]
pub(crate) struct SleepGuard<'a, T> {
    /// Taken out when it is dropped.
    value: Option<MutexGuard<'a, T>>,
    sleepers: &'a Mutex<Vec<Unparker>>,
}

impl<T> SleepLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Mutex::new(value), sleepers: Mutex::default() }
    }

    /// Waits for the lock.
    pub(crate) fn lock(&self) -> SleepGuard<'_, T> {
        let value = if platform::is_logical() { self.lock_asleep() } else { self.value.lock().unwrap_or_else(PoisonError::into_inner) };
        SleepGuard { value: Some(value), sleepers: &self.sleepers }
    }

    #[cold]
    fn lock_asleep(&self) -> MutexGuard<'_, T> {
        loop {
            match self.value.try_lock() {
                Ok(value) => return value,
                Err(TryLockError::Poisoned(error)) => return error.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
            // Nobody else of the platform runs between the look and the sleep.
            self.sleepers.lock().unwrap_or_else(PoisonError::into_inner).push(waiter::unparker());
            waiter::park();
        }
    }
}

impl<T> Deref for SleepGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.value {
            Some(value) => value,
            None => unreachable!("it is there until it is dropped"),
        }
    }
}

impl<T> DerefMut for SleepGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.value {
            Some(value) => value,
            None => unreachable!("it is there until it is dropped"),
        }
    }
}

impl<T> Drop for SleepGuard<'_, T> {
    fn drop(&mut self) {
        drop(self.value.take());
        if platform::is_logical() {
            let woken = std::mem::take(&mut *self.sleepers.lock().unwrap_or_else(PoisonError::into_inner));
            woken.iter().for_each(Unparker::unpark);
        }
    }
}
