//! What a launch and a copy cost on a device, measured.

use std::sync::Arc;
use std::time::Instant;

use gpu_allocator::MemoryLocation;
use poniard_interface::{DeviceClass, KernelCode, MemorySpace, Source, SpaceId};

use crate::memory::{Memory, Piece};
use crate::order::Lane;
use crate::queue::{Queue, Work};
use crate::space::VulkanSpace;
use crate::stamps::FIRST;

/// Does nothing, so that its launch is all that it costs.
const NOTHING: &str = "@compute @workgroup_size(1) fn main() {}";
const LAUNCHES: usize = 21;
const COPIES: usize = 3;

/// Names and values; up to a second of the device's work.
///
/// # Errors
/// Why the device cannot do it.
pub(crate) fn measure(queue: &Arc<Queue>) -> Result<Vec<(&'static str, String)>, String> {
    let made = queue.made().map_err(ToOwned::to_owned)?;
    let kernel = KernelCode { identity: [0, 0x6e6f_7468_696e_6700], name: "nothing", source: Source::Wgsl(NOTHING) };
    let pipeline = made.pipelines.get(&kernel, false, 0)?;
    let mut launches = Vec::new();
    for _ in 0..FIRST + LAUNCHES {
        let begin = Instant::now();
        queue.wait(&queue.ask(Queue::bare_launch(Arc::clone(&pipeline))))?;
        launches.push(begin.elapsed());
    }
    // Before the first one the driver compiles, and the first ones are measured by the device, which takes time of its own.
    launches.drain(..FIRST);
    launches.sort();
    let launch = launches[LAUNCHES / 2];

    // A software device is slow, and its memory is the host's.
    let len = if queue.physical.class == DeviceClass::Software { 16 << 20 } else { 64 << 20_usize };
    let mut bytes = vec![1u8; len];
    let space = VulkanSpace::new(SpaceId::HOST, Arc::clone(queue));
    let mut chunk = space.allocate(len as u64, false).map_err(|error| error.to_string())?;
    let (mut up, mut down, mut across) = (0.0f64, 0.0f64, 0.0f64);
    let rate = |begin: Instant| len as f64 / begin.elapsed().as_secs_f64() / 1e9;
    let new = || Memory::new(&made.device, len as u64, MemoryLocation::GpuOnly).map(|memory| Arc::new(Piece::owned(memory, len as u64)));
    let (from, to) = (new()?, new()?);
    for _ in 0..COPIES {
        let begin = Instant::now();
        chunk.write(0, &bytes).map_err(|error| error.to_string())?;
        up = up.max(rate(begin));
        let begin = Instant::now();
        chunk.read(0, &mut bytes).map_err(|error| error.to_string())?;
        down = down.max(rate(begin));
        let begin = Instant::now();
        let pieces = vec![Arc::clone(&from), Arc::clone(&to)];
        queue.wait(&queue.ask(Work::Copy { lane: Lane::Compute, from: from.place, to: to.place, len_bytes: len as u64, pieces }))?;
        across = across.max(rate(begin));
    }
    Ok(vec![
        ("launch", format!("{:.1} us", launch.as_secs_f64() * 1e6)),
        ("host to device", format!("{up:.1} GB/s")),
        ("device to host", format!("{down:.1} GB/s")),
        ("copy on the device", format!("{across:.1} GB/s")),
    ])
}
