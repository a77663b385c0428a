//! When the launches of a batch ended, by the device's own clock.
//!
//! A stamp is written when all before it has ended, also in batches before: so what lies between two is the time that the second one's launch has added, and none that it waited for.
#![expect(unsafe_code, reason = "calls the Vulkan driver")]

use std::sync::Arc;

use ash::vk;

use crate::device::Device;

/// As many as a batch of 64 launches needs, with something before each of them that is none.
const CAPACITY: u32 = 128;

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
    /// Whether nothing was done since the last one.
    is_fresh: bool,
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
        Ok(Self { device: Arc::clone(device), clock, pool, count: CAPACITY, is_fresh: false })
    }

    /// Forgets all. The commands that write them have ended.
    pub(crate) fn reset(&mut self) {
        // SAFETY: no command that uses them is in flight, and the device was made with the feature for this.
        unsafe { self.device.raw.reset_query_pool(self.pool, 0, self.count) };
        (self.count, self.is_fresh) = (0, false);
    }

    /// Something was recorded that is no part of a launch.
    pub(crate) fn outdate(&mut self) {
        self.is_fresh = false;
    }

    /// Commands of a launch are going to be recorded.
    pub(crate) fn before_launch(&mut self, commands: vk::CommandBuffer) {
        if !self.is_fresh {
            self.write(commands);
        }
    }

    /// They have been. The number of the launch among the [times](Self::times_ns).
    pub(crate) fn after_launch(&mut self, commands: vk::CommandBuffer) -> usize {
        self.write(commands);
        self.count as usize - 2
    }

    fn write(&mut self, commands: vk::CommandBuffer) {
        assert!(self.count < CAPACITY, "a batch has no more launches than there are stamps for");
        // SAFETY: the buffer is being recorded, for a queue that has stamps, and this one has been reset.
        unsafe { self.device.raw.cmd_write_timestamp(commands, vk::PipelineStageFlags::BOTTOM_OF_PIPE, self.pool, self.count) };
        (self.count, self.is_fresh) = (self.count + 1, true);
    }

    /// The time between each stamp and the next one; nothing if the driver does not know. The commands have ended.
    pub(crate) fn times_ns(&self) -> Vec<u64> {
        let mut stamps = [0u64; CAPACITY as usize];
        let stamps = &mut stamps[..self.count as usize];
        // SAFETY: so many have been written, as words of 64 bits.
        let read = unsafe { self.device.raw.get_query_pool_results(self.pool, 0, stamps, vk::QueryResultFlags::TYPE_64) };
        if stamps.is_empty() || read.is_err() {
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
}
