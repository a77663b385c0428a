//! Kernels: tasks that a device can run.

use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock, Weak};

use poniard_interface::type_key::{FNV_OFFSET, fnv};
use poniard_interface::{Code, KernelCode, KernelInterface, ProcessorKind, RawBuffer};

pub(crate) mod check;
pub(crate) mod form;
pub(crate) mod plan;

pub use form::Form;
#[doc(hidden)]
pub use form::Shape;

use crate::data::Data;
use crate::error::BoxError;
use crate::function::{Argument, Predecessors, TaskFn, TaskOutput};
use crate::model::CodeId;
use crate::options::TaskOptions;
use crate::parameter::{Param, Slots, Stored};
use crate::queued::leaving_restores;
use crate::residency::Lineage;
use crate::runtime::spawn_at_once;
use crate::scope::Scope;
use crate::sleep_lock::SleepLock;
use crate::task::record::{Unspawned, panic_message};
use crate::worker::context::Context;
use crate::worker::shared::Shared;
use check::Parameter;
use plan::{Plan, Planner, Survey, Unplanned};

/// Code for devices, and optionally a function of the host that does the same. Spawned like any other task, by [`over`](Self::over).
///
/// The source is a compute shader in WGSL (or SPIR-V). Its storage buffers in group 0, in the order of their numbers, are the task's `&Buffer` and `&mut Buffer`
/// parameters in their order, and then the buffers of its result. Its `var<immediate>` has the task's other parameters, which are numbers, in their order. The names do not
/// matter. What the source says is compared with the signature when a task is spawned, and the lengths of the buffers when it is launched.
///
/// ```
/// use poniard::{Buffer, Kernel, Runtime, buffer};
///
/// let saxpy = Kernel::wgsl("saxpy", "
///     struct Numbers { n: u32, a: f32 }
///     var<immediate> p: Numbers;
///     @group(0) @binding(0) var<storage> x: array<f32>;
///     @group(0) @binding(1) var<storage> y: array<f32>;
///     @group(0) @binding(2) var<storage, read_write> z: array<f32>;
///     @compute @workgroup_size(64)
///     fn main(@builtin(global_invocation_id) id: vec3<u32>) {
///         if id.x < p.n { z[id.x] = p.a * x[id.x] + y[id.x]; }
///     }
/// ")
/// .host(|x: &Buffer<f32>, y: &Buffer<f32>, _: u32, a: f32| buffer::from_fn(x.len(), |i| a * x[i] + y[i]));
///
/// let runtime = Runtime::new()?;
/// let x = runtime.value(buffer::from_fn(1000, |i| i as f32));
/// let z = runtime.spawn(saxpy.over(1000), (&x, &x, 1000, 2.0));
/// assert_eq!(z.fetch()?[7], 21.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Cheap to clone. Where it runs: on a device in the task's scope, else on the host, if it has a body for it; without a scope, where it is expected to finish first: there, or on a
/// device of the runtime that is not a software device. A task that a device cannot run, or whose device is lost, runs elsewhere in its scope, and the runtime's log says so once for each kernel.
///
/// A result stays on the device until somebody of the host wants it: see the chapter `docs/KERNELS.md`. A result that the kernel also reads begins at zero; of
/// another one what it does not write has any value.
pub struct Kernel<M: Signature = Unsigned> {
    body: Arc<Body>,
    host: Option<HostBody<M>>,
}

/// A function of the host that does what a kernel does. With `true` it leaves the arguments for another call.
type HostBody<M> = Arc<dyn Fn(&mut <M as Signature>::Params, bool) -> Result<<M as Signature>::Value, BoxError> + Send + Sync>;

/// Code for devices that has no signature yet: what [`Kernel::wgsl`] and [`Kernel::spirv`] make.
#[must_use = "it becomes a kernel by `host` or `takes`"]
#[derive(Debug)]
pub struct KernelSource {
    body: Body,
}

impl Kernel {
    /// A kernel's source in WGSL. It is read when the first task is spawned.
    pub fn wgsl(name: impl Into<String>, source: impl Into<Arc<str>>) -> KernelSource {
        KernelSource { body: Body::new(name.into(), Code::Wgsl(source.into())) }
    }

    /// A kernel as SPIR-V words, made elsewhere: with one entry point, its buffers in descriptor set 0, its numbers as push constants.
    pub fn spirv(name: impl Into<String>, words: impl Into<Arc<[u32]>>) -> KernelSource {
        KernelSource { body: Body::new(name.into(), Code::SpirV(words.into())) }
    }
}

impl KernelSource {
    /// A kernel that the host can run as well, by a function that does the same. The function's parameters and its result are the kernel's signature:
    /// `&Buffer<T>`, `&mut Buffer<T>`, [`View`](crate::View) and [`ViewMut`](crate::ViewMut) of numbers, numbers by value; nothing, a `Buffer<T>`, or a tuple of up to four of them.
    pub fn host<M, F>(mut self, function: F) -> Kernel<M>
    where
        M: Signature,
        F: TaskFn<M, Params = M::Params, Value = M::Value> + Clone + Sync,
    {
        self.body.has_host = true;
        let host: HostBody<M> = Arc::new(move |params, keep| {
            let function = function.clone();
            if keep { function.call_keeping(params) } else { function.call(params) }
        });
        Kernel { body: Arc::new(self.body), host: Some(host) }
    }

    /// A kernel that only devices run, with parameters `P` and result `R`.
    ///
    /// ```
    /// use poniard::{Buffer, Kernel};
    ///
    /// let source = "
    ///     @group(0) @binding(0) var<storage> x: array<f32>;
    ///     @group(0) @binding(1) var<storage, read_write> y: array<f32>;
    ///     @compute @workgroup_size(64)
    ///     fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    ///         if id.x < arrayLength(&y) { y[id.x] = 2 * x[id.x]; }
    ///     }
    /// ";
    /// let double = Kernel::wgsl("double", source).takes::<(&Buffer<f32>,), Buffer<f32>>();
    /// # let _ = double;
    /// ```
    pub fn takes<P: Parameters<R>, R>(self) -> Kernel<P::Signature> {
        Kernel { body: Arc::new(self.body), host: None }
    }
}

impl<M: Signature> Kernel<M> {
    /// How models of costs know it ([`model`](crate::model)): by its name and a hash of its source.
    pub fn code_id(&self) -> CodeId {
        self.body.code_id()
    }

    /// Its name, which errors and traces use.
    pub fn name(&self) -> &str {
        &self.body.name
    }

    /// A launch over `count` invocations. Each buffer of its result has as many elements, unless [`KernelLaunch::returning`] says otherwise.
    pub fn over(&self, count: usize) -> KernelLaunch<M> {
        self.over_3d(count, 1, 1)
    }

    /// The same over `width` times `height` invocations: `global_invocation_id` goes along x and y.
    pub fn over_2d(&self, width: usize, height: usize) -> KernelLaunch<M> {
        self.over_3d(width, height, 1)
    }

    /// The same in three dimensions.
    pub fn over_3d(&self, width: usize, height: usize, depth: usize) -> KernelLaunch<M> {
        KernelLaunch { kernel: self.clone(), invocations: [width as u64, height as u64, depth as u64], lens: None }
    }
}

impl<M: Signature> Clone for Kernel<M> {
    fn clone(&self) -> Self {
        Self { body: Arc::clone(&self.body), host: self.host.clone() }
    }
}

impl<M: Signature> fmt::Debug for Kernel<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("name", &self.body.name).field("has_host", &self.body.has_host).finish_non_exhaustive()
    }
}

/// A kernel with the number of its invocations: what is spawned in the place of a function. Made by [`Kernel::over`].
pub struct KernelLaunch<M: Signature> {
    kernel: Kernel<M>,
    invocations: [u64; 3],
    /// Elements in the buffers of the result, if they are not as many as invocations.
    lens: Option<Box<[usize]>>,
}

impl<M: Signature> KernelLaunch<M> {
    /// How many elements the buffers of the result have, one number for each.
    pub fn returning(mut self, lens: impl Into<Box<[usize]>>) -> Self {
        self.lens = Some(lens.into());
        self
    }

    /// Bytes in each buffer of the result.
    fn output_bytes(&self) -> Result<Vec<u64>, String> {
        let results = results_of::<M>();
        let [x, y, z] = self.invocations;
        let product =
            x.checked_mul(y).and_then(|product| product.checked_mul(z)).ok_or("it has more invocations than there are numbers")?;
        if let Some(lens) = self.lens.as_ref().filter(|lens| lens.len() != results.len()) {
            return Err(format!("it returns {} buffers, and `returning` names the lengths of {}", results.len(), lens.len()));
        }
        let bytes_of = |(index, shape): (usize, &Shape)| {
            let len = self.lens.as_ref().map_or(product, |lens| lens[index] as u64);
            let Shape::Buffer { bytes, .. } = shape else { return Err("it returns numbers".into()) };
            len.checked_mul(u64::from(*bytes)).ok_or_else(|| format!("{len} elements of {bytes} bytes are more than there is"))
        };
        results.iter().enumerate().map(bytes_of).collect()
    }
}

impl<M: Signature> Clone for KernelLaunch<M> {
    fn clone(&self) -> Self {
        Self { kernel: self.kernel.clone(), invocations: self.invocations, lens: self.lens.clone() }
    }
}

impl<M: Signature> fmt::Debug for KernelLaunch<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelLaunch").field("kernel", &self.kernel).field("invocations", &self.invocations).finish_non_exhaustive()
    }
}

fn results_of<M: Signature>() -> Vec<Shape> {
    let mut results = Vec::new();
    match M::Value::DEVICE {
        Some(form) => (form.types)(&mut results),
        None => results.push(Shape::Other { name: std::any::type_name::<M::Value>() }),
    }
    results
}

/// What a kernel is, whatever its signature.
#[doc(hidden)]
pub struct Body {
    pub(crate) name: String,
    pub(crate) code: Code,
    /// A hash of the code.
    pub(crate) identity: [u64; 2],
    pub(crate) kind: ProcessorKind,
    pub(crate) has_host: bool,
    /// What the source takes, once somebody has looked; or why it is no kernel.
    interface: OnceLock<Result<KernelInterface, String>>,
    /// Whether it fits the signature, once somebody has looked.
    fits: OnceLock<Result<(), String>>,
    /// Whether devices have been told that it will come.
    pub(crate) is_expected: AtomicBool,
    /// Whether the log has been told that it did not run where it should.
    pub(crate) has_complained: AtomicBool,
}

impl Body {
    fn new(name: String, code: Code) -> Self {
        let hash = match &code {
            Code::Wgsl(source) => fnv(FNV_OFFSET, source.as_bytes()),
            Code::SpirV(words) => words.iter().fold(FNV_OFFSET, |state, word| fnv(state, &word.to_le_bytes())),
            _ => 0,
        };
        Self {
            name,
            code,
            identity: [(hash >> 64) as u64, hash as u64],
            kind: ProcessorKind::new("vulkan"),
            has_host: false,
            interface: OnceLock::new(),
            fits: OnceLock::new(),
            is_expected: AtomicBool::new(false),
            has_complained: AtomicBool::new(false),
        }
    }

    /// A hash of its code in one word.
    pub(crate) fn code(&self) -> u64 {
        self.identity[0] ^ self.identity[1]
    }

    pub(crate) fn code_id(&self) -> CodeId {
        CodeId::new(&self.name, self.code())
    }

    /// As a device gets it.
    pub(crate) fn as_code(&self) -> Option<KernelCode<'_>> {
        Some(KernelCode { identity: self.identity, name: &self.name, source: self.code.source()? })
    }

    /// What the source takes, if it is known.
    pub(crate) fn interface(&self) -> Option<&KernelInterface> {
        self.interface.get()?.as_ref().ok()
    }

    /// What is wrong with the kernel, if something is. `inspect` says what the source takes; nothing, if nobody can read it.
    pub(crate) fn fault(
        &self,
        inspect: impl FnOnce(&Code) -> Option<Result<KernelInterface, String>>,
        parameters: impl FnOnce() -> (Vec<Parameter>, Vec<Shape>),
    ) -> Option<String> {
        if self.interface.get().is_none() {
            let interface = inspect(&self.code)?;
            // Somebody else has looked meanwhile, otherwise.
            let _ = self.interface.set(interface);
        }
        let interface = match self.interface.get()? {
            Ok(interface) => interface,
            Err(reason) => return Some(reason.clone()),
        };
        let fits = self.fits.get_or_init(|| {
            let (parameters, results) = parameters();
            check::check(interface, &parameters, &results)
        });
        fits.clone().err()
    }

    /// Whether this is the first time that it did not run where it should.
    pub(crate) fn complains(&self) -> bool {
        !self.has_complained.swap(true, Relaxed)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("name", &self.name).field("code", &self.code).finish_non_exhaustive()
    }
}

/// A signature that a kernel can have: `fn(P0, P1, ..) -> R`.
#[doc(hidden)]
pub trait Signature: 'static {
    /// The stored arguments.
    type Params: Send + 'static + Predecessors;
    /// What the task's handle will give.
    type Value: Data;
    /// What its parameters are.
    fn parameters() -> Vec<Parameter>;
}

/// Parameters, as a tuple, and a result: what [`KernelSource::takes`] is told.
#[diagnostic::on_unimplemented(
    message = "`{Self}` are no parameters of a kernel",
    note = "give a tuple of `&Buffer<T>`, `&mut Buffer<T>` and numbers, and a result that is `()`, a `Buffer<T>` or a tuple of them: `takes::<(&Buffer<f32>, f32), Buffer<f32>>()`"
)]
pub trait Parameters<R> {
    /// The same as a function's signature.
    type Signature: Signature;
}

/// No signature.
#[doc(hidden)]
#[derive(Debug)]
pub enum Unsigned {}

impl Signature for Unsigned {
    type Params = ();
    type Value = ();
    fn parameters() -> Vec<Parameter> {
        Vec::new()
    }
}

macro_rules! signature {
    ($($param:ident),*) => {
        impl<R: TaskOutput + 'static, $($param: Param + 'static),*> Signature for fn($($param),*) -> R {
            type Params = ($(Argument<$param::Of>,)*);
            type Value = R::Value;

            fn parameters() -> Vec<Parameter> {
                vec![$(<<$param::Of as Stored>::Slots as Slots>::parameter(),)*]
            }
        }

        impl<R: TaskOutput + 'static, $($param: Param + 'static),*> Parameters<R> for ($($param,)*) {
            type Signature = fn($($param),*) -> R;
        }
    };
}
signature!();
signature!(P0);
signature!(P0, P1);
signature!(P0, P1, P2);
signature!(P0, P1, P2, P3);
signature!(P0, P1, P2, P3, P4);
signature!(P0, P1, P2, P3, P4, P5);
signature!(P0, P1, P2, P3, P4, P5, P6);
signature!(P0, P1, P2, P3, P4, P5, P6, P7);

/// The signature of a launch whose kernel has `M`.
#[doc(hidden)]
#[derive(Debug)]
pub struct Launched<M>(PhantomData<M>);

impl<M: Signature> TaskFn<Launched<M>> for KernelLaunch<M> {
    type Params = M::Params;
    type Value = M::Value;
    type Tried = Self;
    type Signature = Launched<M>;
    const LAUNCHES: bool = true;

    fn body(&self) -> Option<Arc<Body>> {
        Some(Arc::clone(&self.kernel.body))
    }

    fn shapes() -> (Vec<Parameter>, Vec<Shape>) {
        (M::parameters(), results_of::<M>())
    }

    fn plan(&self, params: &M::Params) -> Result<Plan, Unplanned> {
        let output_bytes = self.output_bytes()?;
        let mut planner = Planner::new(&self.kernel.body);
        params.plan(&mut planner);
        planner.finish(self.invocations, &output_bytes)
    }

    fn survey(&self, params: &M::Params) -> Survey {
        let mut planner = Planner::new(&self.kernel.body);
        params.plan(&mut planner);
        planner.survey(self.invocations, self.output_bytes().unwrap_or_default().iter().sum())
    }

    fn lineage(self, mut params: M::Params, origin: Origin) -> Option<Arc<dyn Lineage>> {
        // What is changed in place cannot be had as it was.
        if params.touches_places() {
            return None;
        }
        let depth = params.remember();
        let again = SleepLock::new(Again::Params(params));
        Some(Arc::new(Recipe { launch: self, origin, again, depth: depth + 1 }))
    }

    fn call(self, params: &mut M::Params) -> Result<M::Value, BoxError> {
        self.run_on_host(params, false)
    }

    fn call_keeping(self, params: &mut M::Params) -> Result<M::Value, BoxError> {
        self.run_on_host(params, true)
    }
}

impl<M: Signature> KernelLaunch<M> {
    fn run_on_host(&self, params: &mut M::Params, keep: bool) -> Result<M::Value, BoxError> {
        match &self.kernel.host {
            Some(host) => host(params, keep),
            None => Err(format!("kernel `{}` has no body for the host", self.kernel.name()).into()),
        }
    }
}

/// Where a launch came from: what is to be known to do it again.
#[derive(Debug)]
pub struct Origin {
    pub(crate) runtime: Weak<Shared>,
    pub(crate) location: &'static Location<'static>,
    pub(crate) scope: Option<Scope>,
    /// Whether its scope has a worker.
    pub(crate) may_be_host: bool,
}

/// How the results of a launch are computed again.
struct Recipe<M: Signature> {
    launch: KernelLaunch<M>,
    origin: Origin,
    again: SleepLock<Again<M::Params>>,
    depth: u32,
}

enum Again<P> {
    /// The arguments; of those that were on a device alone, how they are computed again.
    Params(P),
    /// What came of it.
    Done(Result<Vec<RawBuffer>, String>),
}

impl<M: Signature> Lineage for Recipe<M> {
    fn depth(&self) -> u32 {
        self.depth
    }

    fn compute(&self, index: usize) -> Result<RawBuffer, String> {
        let mut again = self.again.lock();
        if let Again::Params(_) = &*again {
            // In the case of a panic nothing is left to try it with.
            let panicked = Again::Done(Err("computing it again panicked".into()));
            if let Again::Params(params) = std::mem::replace(&mut *again, panicked) {
                // Another launch may need the same, and is submitted with what is done for this.
                *again = Again::Done(leaving_restores(|| self.repeat(params)));
            }
        }
        match &*again {
            Again::Done(Ok(outputs)) => match outputs.get(index) {
                Some(output) => output.copy().map_err(|error| error.to_string()),
                None => Err("it came out as something else".into()),
            },
            Again::Done(Err(reason)) => Err(reason.clone()),
            Again::Params(_) => unreachable!("it was just done"),
        }
    }
}

impl<M: Signature> Recipe<M> {
    /// Does it on the host, by this thread; or on another device.
    fn repeat(&self, mut params: M::Params) -> Result<Vec<RawBuffer>, String> {
        params.restore()?;
        let value = if self.launch.kernel.host.is_some() && self.origin.may_be_host {
            params.bring()?;
            let call = std::panic::AssertUnwindSafe(|| self.launch.run_on_host(&mut params, true));
            match std::panic::catch_unwind(call) {
                Ok(value) => value.map_err(|error| error.to_string())?,
                Err(payload) => return Err(panic_message(&*payload)),
            }
        } else {
            let shared = self.origin.runtime.upgrade().ok_or("the runtime has ended")?;
            let mut options = TaskOptions::new();
            options.scope.clone_from(&self.origin.scope);
            let mut launch = Unspawned::new(self.launch.clone(), params);
            let (task, _) = Context::with_of(&shared, |context| {
                spawn_at_once::<Launched<M>, _>(&shared, context, &mut launch, self.origin.location, Some(Box::new(options)))
            });
            let value = task.fetch_recomputed().map_err(|error| error.reason())?;
            drop(task);
            value.try_unwrap().map_err(|_| "somebody else has it")?
        };
        let mut outputs = Vec::new();
        if let Some(form) = M::Value::DEVICE {
            (form.take_apart)(value, &mut outputs);
        }
        Ok(outputs)
    }
}
