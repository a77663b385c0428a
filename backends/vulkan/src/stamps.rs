//! When the launches and copies of a batch ended, by the device's own clock.
//!
//! A stamp is written when all before it has ended, also in batches before: so what lies between two is the time that the second one's launch has added, and none that it waited for.
//!
//! That costs something: on the software driver, which has its threads meet for each, 20 us, as much as a short launch. So the [first ones](FIRST) of a kernel are measured, and then a batch now and then.
//! Of the copies for launches the first ones of each size are, and then one [now and then](UPLOAD_PERIOD).
#![expect(unsafe_code, reason = "calls the Vulkan driver")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ash::vk;

use crate::device::Device;

/// As many as a batch of 64 launches needs, with something before each of them that is none.
const LAUNCH_STAMPS: u32 = 128;
/// And as many for [copies](COPIES_MAX).
const CAPACITY: u32 = LAUNCH_STAMPS + 2 * COPIES_MAX;
/// So many copies of a batch are measured at most.
const COPIES_MAX: u32 = 32;

/// How many launches of a kernel are measured at once, of each size: a few more than it takes to rely on them.
pub(crate) const FIRST: usize = 16;
/// After that each batch whose number is a multiple of this, which costs less than a hundredth. A prime, so that no kernel is left out that comes in each second batch, or third.
pub(crate) const PERIOD: u64 = 127;
/// Of the launches that bytes are copied for one of so many is measured, once those of its size are known.
const UPLOAD_PERIOD: u64 = 31;

/// How many launches of a kernel were measured, by size: the sum of the bits that the numbers of workgroups have.
#[derive(Debug)]
pub(crate) struct Samples([AtomicUsize; 97]);

impl Default for Samples {
    fn default() -> Self {
        Self([const { AtomicUsize::new(0) }; 97])
    }
}

impl Samples {
    /// Whether a launch of so many workgroups is one of the first; then it is counted.
    fn take(&self, groups: [u32; 3]) -> bool {
        let count = &self.0[groups.iter().map(|count| (u32::BITS - count.leading_zeros()) as usize).sum::<usize>()];
        count.load(Ordering::Relaxed) < FIRST && count.fetch_add(1, Ordering::Relaxed) < FIRST
    }
}

/// How many launches were given copies, by the bits that the number of their bytes has.
#[derive(Debug)]
pub(crate) struct UploadSamples([u64; 65]);

impl Default for UploadSamples {
    fn default() -> Self {
        Self([0; 65])
    }
}

impl UploadSamples {
    /// Whether the copies of one more launch are measured, of so many bytes.
    pub(crate) fn take(&mut self, bytes: u64) -> bool {
        let count = &mut self.0[(u64::BITS - bytes.leading_zeros()) as usize];
        *count += 1;
        *count <= FIRST as u64 || count.is_multiple_of(UPLOAD_PERIOD)
    }
}

/// How long the copies for a launch take that is measured: in ever so many batches, and what the host does for them.
#[derive(Debug, Default)]
pub(crate) struct UploadTime(Mutex<UploadParts>);

#[derive(Debug, Default)]
struct UploadParts {
    ns: u64,
    /// Copies whose times are not known yet.
    pending: usize,
    /// Whether the time of one cannot be known.
    is_unknown: bool,
}

impl UploadTime {
    fn parts(&self) -> MutexGuard<'_, UploadParts> {
        // Changes of numbers.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host was at it for so long.
    pub(crate) fn add(&self, ns: u64) {
        self.parts().ns += ns;
    }

    /// One more copy was recorded. Whether it is measured.
    pub(crate) fn begin(&self, is_measured: bool) {
        let mut parts = self.parts();
        parts.pending += usize::from(is_measured);
        parts.is_unknown |= !is_measured;
    }

    /// A copy that is measured has ended, and took so long, if the driver says so.
    pub(crate) fn end(&self, ns: Option<u64>) {
        let mut parts = self.parts();
        parts.pending -= 1;
        parts.is_unknown |= ns.is_none();
        parts.ns += ns.unwrap_or(0);
    }

    /// All together, if that is known and anything was copied.
    pub(crate) fn ns(&self) -> Option<u64> {
        let parts = self.parts();
        (parts.pending == 0 && !parts.is_unknown && parts.ns > 0).then_some(parts.ns)
    }
}

/// How stamps of a queue are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// The bits that count.
    mask: u64,
    tick_ns: f64,
}

impl Clock {
    /// Of a queue whose stamps have so many bits; none, if it has no stamps.
    pub(crate) fn new(valid_bits: u32, tick_ns: f32) -> Option<Self> {
        (valid_bits > 0 && tick_ns > 0.0).then(|| Self { mask: u64::MAX >> 64u32.saturating_sub(valid_bits), tick_ns: tick_ns.into() })
    }

    /// The time from one stamp to the next one; at least one nanosecond, as a clock's step may be longer than a launch.
    fn ns_between(self, begin: u64, end: u64) -> u64 {
        // It may have begun anew in between.
        let ticks = end.wrapping_sub(begin) & self.mask;
        ((ticks as f64 * self.tick_ns) as u64).max(1)
    }
}

/// The stamps of a command buffer.
pub(crate) struct Stamps {
    device: Arc<Device>,
    clock: Clock,
    pool: vk::QueryPool,
    /// How many are written.
    count: u32,
    /// How many copies are measured.
    copy_count: u32,
    /// Whether nothing was done since the last one.
    is_fresh: bool,
    /// Whether all launches are measured.
    is_sample: bool,
}

impl Stamps {
    /// Of a queue with this clock, before the first [`reset`](Self::reset).
    ///
    /// # Errors
    /// What the driver says.
    pub(crate) fn new(device: &Arc<Device>, clock: Clock) -> Result<Self, vk::Result> {
        let info = vk::QueryPoolCreateInfo::default().query_type(vk::QueryType::TIMESTAMP).query_count(CAPACITY);
        // SAFETY: the structure is complete.
        let pool = unsafe { device.raw.create_query_pool(&info, None) }?;
        Ok(Self { device: Arc::clone(device), clock, pool, count: CAPACITY, copy_count: 0, is_fresh: false, is_sample: false })
    }

    /// Forgets all; from here on they are those of the batch with this number. The commands that write them have ended.
    pub(crate) fn reset(&mut self, batch: u64) {
        if self.count > 0 {
            // SAFETY: no command that uses them is in flight, and the device was made with the feature for this.
            unsafe { self.device.raw.reset_query_pool(self.pool, 0, self.count) };
        }
        (self.count, self.copy_count, self.is_fresh, self.is_sample) = (0, 0, false, batch.is_multiple_of(PERIOD));
    }

    /// Something was recorded that is not measured.
    pub(crate) fn outdate(&mut self) {
        self.is_fresh = false;
    }

    /// Commands of a launch of so many workgroups are going to be recorded. Whether it is measured.
    pub(crate) fn before_launch(&mut self, commands: vk::CommandBuffer, samples: &Samples, groups: [u32; 3]) -> bool {
        if !samples.take(groups) && !self.is_sample {
            self.outdate();
            return false;
        }
        if !self.is_fresh {
            self.write(commands);
        }
        true
    }

    /// A copy is going to be recorded. Whether it is measured: if it `is_wanted`, and there is room.
    pub(crate) fn before_copy(&mut self, commands: vk::CommandBuffer, is_wanted: bool) -> bool {
        if !is_wanted || self.copy_count == COPIES_MAX {
            self.outdate();
            return false;
        }
        self.copy_count += 1;
        if !self.is_fresh {
            self.write(commands);
        }
        true
    }

    /// What is measured has been recorded. Its number among the [times](Self::times_ns).
    pub(crate) fn end_measured(&mut self, commands: vk::CommandBuffer) -> usize {
        self.write(commands);
        self.count as usize - 2
    }

    fn write(&mut self, commands: vk::CommandBuffer) {
        assert!(self.count < CAPACITY, "a batch has no more launches and copies than there are stamps for");
        // SAFETY: the buffer is being recorded, for a queue that has stamps, and this one has been reset.
        unsafe { self.device.raw.cmd_write_timestamp(commands, vk::PipelineStageFlags::BOTTOM_OF_PIPE, self.pool, self.count) };
        (self.count, self.is_fresh) = (self.count + 1, true);
    }

    /// The time between each stamp and the next one; nothing if the driver does not know. The commands have ended.
    pub(crate) fn times_ns(&self) -> Vec<u64> {
        if self.count == 0 {
            return Vec::new();
        }
        let mut stamps = [0u64; CAPACITY as usize];
        let stamps = &mut stamps[..self.count as usize];
        // SAFETY: so many have been written, as words of 64 bits.
        let read = unsafe { self.device.raw.get_query_pool_results(self.pool, 0, stamps, vk::QueryResultFlags::TYPE_64) };
        if read.is_err() {
            return Vec::new();
        }
        stamps.windows(2).map(|pair| self.clock.ns_between(pair[0], pair[1])).collect()
    }
}

impl Drop for Stamps {
    fn drop(&mut self) {
        if self.device.lost().is_none() {
            // SAFETY: the batch has ended.
            unsafe { self.device.raw.destroy_query_pool(self.pool, None) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_has_so_many_bits_and_begins_anew() {
        assert!(Clock::new(0, 1.0).is_none());
        let short = Clock::new(36, 2.5).unwrap();
        assert_eq!(short.ns_between(100, 140), 100);
        assert_eq!(short.ns_between((1 << 36) - 10, 30), 100, "it began anew");
        assert_eq!(short.ns_between((7 << 36) + 100, (3 << 36) + 140), 100, "bits above mean nothing");
        assert_eq!(short.ns_between(100, 100), 1);
        let long = Clock::new(64, 1.0).unwrap();
        assert_eq!(long.ns_between(u64::MAX - 9, 90), 100);
        assert_eq!(long.ns_between(0, 1 << 60), 1 << 60);
    }

    #[test]
    fn the_time_of_copies_is_known_when_all_have_ended() {
        let time = UploadTime::default();
        assert_eq!(time.ns(), None, "nothing was copied");
        time.add(5);
        assert_eq!(time.ns(), Some(5), "by the host");
        time.begin(true);
        time.begin(true);
        time.end(Some(10));
        assert_eq!(time.ns(), None);
        time.end(Some(20));
        assert_eq!(time.ns(), Some(35));
        time.begin(false);
        assert_eq!(time.ns(), None, "there was no stamp for one");
        let mut samples = UploadSamples::default();
        let taken = |samples: &mut UploadSamples, bytes| (0..100).filter(|_| samples.take(bytes)).count();
        assert_eq!([5000, 8000, 9000].map(|bytes| taken(&mut samples, bytes)), [16 + 3, 3, 16 + 3]);
        assert!(samples.take(0) && samples.take(u64::MAX));
    }

    #[test]
    fn the_first_launches_of_each_size_are_samples() {
        let samples = Samples::default();
        for groups in [[0; 3], [1, 1, 1], [2, 1, 1], [4, 1, 1], [u32::MAX; 3]] {
            assert!((0..FIRST).all(|_| samples.take(groups)), "{groups:?}");
            assert!(!samples.take(groups), "{groups:?}");
        }
        assert!(!samples.take([3, 1, 1]), "not worth a size of its own");
    }
}
