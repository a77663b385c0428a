//! A device's queue: takes launches and copies, makes batches of them, and reports what has ended.
//!
//! The [README](README.md) has the states of a batch and says who holds which lock. One file because the protocol is one.
#![expect(unsafe_code, reason = "copies from and to memory of the host that launches name by address")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ash::vk;
use poniard_interface::{
    Completion, Fault, FaultKind, HostBlock, HostServices, KernelCode, Launch, LogLevel, Operand, Source, TaskDescriptor, TaskId,
};

use crate::cache::Cache;
use crate::check::{Checker, Submitted};
use crate::commands::{Bound, Commands};
use crate::device::Device;
use crate::instance::Instance;
use crate::memory::{Import, Piece, Place, copy_host};
use crate::order::{Lane, Marks, Order, Stand};
use crate::physical_device::PhysicalDevice;
use crate::pipeline::{Pipeline, Pipelines};
use crate::settings::{Transfer, VulkanSettings};
use crate::shader::addresses;
use crate::staging::{BatchStaging, STAGING_BYTES, Staging, ThreadStaging};
use crate::stamps::{UploadSamples, UploadTime};
use crate::tracker::Access;

/// How many items the batches have that follow each other without a pause: the device begins soon, and later ones cost less each.
/// A first batch of one costs a software device a sixth of its rate, and lets a fast one begin five microseconds earlier.
const RAMP: [usize; 2] = [16, 64];
/// Of each lane: one that runs and one that is ready, so that the device never waits for the host.
const BATCHES_IN_FLIGHT: usize = 2;
/// A batch with more bytes to copy than this is closed.
const BATCH_BYTES: u64 = 256 << 20;
/// The same for copies in a lane of their own, where launches wait for them: a millisecond of a fast bus, so that the first begin soon, and a hundred times of what a submission costs.
const TRANSFER_BYTES: u64 = 32 << 20;
/// Shorter uploads stay with the launch that they are for: on a bus of 25 GB/s they take five microseconds, and so does the way from one queue to the other.
const SMALL_BYTES: u64 = 128 << 10;
/// The same where two lanes are emulated. Tests have short buffers.
const SMALL_BYTES_EMULATED: u64 = 256;
/// Uploads of this size and more are taken from the host's own pages, if the driver can.
const DIRECT_BYTES: u64 = 1 << 20;
/// Launches in more parts take a second to record, and a device years to do.
const PARTS_MAX: u64 = 1 << 16;
/// The tracker forgets what is older than so many accesses, at the price of a barrier.
const TRACKED_MAX: usize = 4096;
/// How long a thread that waits for a copy leaves it to the queue's own thread to go on.
const PATIENCE: Duration = Duration::from_millis(2);
/// The time between two looks of the queue's thread while others do its work.
const LOOK: Duration = Duration::from_millis(1);
/// How long a thread that waits for a copy looks away before it asks whether the device was lost.
const GLANCE: Duration = Duration::from_millis(100);

/// What has been done so far. Bytes are those between the host and the device.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) launches: AtomicU64,
    pub(crate) submissions: AtomicU64,
    /// Those to a queue for transfers.
    pub(crate) transfer_submissions: AtomicU64,
    /// Those that wait for the other queue.
    pub(crate) waits: AtomicU64,
    pub(crate) pipeline_binds: AtomicU64,
    pub(crate) barriers: AtomicU64,
    pub(crate) bytes_up: AtomicU64,
    pub(crate) bytes_down: AtomicU64,
    pub(crate) check_failures: AtomicU64,
}

/// A device, made when it is first needed, and what goes with it.
pub(crate) struct Made {
    pub(crate) device: Arc<Device>,
    pub(crate) pipelines: Pipelines,
    pub(crate) staging: ThreadStaging,
}

/// The queue of one device.
pub(crate) struct Queue {
    /// Its processor's name.
    pub(crate) name: String,
    pub(crate) physical: Arc<PhysicalDevice>,
    pub(crate) settings: VulkanSettings,
    instance: &'static Instance,
    host: Arc<dyn HostServices>,
    made: OnceLock<Result<Made, String>>,
    chunks: Mutex<BTreeMap<u64, Arc<Piece>>>,
    inbox: Mutex<Inbox>,
    /// Wakes the thread: something is in flight, or it shall end.
    wake: Condvar,
    recorder: Mutex<Recorder>,
    pub(crate) counters: Counters,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("name", &self.name).field("counters", &self.counters).finish_non_exhaustive()
    }
}

/// What has not been recorded, and what the thread has to know.
#[derive(Default)]
struct Inbox {
    items: VecDeque<Item>,
    /// How many copies are among them.
    copy_count: usize,
    /// The batches in flight, by lane, the oldest first.
    flights: [VecDeque<Flight>; 2],
    /// Whether some thread waits for the oldest ones, or does what is to be done when it has ended.
    is_attended: bool,
    habit: Habit,
    thread: Option<JoinHandle<()>>,
    /// Threads that make kernels ready.
    compilers: Vec<JoinHandle<()>>,
    /// Whether the thread is there; it ends itself only under this lock.
    has_thread: bool,
    is_stopping: bool,
    /// What the thread has yet to report: it has ended, and was found by somebody who may not.
    late: Vec<Completion>,
    lost: Option<String>,
}

/// A batch in flight.
#[derive(Clone, Copy, Debug)]
struct Flight {
    number: u64,
    /// How long it may take.
    deadline: Duration,
    /// A batch of the other lane, or 0.
    waits_for: u64,
    /// When it became the oldest of its lane, and what it waits for had ended.
    since: Instant,
}

/// What somebody who attends waits for.
#[derive(Clone, Copy, Debug)]
struct Watch {
    /// The oldest batches.
    oldest: Marks,
    /// The lane whose time is over first, how much is left, and how much there was.
    lane: Lane,
    left: Duration,
    deadline: Duration,
}

impl Inbox {
    /// Numbers of the oldest batches in flight.
    fn oldest(&self) -> Marks {
        [0, 1].map(|lane| self.flights[lane].front().map_or(0, |flight| flight.number))
    }

    /// The oldest batches in flight; none when there are none.
    fn watch(&self) -> Option<Watch> {
        let left = |lane: &Lane| {
            // Its time has not begun while it waits for the other lane. The one that was submitted first waits for nothing, so there is always one.
            let flight = self.flights[*lane as usize].front().filter(|_| !self.is_held(*lane))?;
            Some((flight.deadline.saturating_sub(flight.since.elapsed()), *lane, flight.deadline))
        };
        let (left, lane, deadline) = Lane::ALL.iter().filter_map(left).min_by_key(|(left, ..)| *left)?;
        Some(Watch { oldest: self.oldest(), lane, left, deadline })
    }

    /// Whether the oldest batch of a lane waits for one of the other lane.
    fn is_held(&self, lane: Lane) -> bool {
        let waits_for = self.flights[lane as usize].front().map_or(0, |flight| flight.waits_for);
        self.flights[lane.other() as usize].front().is_some_and(|other| other.number <= waits_for)
    }

    /// Batches of a lane up to `number` have ended: the time of those behind them begins.
    fn land(&mut self, lane: Lane, number: u64) {
        let (now, other) = (Instant::now(), lane.other());
        let was_held = self.is_held(other);
        let flights = &mut self.flights[lane as usize];
        while flights.pop_front_if(|flight| flight.number <= number).is_some() {}
        if let Some(next) = flights.front_mut() {
            next.since = now;
        }
        if was_held
            && !self.is_held(other)
            && let Some(freed) = self.flights[other as usize].front_mut()
        {
            freed.since = now;
        }
    }
}

/// Whether those who submit wait for it themselves. As long as they do, the thread is not woken for each batch, but looks from time to time.
struct Habit {
    /// How many batches in a row were attended by others than the thread.
    streak: u32,
    /// So many have to be for the thread to rely on it. Each time it does and is wrong, a batch is late by one or two looks, so it takes twice as many then.
    needed: u32,
}

impl Default for Habit {
    fn default() -> Self {
        Self { streak: 0, needed: 8 }
    }
}

impl Habit {
    fn holds(&self) -> bool {
        self.streak >= self.needed
    }

    /// A batch was attended by somebody who waits for it.
    fn confirm(&mut self) {
        self.streak = self.streak.saturating_add(1);
    }

    /// A batch was left to the thread.
    fn end(&mut self) {
        if self.holds() {
            self.needed = self.needed.saturating_mul(2);
        }
        self.streak = 0;
    }
}

/// What makes batches.
struct Recorder {
    /// Begun, and not to be recorded further before a batch ends.
    front: Option<Item>,
    lanes: [Batches; 2],
    order: Order,
    checker: Checker,
    ramp: usize,
    staging: BatchStaging,
    samples: UploadSamples,
}

/// The batches of a lane.
#[derive(Default)]
struct Batches {
    in_flight: VecDeque<Batch>,
    /// There only while it is filled.
    open: Option<Batch>,
    free: Vec<Commands>,
}

/// What is to be said of a task when its batch has ended.
struct Answer {
    task: TaskId,
    outcome: Result<(), Fault>,
    /// Its launch's number among the times, if that is measured.
    number: Option<usize>,
    /// What its copies take, if that is measured.
    upload_time: Option<Arc<UploadTime>>,
}

/// Commands that are submitted together.
struct Batch {
    /// The value that it gives its lane's timeline.
    number: u64,
    commands: Commands,
    tasks: Vec<Answer>,
    /// Copies that are measured, and their numbers among the times.
    copies: Vec<(Arc<UploadTime>, usize)>,
    /// What the commands use stays until they have ended.
    held: Vec<Work>,
    blocks: Vec<Staging>,
    /// How much of the last block is used.
    block_used: u64,
    bytes: u64,
    count: usize,
    deadline: Duration,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.count == 0 && self.bytes == 0 && self.commands.barriers == 0 && self.held.is_empty()
    }

    /// Whether nothing more is to be put in.
    fn is_full(&self, limit: usize, limit_bytes: u64) -> bool {
        self.count >= limit || self.bytes >= limit_bytes
    }
}

/// Something to do, in order.
pub(crate) struct Item {
    work: Work,
    done: Done,
    /// How long it may take, if that is less than the device's time.
    deadline: Option<Duration>,
}

/// What to do.
pub(crate) enum Work {
    /// Copy to the operands what they come from, then run the kernel.
    Launch(LaunchWork),
    /// Make it zero.
    Zero(Arc<Piece>),
    /// Copy from one place to another. Chunks that are part of it are held; staging is the caller's, who waits.
    Copy { lane: Lane, from: Place, to: Place, len_bytes: u64, pieces: Vec<Arc<Piece>> },
    /// Nothing: the caller wants to know when the chunk is free for it.
    Touch(Arc<Piece>),
}

impl Work {
    /// Whether somebody waits for it who may go before launches that have nothing to do with it.
    fn is_copy(&self) -> bool {
        matches!(self, Self::Copy { .. } | Self::Touch(_))
    }

    /// Whether some access of it passes a test.
    fn any(&self, test: impl Fn(&Access) -> bool) -> bool {
        match self {
            Self::Launch(launch) => {
                let is_filled = |index: usize| launch.uploads.iter().any(|upload| upload.operand == index);
                launch.operands.iter().enumerate().any(|(index, (piece, writes))| test(&whole(piece, *writes || is_filled(index))))
            }
            // Whoever asks for the chunk may write to it.
            Self::Zero(piece) | Self::Touch(piece) => test(&whole(piece, true)),
            Self::Copy { from, to, len_bytes, .. } => test(&part(*from, *len_bytes, false)) || test(&part(*to, *len_bytes, true)),
        }
    }

    /// Whether the order of the two matters.
    fn conflicts(&self, other: &Self) -> bool {
        self.any(|access| other.any(|another| another.conflicts(access)))
    }
}

/// A launch, checked.
pub(crate) struct LaunchWork {
    /// None, if it was refused: then only the copies are made.
    pipeline: Option<Arc<Pipeline>>,
    operands: Vec<(Arc<Piece>, bool)>,
    uploads: VecDeque<Upload>,
    /// What is pushed of buffers that are not bound.
    addresses: Vec<u8>,
    scalars: Vec<u8>,
    groups: [u32; 3],
    /// Its number among the times of its batch, once it is recorded there.
    number: Option<usize>,
    /// What its copies take, once it is known whether that is measured.
    upload_time: Option<Option<Arc<UploadTime>>>,
}

/// Bytes to copy into an operand before a launch.
struct Upload {
    operand: usize,
    block: HostBlock,
    done_bytes: u64,
}

/// Whom to tell.
pub(crate) enum Done {
    Task(TaskId),
    /// A task that was refused, once its copies have been made.
    Refused(TaskId, Fault),
    Ticket(Arc<Ticket>),
    Nobody,
}

/// Where a thread waits for something that it has put into a queue.
#[derive(Debug, Default)]
pub(crate) struct Ticket {
    state: Mutex<Option<Result<Marks, String>>>,
    changed: Condvar,
}

impl Ticket {
    fn set(&self, outcome: Result<Marks, String>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.changed.notify_all();
    }

    /// Waits for the number of the batch, but not long.
    fn batch(&self) -> Option<Result<Marks, String>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, _) = self.changed.wait_timeout_while(state, PATIENCE, |state| state.is_none()).unwrap_or_else(PoisonError::into_inner);
        state.clone()
    }
}

/// What became of an attempt to record an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recorded {
    /// It is in a batch.
    Done,
    /// Not all of it; the rest goes into the next batch.
    Later,
    /// Not all of it; the rest has to wait for a batch to end.
    Blocked,
}

/// How far the recorder came.
enum Progress {
    /// Nothing is left.
    Empty,
    /// It goes on when a batch has ended.
    Full,
}

/// The device is of no use any more.
struct Loss {
    reason: String,
    /// The lane whose oldest batch took too long, if that is why.
    timed_out: Option<Lane>,
}

impl Loss {
    fn of(what: &str, error: vk::Result) -> Self {
        Self { reason: format!("{what} failed: {error}"), timed_out: None }
    }
}

impl Recorder {
    /// Whether one more batch of a lane may be in flight.
    fn has_room(&self, lane: Lane) -> bool {
        self.lanes[lane as usize].in_flight.len() < BATCHES_IN_FLIGHT
    }
}

impl Queue {
    /// The queue of `physical`, which is not touched yet.
    pub(crate) fn new(
        name: String,
        physical: Arc<PhysicalDevice>,
        settings: VulkanSettings,
        instance: &'static Instance,
        host: Arc<dyn HostServices>,
    ) -> Self {
        let is_split = match settings.transfer {
            Transfer::Auto => physical.transfer_family.is_some(),
            Transfer::None => false,
            Transfer::Emulated => true,
        };
        let recorder = Recorder {
            front: None,
            lanes: Default::default(),
            order: Order::new(is_split),
            checker: Checker::default(),
            ramp: 0,
            staging: BatchStaging::default(),
            samples: UploadSamples::default(),
        };
        Self {
            name,
            physical,
            settings,
            instance,
            host,
            made: OnceLock::new(),
            chunks: Mutex::default(),
            inbox: Mutex::default(),
            wake: Condvar::new(),
            recorder: Mutex::new(recorder),
            counters: Counters::default(),
        }
    }

    /// The device, made if it is not: 3 to 10 ms.
    ///
    /// # Errors
    /// Why there is none, the same each time.
    pub(crate) fn made(&self) -> Result<&Made, &str> {
        let make = || {
            let device = Device::new(self.instance, Arc::clone(&self.physical), self.settings.transfer, self.settings.without)
                .map(Arc::new)
                .inspect_err(|reason| {
                    let name = &self.physical.name;
                    self.host.log(LogLevel::Warning, &format!("vulkan: `{}` (`{name}`) is of no use: {reason}", self.name));
                })?;
            let pipelines = Pipelines::new(&device, Cache::new(self.settings.cache.clone()));
            Ok(Made { device, pipelines, staging: ThreadStaging::default() })
        };
        self.made.get_or_init(make).as_ref().map_err(String::as_str)
    }

    /// The device, if it was made and works.
    pub(crate) fn working(&self) -> Option<&Made> {
        self.made.get().and_then(|made| made.as_ref().ok()).filter(|made| made.device.lost().is_none())
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // No step under this lock leaves it half changed.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chunks(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Piece>>> {
        // As for `inbox`.
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a chunk known to launches.
    pub(crate) fn add_chunk(&self, piece: Arc<Piece>) {
        self.chunks().insert(piece.id, piece);
    }

    /// Forgets a chunk. Its memory is freed when what uses it has ended.
    pub(crate) fn remove_chunk(&self, id: u64) {
        let removed = self.chunks().remove(&id);
        drop(removed);
    }

    /// Takes tasks; each is answered once, some before this returns.
    pub(crate) fn submit(self: &Arc<Self>, tasks: &[TaskDescriptor<'_>]) {
        let (mut items, mut report) = (Vec::new(), Vec::new());
        for task in tasks {
            match self.prepare(task) {
                Ok(item) => items.push(item),
                Err(fault) => report.push(Completion::failed(task.id, fault)),
            }
        }
        self.push(items, &mut report);
        self.pump(&mut report);
        self.report(&mut report);
    }

    /// Has a kernel made ready by a thread of its own, and the device, if it is not there yet.
    pub(crate) fn expect(self: &Arc<Self>, kernel: &KernelCode<'_>) {
        let (identity, name) = (kernel.identity, kernel.name.to_owned());
        let (text, words) = match kernel.source {
            Source::Wgsl(text) => (text.to_owned(), Vec::new()),
            Source::SpirV(words) => (String::new(), words.to_vec()),
            _ => return,
        };
        let queue = Arc::clone(self);
        let compile = move || {
            let source = if words.is_empty() { Source::Wgsl(&text) } else { Source::SpirV(&words) };
            if let Ok(made) = queue.made() {
                // What is wrong with it is said when it is launched.
                let _ = made.pipelines.get(&KernelCode { identity, name: &name, source }, false, 0);
            }
        };
        // Without a thread it is compiled by whoever launches it.
        if let Ok(thread) = thread::Builder::new().name("poniard-compile".into()).spawn(compile) {
            self.inbox().compilers.push(thread);
        }
    }

    /// Checks a task against the device and the kernel. One that is refused has its copies made: others rely on them.
    fn prepare(&self, task: &TaskDescriptor<'_>) -> Result<Item, Fault> {
        let Some(launch) = task.launch else {
            return Err(Fault::refused("a Vulkan device runs kernels, and this task has none"));
        };
        let fault = match self.check(task.id, launch) {
            Err(fault) if fault.kind == FaultKind::Refused => fault,
            checked => return checked,
        };
        let (mut operands, mut uploads) = (Vec::new(), VecDeque::new());
        for operand in launch.operands {
            if let (Some(block), Ok(piece)) = (operand.source, self.operand(operand))
                && block.len_bytes <= piece.len_bytes
            {
                uploads.push_back(Upload { operand: operands.len(), block, done_bytes: 0 });
                operands.push((piece, true));
            }
        }
        if uploads.is_empty() {
            return Err(fault);
        }
        let work = LaunchWork {
            pipeline: None,
            operands,
            uploads,
            addresses: Vec::new(),
            scalars: Vec::new(),
            groups: [0; 3],
            number: None,
            upload_time: None,
        };
        Ok(Item { work: Work::Launch(work), done: Done::Refused(task.id, fault), deadline: None })
    }

    fn check(&self, task: TaskId, launch: &Launch<'_>) -> Result<Item, Fault> {
        let made = self.made().map_err(Fault::lost)?;
        if let Some(reason) = made.device.lost() {
            return Err(Fault::lost(reason));
        }
        let whole = made.pipelines.get(&launch.kernel, false, 0).map_err(Fault::refused)?;
        let refuse = |reason: String| Fault::refused(format!("kernel `{}`: {reason}", whole.name));
        let interface = &whole.interface;
        if launch.operands.len() != interface.bindings.len() {
            return Err(refuse(format!("it takes {} buffers, and is given {}", interface.bindings.len(), launch.operands.len())));
        }
        if launch.scalars.len() != interface.scalars_bytes as usize {
            return Err(refuse(format!("it takes {} bytes of scalars, and is given {}", interface.scalars_bytes, launch.scalars.len())));
        }
        let mut groups = [0u32; 3];
        for (group, (count, size)) in groups.iter_mut().zip(launch.invocations.into_iter().zip(interface.workgroup)) {
            let size = u64::from(size.max(1));
            let count = count.div_ceil(size);
            // Invocations have numbers of 32 bits.
            *group = u32::try_from(count)
                .ok()
                .filter(|count| u64::from(*count) * size <= 1 << 32)
                .ok_or_else(|| refuse(format!("{count} workgroups of {size} are more than 2^32 invocations along an axis")))?;
        }
        if groups.contains(&0) {
            groups = [0; 3];
        }
        let part_count: u64 = groups.iter().zip(self.physical.limits.groups).map(|(count, most)| u64::from(count.div_ceil(most))).product();
        if part_count > PARTS_MAX {
            return Err(refuse(format!(
                "{groups:?} workgroups have to be launched in {part_count} parts, and at most {PARTS_MAX} are possible"
            )));
        }
        let (mut operands, mut uploads) = (Vec::with_capacity(launch.operands.len()), VecDeque::new());
        for (index, operand) in launch.operands.iter().enumerate() {
            let piece = self.operand(operand).map_err(|reason| refuse(format!("buffer `{}`: {reason}", interface.bindings[index].name)))?;
            if let Some(block) = operand.source {
                if block.len_bytes > piece.len_bytes {
                    return Err(refuse(format!("{} bytes do not fit into a chunk of {}", block.len_bytes, piece.len_bytes)));
                }
                uploads.push_back(Upload { operand: index, block, done_bytes: 0 });
            }
            operands.push((piece, whole.writes(index, operand.access)));
        }
        let (addressed, addresses) = self.addresses(made, launch, &whole, &operands).map_err(refuse)?;
        let is_large = part_count > 1;
        let pipeline = match (is_large, addressed) {
            (false, 0) => Arc::clone(&whole),
            (is_large, addressed) => made.pipelines.get(&launch.kernel, is_large, addressed).map_err(Fault::refused)?,
        };
        let work = LaunchWork {
            pipeline: Some(pipeline),
            operands,
            uploads,
            addresses,
            scalars: launch.scalars.to_vec(),
            groups,
            number: None,
            upload_time: None,
        };
        let deadline = launch.deadline.filter(|deadline| *deadline < self.settings.deadline);
        Ok(Item { work: Work::Launch(work), done: Done::Task(task), deadline })
    }

    /// The chunk of an operand.
    fn operand(&self, operand: &Operand) -> Result<Arc<Piece>, String> {
        self.chunks().get(&operand.chunk).cloned().ok_or_else(|| format!("the device has no chunk {}", operand.chunk))
    }

    /// Which operands are too long to be bound, and what is pushed so that the kernel reaches them by their addresses.
    fn addresses(
        &self,
        made: &Made,
        launch: &Launch<'_>,
        kernel: &Pipeline,
        operands: &[(Arc<Piece>, bool)],
    ) -> Result<(u32, Vec<u8>), String> {
        let most = self.settings.binding_bytes.unwrap_or(u64::MAX).min(self.physical.limits.binding_bytes);
        let pairs = kernel.interface.bindings.iter().zip(operands);
        let long = pairs.clone().filter(|(_, (piece, _))| piece.len_bytes > most);
        let Some((binding, (piece, _))) = long.clone().next() else { return Ok((0, Vec::new())) };
        let no_way = match launch.kernel.source {
            Source::Wgsl(_) if made.device.has_addresses => None,
            Source::Wgsl(_) => Some("its buffers have no addresses (bufferDeviceAddress) that would do instead"),
            _ => Some("a kernel in SPIR-V does not reach more: one in WGSL does"),
        };
        if let Some(why) = no_way {
            let (name, device, len_bytes) = (&binding.name, &self.physical.name, piece.len_bytes);
            return Err(format!("buffer `{name}`: it has {len_bytes} bytes, and `{device}` binds at most {most}; {why}"));
        }
        let addressed =
            pairs.zip(0..32).filter(|((_, (piece, _)), _)| piece.len_bytes > most).fold(0, |mask, (_, index)| mask | 1 << index);
        let found = long.map(|(binding, (piece, _))| (binding, piece.place.device_address(&made.device), piece.len_bytes));
        Ok((addressed, addresses(found)?))
    }

    /// Puts items into the inbox, or says that the device is lost.
    fn push(&self, items: Vec<Item>, report: &mut Vec<Completion>) {
        if items.is_empty() {
            return;
        }
        let lost = {
            let mut inbox = self.inbox();
            match &inbox.lost {
                Some(reason) => reason.clone(),
                None => {
                    inbox.copy_count += items.iter().filter(|item| item.work.is_copy()).count();
                    return inbox.items.extend(items);
                }
            }
        };
        for item in items {
            fail(item, &Fault::lost(&lost), report);
        }
    }

    /// Has something done that is no task; the ticket knows when.
    pub(crate) fn ask(self: &Arc<Self>, work: Work) -> Arc<Ticket> {
        let ticket = Arc::<Ticket>::default();
        let mut report = Vec::new();
        self.push(vec![Item { work, done: Done::Ticket(Arc::clone(&ticket)), deadline: None }], &mut report);
        self.pump(&mut report);
        self.report(&mut report);
        ticket
    }

    /// Has a chunk filled with zeros before anything that comes later; begins with the next thing that is done.
    pub(crate) fn zero_later(&self, piece: Arc<Piece>) {
        self.push(vec![Item { work: Work::Zero(piece), done: Done::Nobody, deadline: None }], &mut Vec::new());
    }

    /// Waits for what a ticket stands for.
    ///
    /// # Errors
    /// Why it was not done, or the device is lost.
    pub(crate) fn wait(self: &Arc<Self>, ticket: &Ticket) -> Result<(), String> {
        let marks = loop {
            match ticket.batch() {
                Some(outcome) => break outcome?,
                None => self.help(),
            }
        };
        let made = self.made().map_err(ToOwned::to_owned)?;
        loop {
            if let Some(reason) = made.device.lost() {
                return Err(format!("the device is lost: {reason}"));
            }
            // The queue's own thread notices when the batch takes too long.
            match made.device.wait(marks, false, GLANCE) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => return Err(format!("waiting for the device failed: {error}")),
            }
        }
    }

    /// Does what the queue's thread does when a batch has ended, but for the reports: the caller may hold locks of the host. That thread may be the caller, or wait
    /// for the caller's locks.
    fn help(self: &Arc<Self>) {
        let Ok(mut recorder) = self.recorder.try_lock() else { return };
        let Some(made) = self.working() else { return };
        let mut late = Vec::new();
        let outcome = self.retire(made, &mut recorder, &mut late).and_then(|()| self.advance(&mut recorder));
        drop(recorder);
        match outcome {
            Ok(Progress::Full) => {}
            Ok(Progress::Empty) => self.pump(&mut late),
            Err(loss) => self.lose(&loss, &mut late),
        }
        if late.is_empty() {
            return;
        }
        {
            let mut inbox = self.inbox();
            if inbox.has_thread {
                inbox.late.append(&mut late);
                self.wake.notify_one();
            }
        }
        // Of a device that is lost the thread may be gone.
        self.report(&mut late);
    }

    /// A launch of `pipeline` without operands.
    pub(crate) fn bare_launch(pipeline: Arc<Pipeline>) -> Work {
        Work::Launch(LaunchWork {
            pipeline: Some(pipeline),
            operands: Vec::new(),
            uploads: VecDeque::new(),
            addresses: Vec::new(),
            scalars: Vec::new(),
            groups: [1; 3],
            number: None,
            upload_time: None,
        })
    }

    /// Calls without a lock: the host may submit in answer.
    fn report(&self, report: &mut Vec<Completion>) {
        if !report.is_empty() {
            self.host.complete(&std::mem::take(report));
        }
    }

    /// Records and submits what can be, unless another thread does: that one then sees what was added.
    fn pump(self: &Arc<Self>, report: &mut Vec<Completion>) {
        loop {
            let progress = {
                let mut recorder = match self.recorder.try_lock() {
                    Ok(recorder) => recorder,
                    Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                    Err(TryLockError::WouldBlock) => return,
                };
                self.advance(&mut recorder)
            };
            match progress {
                Ok(Progress::Full) => return,
                // Looked at again after the lock was given up: who adds something then finds it free, and who did before is seen here.
                Ok(Progress::Empty) if self.inbox().items.is_empty() => return,
                Ok(Progress::Empty) => {}
                Err(loss) => return self.lose(&loss, report),
            }
        }
    }

    /// Makes batches until nothing is left or enough are in flight.
    fn advance(self: &Arc<Self>, recorder: &mut Recorder) -> Result<Progress, Loss> {
        loop {
            let Some(made) = self.working() else { return Ok(Progress::Full) };
            if !recorder.lanes[Lane::Transfer as usize].in_flight.is_empty() {
                // Whoever waited for a copy goes on before it is retired. A launch need not be kept apart for it.
                self.look(made, recorder, Lane::Transfer)?;
            }
            let filled = self.fill(made, recorder)?;
            for lane in [recorder.order.first(), recorder.order.first().other()] {
                self.close(made, recorder, lane)?;
            }
            match filled {
                Recorded::Later => {}
                // What it has to wait for is in flight now.
                Recorded::Blocked => return Ok(Progress::Full),
                Recorded::Done => {
                    if recorder.lanes[Lane::Compute as usize].in_flight.is_empty() {
                        recorder.ramp = 0;
                    }
                    return Ok(Progress::Empty);
                }
            }
        }
    }

    /// Fills a batch of each lane. Done when nothing is left to do.
    fn fill(&self, made: &Made, recorder: &mut Recorder) -> Result<Recorded, Loss> {
        while let Some((place, mut item)) = self.take_copy(made, recorder) {
            match self.record(made, recorder, &mut item) {
                Ok(Recorded::Done) => self.answer(recorder, item),
                outcome => {
                    self.put_back(place, item);
                    return outcome;
                }
            }
        }
        loop {
            let limits = [BATCH_BYTES, TRANSFER_BYTES].into_iter().zip(&recorder.lanes);
            if limits.into_iter().any(|(bytes, lane)| lane.open.as_ref().is_some_and(|batch| batch.is_full(RAMP[recorder.ramp], bytes))) {
                return Ok(Recorded::Later);
            }
            let Some(mut item) = recorder.front.take().or_else(|| self.take()) else { return Ok(Recorded::Done) };
            // One with a time of its own is a batch of its own: the time is then that of this launch alone.
            if item.deadline.is_some() && recorder.lanes[Lane::Compute as usize].open.is_some() {
                recorder.front = Some(item);
                return Ok(Recorded::Later);
            }
            match self.record(made, recorder, &mut item) {
                Ok(Recorded::Done) => {}
                outcome => {
                    // Where `lose` finds and answers it, should it be needed.
                    recorder.front = Some(item);
                    return outcome;
                }
            }
            let is_alone = item.deadline.is_some();
            self.answer(recorder, item);
            if is_alone {
                return Ok(Recorded::Later);
            }
        }
    }

    /// The next item.
    fn take(&self) -> Option<Item> {
        let mut inbox = self.inbox();
        let item = inbox.items.pop_front()?;
        inbox.copy_count -= usize::from(item.work.is_copy());
        Some(item)
    }

    /// A copy that has nothing to do with anything before it, and its place: whoever waits for it does not wait for all that is pending.
    fn take_copy(&self, made: &Made, recorder: &Recorder) -> Option<(usize, Item)> {
        let mut inbox = self.inbox();
        if inbox.copy_count == 0 || !recorder.has_room(made.device.lane(Lane::Transfer)) {
            return None;
        }
        let before = |place: usize| recorder.front.iter().chain(inbox.items.range(..place));
        let copies = inbox.items.iter().enumerate().filter(|(_, item)| item.work.is_copy());
        let (place, _) = copies.into_iter().find(|(place, copy)| !before(*place).any(|earlier| earlier.work.conflicts(&copy.work)))?;
        inbox.copy_count -= 1;
        Some((place, inbox.items.remove(place)?))
    }

    /// Puts a copy back to its place. Meanwhile only the end of the list has changed.
    fn put_back(&self, place: usize, item: Item) {
        let mut inbox = self.inbox();
        match &inbox.lost {
            Some(reason) => drop(fail(item, &Fault::lost(reason), &mut Vec::new())),
            None => {
                inbox.items.insert(place, item);
                inbox.copy_count += 1;
            }
        }
    }

    /// An item has been recorded: its batch says when it has been done.
    fn answer(&self, recorder: &mut Recorder, item: Item) {
        let lane = match &item.work {
            Work::Touch(piece) => {
                if let Done::Ticket(ticket) = &item.done {
                    ticket.set(Ok(piece.last_use()));
                }
                return;
            }
            Work::Copy { lane, .. } if recorder.order.is_split() => *lane,
            _ => Lane::Compute,
        };
        let Some(batch) = &mut recorder.lanes[lane as usize].open else { return };
        batch.count += 1;
        match &item.done {
            Done::Task(id) => {
                let launch = if let Work::Launch(launch) = &item.work { Some(launch) } else { None };
                let upload_time = launch.and_then(|launch| launch.upload_time.clone().flatten());
                let number = launch.and_then(|launch| launch.number);
                batch.tasks.push(Answer { task: *id, outcome: Ok(()), number, upload_time });
            }
            Done::Refused(id, fault) => {
                batch.tasks.push(Answer { task: *id, outcome: Err(fault.clone()), number: None, upload_time: None })
            }
            Done::Ticket(ticket) => {
                let mut marks = Marks::default();
                marks[lane as usize] = batch.number;
                ticket.set(Ok(marks));
            }
            Done::Nobody => {}
        }
        batch.held.push(item.work);
        batch.deadline = item.deadline.unwrap_or(batch.deadline);
    }

    /// The open batch of a lane, begun if there is none; none while enough of them are in flight.
    fn open<'a>(&self, made: &Made, recorder: &'a mut Recorder, lane: Lane) -> Result<Option<&'a mut Batch>, Loss> {
        let failed = |error| Loss::of("preparing a batch", error);
        if recorder.lanes[lane as usize].open.is_none() {
            if !recorder.has_room(lane) {
                return Ok(None);
            }
            let mut commands = match recorder.lanes[lane as usize].free.pop() {
                Some(commands) => commands,
                None => Commands::new(&made.device, lane, self.settings.validation).map_err(failed)?,
            };
            let number = recorder.order.open(lane);
            commands.begin(number).map_err(failed)?;
            let tracker = recorder.order.tracker(lane);
            if tracker.count() > TRACKED_MAX {
                tracker.clear();
                commands.barrier();
            }
            recorder.lanes[lane as usize].open = Some(Batch {
                number,
                commands,
                tasks: Vec::new(),
                copies: Vec::new(),
                held: Vec::new(),
                blocks: Vec::new(),
                block_used: 0,
                bytes: 0,
                count: 0,
                deadline: self.settings.deadline,
            });
        }
        Ok(recorder.lanes[lane as usize].open.as_mut())
    }

    /// Finds a place for a command, with a barrier before it where one is needed.
    fn place<'a>(
        &self,
        made: &Made,
        recorder: &'a mut Recorder,
        lane: Lane,
        accesses: &[Access],
    ) -> Result<Result<&'a mut Batch, Recorded>, Loss> {
        if self.open(made, recorder, lane)?.is_none() {
            return Ok(Err(Recorded::Blocked));
        }
        let stand = recorder.order.place(lane, accesses);
        let Some(batch) = &mut recorder.lanes[lane as usize].open else { return Ok(Err(Recorded::Blocked)) };
        match stand {
            Stand::Later => return Ok(Err(Recorded::Later)),
            Stand::Here { needs_barrier: true } => batch.commands.barrier(),
            Stand::Here { needs_barrier: false } => {}
        }
        Ok(Ok(batch))
    }

    /// Submits the open batch of a lane, if there is one.
    fn close(self: &Arc<Self>, made: &Made, recorder: &mut Recorder, lane: Lane) -> Result<(), Loss> {
        let Some(mut batch) = recorder.lanes[lane as usize].open.take() else { return Ok(()) };
        if batch.is_empty() {
            recorder.order.discard(lane);
            recorder.staging.give_back(batch.blocks);
            recorder.lanes[lane as usize].free.push(batch.commands);
            return Ok(());
        }
        let waits_for = recorder.order.close(lane);
        if recorder.order.tracker(lane).end_batch() {
            batch.commands.host_barrier();
        }
        let recorded = batch.commands.end().map_err(|error| Loss::of("recording a batch", error));
        if let Some(steps) = &batch.commands.steps {
            for wrong in recorder.checker.check(Submitted { lane, number: batch.number, waits_for, steps }) {
                self.counters.check_failures.fetch_add(1, Ordering::Relaxed);
                self.host.log(LogLevel::Warning, &format!("vulkan: checker: {wrong}"));
            }
        }
        self.counters.submissions.fetch_add(1, Ordering::Relaxed);
        self.counters.pipeline_binds.fetch_add(batch.commands.binds, Ordering::Relaxed);
        self.counters.barriers.fetch_add(batch.commands.barriers, Ordering::Relaxed);
        if waits_for.is_some() {
            self.counters.waits.fetch_add(1, Ordering::Relaxed);
        }
        if lane == Lane::Transfer {
            self.counters.transfer_submissions.fetch_add(1, Ordering::Relaxed);
        } else {
            recorder.ramp = (recorder.ramp + 1).min(RAMP.len() - 1);
        }
        let (number, deadline, commands) = (batch.number, batch.deadline, batch.commands.buffer);
        // In the list first: if the driver fails, its tasks are answered with the others.
        recorder.lanes[lane as usize].in_flight.push_back(batch);
        recorded?;
        made.device.submit(lane, commands, number, waits_for).map_err(|error| Loss::of("submitting a batch", error))?;
        let mut inbox = self.inbox();
        if inbox.lost.is_some() {
            // Given up meanwhile, by a thread that waits for the recorder to answer what is in flight.
            return Ok(());
        }
        inbox.flights[lane as usize].push_back(Flight { number, deadline, waits_for: waits_for.unwrap_or(0), since: Instant::now() });
        if inbox.has_thread {
            // Who attends looks again at the end.
            let is_wanted = !inbox.is_attended && !inbox.habit.holds();
            drop(inbox);
            if is_wanted {
                self.wake.notify_one();
            }
            return Ok(());
        }
        let queue = Arc::clone(self);
        let name = format!("poniard-{}", self.name);
        match thread::Builder::new().name(name).spawn(move || queue.run()) {
            Ok(thread) => {
                inbox.has_thread = true;
                inbox.thread = Some(thread);
                Ok(())
            }
            Err(error) => Err(Loss { reason: format!("the thread that waits for the device cannot be started: {error}"), timed_out: None }),
        }
    }

    fn record(&self, made: &Made, recorder: &mut Recorder, item: &mut Item) -> Result<Recorded, Loss> {
        match &mut item.work {
            Work::Touch(_) => Ok(Recorded::Done),
            Work::Zero(piece) => {
                let accesses = [whole(piece, true)];
                let batch = match self.place(made, recorder, Lane::Compute, &accesses)? {
                    Ok(batch) => batch,
                    Err(other) => return Ok(other),
                };
                batch.commands.zero(piece.place, piece.len_bytes, &accesses);
                piece.used(Lane::Compute, batch.number);
                Ok(Recorded::Done)
            }
            Work::Copy { lane, from, to, len_bytes, pieces } => {
                let lane = made.device.lane(*lane);
                self.copy(made, recorder, lane, [*from, *to], (*len_bytes, None), || ()).map(|placed| match placed {
                    Ok(number) => {
                        pieces.iter().for_each(|piece| piece.used(lane, number));
                        Recorded::Done
                    }
                    Err(other) => other,
                })
            }
            Work::Launch(launch) => self.record_launch(made, recorder, launch),
        }
    }

    /// Copies between two places; the number of the batch. What it takes is a part of `time`. `prepare` is called when it is certain that the batch has the copy.
    fn copy(
        &self,
        made: &Made,
        recorder: &mut Recorder,
        lane: Lane,
        [from, to]: [Place; 2],
        (len_bytes, time): (u64, Option<&Arc<UploadTime>>),
        prepare: impl FnOnce(),
    ) -> Result<Result<u64, Recorded>, Loss> {
        let accesses = [part(from, len_bytes, false), part(to, len_bytes, true)];
        let batch = match self.place(made, recorder, lane, &accesses)? {
            Ok(batch) => batch,
            Err(other) => return Ok(Err(other)),
        };
        prepare();
        let number = batch.commands.copy(from, to, len_bytes, time.is_some(), &accesses);
        if let Some(time) = time {
            time.begin(number.is_some());
            batch.copies.extend(number.map(|number| (Arc::clone(time), number)));
        }
        batch.bytes += len_bytes;
        Ok(Ok(batch.number))
    }

    fn record_launch(&self, made: &Made, recorder: &mut Recorder, launch: &mut LaunchWork) -> Result<Recorded, Loss> {
        let small_bytes = if self.settings.transfer == Transfer::Emulated { SMALL_BYTES_EMULATED } else { SMALL_BYTES };
        // All in the same lane: a short one beside a long one is nothing that the batch could begin with.
        let is_small = launch.uploads.iter().map(|upload| upload.block.len_bytes).sum::<u64>() < small_bytes;
        let lane = made.device.lane(if is_small { Lane::Compute } else { Lane::Transfer });
        let samples = &mut recorder.samples;
        let time = launch.upload_time.get_or_insert_with(|| {
            let bytes = launch.uploads.iter().map(|upload| upload.block.len_bytes).sum();
            (bytes > 0 && samples.take(bytes)).then(Arc::default)
        });
        let time = time.clone();
        while let Some(upload) = launch.uploads.front_mut() {
            let piece = &launch.operands[upload.operand].0;
            match self.record_upload(made, recorder, lane, (piece, time.as_ref()), upload)? {
                Recorded::Done => drop(launch.uploads.pop_front()),
                other => return Ok(other),
            }
        }
        let pipeline = launch.pipeline.as_ref().filter(|_| launch.groups != [0; 3]);
        let writes = |writes: bool| pipeline.is_some() && writes;
        // One that runs nothing stands behind its uploads as well: it is reported with its batch.
        let accesses: Vec<_> = launch.operands.iter().map(|(piece, written)| whole(piece, writes(*written))).collect();
        let batch = match self.place(made, recorder, Lane::Compute, &accesses)? {
            Ok(batch) => batch,
            Err(other) => return Ok(other),
        };
        for (piece, _) in &launch.operands {
            piece.used(Lane::Compute, batch.number);
        }
        if launch.pipeline.is_some() {
            self.counters.launches.fetch_add(1, Ordering::Relaxed);
        }
        let Some(pipeline) = pipeline else { return Ok(Recorded::Done) };
        let bound: Vec<_> = launch.operands.iter().map(|(piece, _)| Bound { place: piece.place, len_bytes: piece.len_bytes }).collect();
        launch.number = batch
            .commands
            .dispatch(pipeline, &bound, &launch.scalars, &launch.addresses, launch.groups, &accesses)
            .map_err(|error| Loss::of("binding buffers", error))?;
        Ok(Recorded::Done)
    }

    /// Copies bytes of the host into a chunk: straight where the host sees it and nobody uses it, from the host's own pages, or through staging.
    fn record_upload(
        &self,
        made: &Made,
        recorder: &mut Recorder,
        lane: Lane,
        (piece, time): (&Piece, Option<&Arc<UploadTime>>),
        upload: &mut Upload,
    ) -> Result<Recorded, Loss> {
        let block = upload.block;
        let copy_on_host = |from: u64, to: u64, len_bytes: u64| {
            let begin = time.map(|_| Instant::now());
            // SAFETY: the callers say why nobody else uses the two.
            unsafe { copy_host(from, to, len_bytes) };
            if let (Some(time), Some(begin)) = (time, begin) {
                time.add(begin.elapsed().as_nanos() as u64);
            }
        };
        let up = |bytes: u64| self.counters.bytes_up.fetch_add(bytes, Ordering::Relaxed);
        if upload.done_bytes == 0 {
            if block.len_bytes == 0 || piece.address() == Some(block.address) {
                return Ok(Recorded::Done);
            }
            // One in an arena may be used by others under another number.
            if let Some(address) = piece.own_address()
                && Lane::ALL.into_iter().all(|lane| piece.last_use()[lane as usize] <= recorder.order.ended(lane))
            {
                // The block is readable until the launch is reported, and fits into the chunk, which no batch uses and the host sees.
                copy_on_host(block.address, address, block.len_bytes);
                up(block.len_bytes);
                return Ok(Recorded::Done);
            }
            if block.len_bytes >= DIRECT_BYTES {
                // SAFETY: arenas stay mapped, as the contract says.
                if let Ok(from) = unsafe { Import::place(&made.device, block) } {
                    return self.copy(made, recorder, lane, [from, piece.place], (block.len_bytes, time), || ()).map(
                        |placed| match placed {
                            Ok(number) => {
                                piece.used(lane, number);
                                up(block.len_bytes);
                                Recorded::Done
                            }
                            Err(other) => other,
                        },
                    );
                }
            }
        }
        while upload.done_bytes < block.len_bytes {
            if self.open(made, recorder, lane)?.is_none() {
                return Ok(Recorded::Blocked);
            }
            let Recorder { lanes, staging, .. } = &mut *recorder;
            let Some(batch) = &mut lanes[lane as usize].open else { return Ok(Recorded::Blocked) };
            // The device copies this much while the host gets more ready.
            if lane == Lane::Transfer && batch.bytes >= TRANSFER_BYTES {
                return Ok(Recorded::Later);
            }
            if batch.blocks.is_empty() || batch.block_used == STAGING_BYTES {
                match staging.take(&made.device) {
                    Ok(Some(block)) => {
                        batch.blocks.push(block);
                        batch.block_used = 0;
                    }
                    Ok(None) => return Ok(Recorded::Blocked),
                    // Those behind it rely on its copies, so it cannot be left out.
                    Err(reason) => return Err(Loss { reason: format!("nothing can be copied to the device: {reason}"), timed_out: None }),
                }
            }
            let (Some(staging), used) = (batch.blocks.last(), batch.block_used) else { return Ok(Recorded::Blocked) };
            let len = (block.len_bytes - upload.done_bytes).min(STAGING_BYTES - used);
            let (from, to) = (staging.memory.place().after(used), piece.place.after(upload.done_bytes));
            let (source, target) = (block.address + upload.done_bytes, staging.address + used);
            // The block is readable until the launch is reported; this part of the staging block is the batch's, and not yet used.
            let fill = || copy_on_host(source, target, len);
            let number = match self.copy(made, recorder, lane, [from, to], (len, time), fill)? {
                Ok(number) => number,
                Err(other) => return Ok(other),
            };
            piece.used(lane, number);
            if let Some(batch) = &mut recorder.lanes[lane as usize].open {
                // Whole words of 16 bytes, as devices like them.
                batch.block_used = (used + len).next_multiple_of(16).min(STAGING_BYTES);
            }
            upload.done_bytes += len;
            up(len);
        }
        Ok(Recorded::Done)
    }

    /// Notes how far a lane has come.
    fn look(&self, made: &Made, recorder: &mut Recorder, lane: Lane) -> Result<u64, Loss> {
        let ended = made.device.ended(lane).map_err(|error| Loss::of("asking for what has ended", error))?;
        recorder.order.end(lane, ended);
        recorder.checker.end(lane, ended);
        Ok(ended)
    }

    /// Takes what has ended out of the books.
    fn retire(&self, made: &Made, recorder: &mut Recorder, report: &mut Vec<Completion>) -> Result<(), Loss> {
        let mut ended = Marks::default();
        for lane in Lane::ALL.into_iter().take(if made.device.is_split() { 2 } else { 1 }) {
            ended[lane as usize] = self.look(made, recorder, lane)?;
        }
        // The copies first that launches have waited for: what has ended of the one lane was looked at before the other, so none is missing.
        for lane in Lane::ALL.into_iter().rev() {
            let ended = ended[lane as usize];
            if recorder.lanes[lane as usize].in_flight.front().is_none_or(|batch| batch.number > ended) {
                continue;
            }
            while let Some(batch) = recorder.lanes[lane as usize].in_flight.pop_front_if(|batch| batch.number <= ended) {
                let times_ns = batch.commands.times_ns();
                batch.copies.iter().for_each(|(time, number)| time.end(times_ns.get(*number).copied()));
                report.extend(batch.tasks.into_iter().map(|Answer { task, outcome, number, upload_time }| {
                    let busy_ns = number.and_then(|number| times_ns.get(number).copied());
                    Completion { task, outcome, busy_ns, upload_ns: upload_time.and_then(|time| time.ns()) }
                }));
                recorder.staging.give_back(batch.blocks);
                recorder.lanes[lane as usize].free.push(batch.commands);
            }
            self.inbox().land(lane, ended);
        }
        Ok(())
    }

    /// The queue's thread: waits for the oldest batch, reports it, goes on with what has gathered.
    fn run(self: Arc<Self>) {
        while let Some(watch) = self.next_watch() {
            self.await_batch(watch, Duration::MAX);
            self.inbox().is_attended = false;
        }
    }

    /// Waits until there is a batch that nobody attends to, and does so; none when the thread is to end.
    fn next_watch(&self) -> Option<Watch> {
        let mut inbox = self.inbox();
        // What was seen at the last look: a batch that nobody attended to, and the streak.
        let mut seen = (None, 0);
        loop {
            if !inbox.late.is_empty() {
                let mut late = std::mem::take(&mut inbox.late);
                drop(inbox);
                self.report(&mut late);
                inbox = self.inbox();
                continue;
            }
            if inbox.lost.is_some() || (inbox.is_stopping && inbox.oldest() == Marks::default()) {
                inbox.has_thread = false;
                return None;
            }
            let left = inbox.watch().filter(|_| !inbox.is_attended);
            let number = left.map(|watch| watch.oldest);
            if let Some(watch) = left.filter(|_| !inbox.habit.holds() || inbox.is_stopping || number == seen.0) {
                inbox.habit.end();
                inbox.is_attended = true;
                return Some(watch);
            }
            if !inbox.habit.holds() {
                inbox = self.wake.wait(inbox).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if number.is_none() && inbox.habit.streak == seen.1 {
                // Nothing was done meanwhile. Who begins again wakes the thread at first.
                inbox.habit.streak = 0;
                continue;
            }
            seen = (number, inbox.habit.streak);
            inbox = self.wake.wait_timeout(inbox, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the oldest batch in the place of the queue's thread, unless somebody does already; whether something has ended.
    pub(crate) fn attend(self: &Arc<Self>, patience: Duration) -> bool {
        let watch = {
            let mut inbox = self.inbox();
            match inbox.watch() {
                Some(watch) if !inbox.is_attended => {
                    inbox.is_attended = true;
                    watch
                }
                _ => return false,
            }
        };
        let has_ended = self.await_batch(watch, patience);
        let mut inbox = self.inbox();
        inbox.is_attended = false;
        let held = inbox.habit.holds();
        if has_ended {
            inbox.habit.confirm();
        } else {
            inbox.habit.end();
        }
        // What is in flight is the thread's, unless the caller comes again. And one that sleeps until it is woken has to learn that from now on it is not, and looks by itself.
        let has_begun = !held && inbox.habit.holds();
        let is_wanted = has_begun || !inbox.habit.holds() && inbox.oldest() != Marks::default() || inbox.is_stopping;
        drop(inbox);
        if is_wanted {
            self.wake.notify_one();
        }
        has_ended
    }

    /// Waits until one of the oldest batches has ended, as long as `patience`; then reports it and goes on with what has gathered. The caller attends.
    fn await_batch(self: &Arc<Self>, watch: Watch, patience: Duration) -> bool {
        let Some(made) = self.working() else { return false };
        let mut report = Vec::new();
        let outcome = match made.device.wait(watch.oldest, true, watch.left.min(patience)) {
            Ok(true) => {
                let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
                self.retire(made, &mut recorder, &mut report).and_then(|()| self.advance(&mut recorder)).map(|_| ())
            }
            Ok(false) if patience < watch.left => return false,
            Ok(false) => {
                Err(Loss { reason: format!("a batch has not ended after {} ms", watch.deadline.as_millis()), timed_out: Some(watch.lane) })
            }
            Err(error) => Err(Loss::of("waiting for a batch", error)),
        };
        if let Err(loss) = outcome {
            self.lose(&loss, &mut report);
        } else {
            // Between `advance` and here something may have come from a thread that found the lock held.
            self.pump(&mut report);
        }
        self.report(&mut report);
        true
    }

    /// Gives the device up. Nothing of it is destroyed, waited for or used again.
    fn lose(&self, loss: &Loss, report: &mut Vec<Completion>) {
        let Some(made) = self.working() else { return };
        let reason = format!("`{}` (`{}`) is lost: {}", self.name, self.physical.name, loss.reason);
        if !made.device.mark_lost(&reason) {
            return;
        }
        let items = {
            let mut inbox = self.inbox();
            inbox.lost = Some(reason.clone());
            inbox.flights = Default::default();
            inbox.copy_count = 0;
            std::mem::take(&mut inbox.items)
        };
        let (front, in_flight) = {
            let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
            let of_lane = |lane: Lane| {
                let batches = std::mem::take(&mut recorder.lanes[lane as usize]);
                let all = batches.in_flight.into_iter().chain(batches.open).enumerate();
                all.map(|(index, batch)| (loss.timed_out == Some(lane) && index == 0, batch)).collect::<Vec<_>>()
            };
            let in_flight = Lane::ALL.map(of_lane);
            (recorder.front.take(), in_flight)
        };
        for (took_too_long, batch) in in_flight.into_iter().flatten() {
            let fault = if took_too_long { Fault::timed_out(&reason) } else { Fault::lost(&reason) };
            report.extend(batch.tasks.iter().map(|answer| Completion::failed(answer.task, fault.clone())));
        }
        for item in front.into_iter().chain(items) {
            fail(item, &Fault::lost(&reason), report);
        }
        self.wake.notify_one();
        self.host.log(LogLevel::Warning, &format!("vulkan: {reason}; it is given up"));
    }

    /// Ends the thread once nothing is in flight; at once if the device is lost.
    pub(crate) fn stop(&self) -> bool {
        let (thread, compilers) = {
            let mut inbox = self.inbox();
            inbox.is_stopping = true;
            (inbox.thread.take(), std::mem::take(&mut inbox.compilers))
        };
        if self.working().is_some() {
            // A driver that compiles while the program ends is none to be relied on.
            compilers.into_iter().for_each(|compiler| drop(compiler.join()));
        }
        self.wake.notify_one();
        // A runtime dropped by one of its own tasks may stop us from our thread: that one ends by itself.
        let ended = thread.is_none_or(|thread| thread.thread().id() == thread::current().id() || thread.join().is_ok());
        if let Some(made) = self.working() {
            made.pipelines.save();
        }
        ended
    }
}

/// Answers an item with a fault; gives back what it held.
fn fail(item: Item, fault: &Fault, report: &mut Vec<Completion>) -> Work {
    match &item.done {
        Done::Task(task) | Done::Refused(task, _) => report.push(Completion::failed(*task, fault.clone())),
        Done::Ticket(ticket) => ticket.set(Err(fault.reason.clone())),
        Done::Nobody => {}
    }
    item.work
}

fn part(place: Place, len_bytes: u64, writes: bool) -> Access {
    Access { memory: place.memory, range: place.offset..place.offset + len_bytes, writes, is_host_visible: place.is_host_visible }
}

fn whole(piece: &Piece, writes: bool) -> Access {
    part(piece.place, piece.len_bytes, writes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_habit_takes_longer_to_form_each_time_it_was_wrong() {
        let mut habit = Habit::default();
        for needed in [8, 16, 32] {
            for _ in 0..needed {
                assert!(!habit.holds());
                habit.confirm();
            }
            assert!(habit.holds());
            habit.end();
        }
        // That it ends before it holds is no mistake.
        habit.confirm();
        habit.end();
        (0..64).for_each(|_| habit.confirm());
        assert!(habit.holds());
    }
}
