//! Kernels on the processors of a backend that compiles them, with functions of the host before, between and behind.

use std::panic::resume_unwind;

use poniard::{Buffer, FailureKind, Kernel, Mutable, Scope, Task, buffer, overwrite, read, write};

use super::{Proof, Runs, Subject, Unpromised};

/// The kernels of the facts, in a backend's language. Buffers are of `f32`, and as many elements are done as the shortest has.
#[derive(Clone, Copy, Debug)]
pub struct Sources {
    /// `z = a x`, with a number `a: f32`.
    pub scale: &'static str,
    /// `z = x + y`.
    pub add: &'static str,
    /// `x = x + 1`, in place.
    pub bump: &'static str,
    /// `z = x`, where nothing of `z` is read.
    pub copy: &'static str,
    /// `y = x + 1`, and in the same launch `z = 2 x`.
    pub both: &'static str,
    /// `z[0] = z[0] +` the number of invocations that have an element of `x`.
    pub count: &'static str,
    /// `z` has its numbers, as `f32`: `f32`, `u32`, `i32`, `u64`, `i64`, `f64`, `F16`.
    pub numbers: &'static str,
    /// `z = x`, and no device can run it, though nothing is wrong with the source.
    pub refused: &'static str,
}

impl Sources {
    /// In WGSL.
    pub const WGSL: Self = Self {
        scale: "
            var<immediate> a: f32;
            @group(0) @binding(0) var<storage> x: array<f32>;
            @group(0) @binding(1) var<storage, read_write> z: array<f32>;
            @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
                if id.x < min(arrayLength(&x), arrayLength(&z)) { z[id.x] = a * x[id.x]; }
            }",
        add: "
            @group(0) @binding(0) var<storage> x: array<f32>;
            @group(0) @binding(1) var<storage> y: array<f32>;
            @group(0) @binding(2) var<storage, read_write> z: array<f32>;
            @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
                if id.x < min(min(arrayLength(&x), arrayLength(&y)), arrayLength(&z)) { z[id.x] = x[id.x] + y[id.x]; }
            }",
        bump: "
            @group(0) @binding(0) var<storage, read_write> x: array<f32>;
            @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
                if id.x < arrayLength(&x) { x[id.x] += 1.0; }
            }",
        copy: "
            @group(0) @binding(0) var<storage> x: array<f32>;
            @group(0) @binding(1) var<storage, read_write> z: array<f32>;
            @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
                if id.x < min(arrayLength(&x), arrayLength(&z)) { z[id.x] = x[id.x]; }
            }",
        both: "
            @group(0) @binding(0) var<storage> x: array<f32>;
            @group(0) @binding(1) var<storage, read_write> y: array<f32>;
            @group(0) @binding(2) var<storage, read_write> z: array<f32>;
            @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
                if id.x < min(arrayLength(&x), arrayLength(&y)) { y[id.x] = x[id.x] + 1.0; }
                if id.x < min(arrayLength(&x), arrayLength(&z)) { z[id.x] = x[id.x] * 2.0; }
            }",
        // In one invocation: not every device adds floats at once.
        count: "
            @group(0) @binding(0) var<storage> x: array<f32>;
            @group(0) @binding(1) var<storage, read_write> z: array<f32>;
            @compute @workgroup_size(1) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
                if id.x == 0u { z[0] += f32(arrayLength(&x)); }
            }",
        numbers: "
            enable f16;
            struct Numbers { a: f32, b: u32, c: i32, d: u64, e: i64, f: f64, g: f16 }
            var<immediate> p: Numbers;
            @group(0) @binding(0) var<storage, read_write> z: array<f32>;
            @compute @workgroup_size(1) fn main() {
                z[0] = p.a;
                z[1] = f32(p.b);
                z[2] = f32(p.c);
                z[3] = f32(p.d);
                z[4] = f32(p.e);
                z[5] = f32(p.f);
                z[6] = f32(p.g);
            }",
        // More memory for a workgroup than any device has.
        refused: "
            var<workgroup> much: array<vec4<f32>, 4194304>;
            @group(0) @binding(0) var<storage> x: array<f32>;
            @group(0) @binding(1) var<storage, read_write> z: array<f32>;
            @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
                much[id.x * 64u].x = x[id.x];
                workgroupBarrier();
                z[id.x] = much[id.x * 64u].x;
            }",
    };
}

/// Kernels of the facts.
struct Kernels(Sources);

type Scale = Kernel<fn(&'static Buffer<f32>, f32) -> Buffer<f32>>;
type Add = Kernel<fn(&'static Buffer<f32>, &'static Buffer<f32>) -> Buffer<f32>>;
type CopyInto = Kernel<fn(&'static Buffer<f32>, &'static mut Buffer<f32>)>;
type OfOne = Kernel<fn(&'static Buffer<f32>) -> Buffer<f32>>;

impl Kernels {
    fn of(subject: &Subject) -> Self {
        match subject.promises.runs {
            Runs::Kernels(sources) => Self(sources),
            Runs::Functions => unreachable!("whoever runs no kernels is not asked"),
        }
    }

    fn scale(&self) -> Scale {
        Kernel::wgsl("scale", self.0.scale).takes::<(&Buffer<f32>, f32), Buffer<f32>>()
    }

    fn add(&self) -> Add {
        Kernel::wgsl("add", self.0.add).takes::<(&Buffer<f32>, &Buffer<f32>), Buffer<f32>>()
    }

    fn bump(&self) -> Kernel<fn(&'static mut Buffer<f32>)> {
        Kernel::wgsl("bump", self.0.bump).takes::<(&mut Buffer<f32>,), ()>()
    }

    fn copy_into(&self) -> CopyInto {
        Kernel::wgsl("copy", self.0.copy).takes::<(&Buffer<f32>, &mut Buffer<f32>), ()>()
    }

    fn refused(&self) -> OfOne {
        Kernel::wgsl("refused", self.0.refused).takes::<(&Buffer<f32>,), Buffer<f32>>()
    }
}

fn ramp(len: usize) -> Buffer<f32> {
    buffer::from_fn(len, |index| (index % 1000) as f32)
}

fn times(x: &[f32], factor: f32) -> Vec<f32> {
    x.iter().map(|x| x * factor).collect()
}

/// Compares what came of a kernel: of many elements one is shown.
#[track_caller]
fn check(found: &[f32], expected: &[f32]) {
    let len = expected.len();
    assert_eq!(found.len(), len, "elements");
    let wrong = (0..).zip(found.iter().zip(expected)).find(|(_, (found, expected))| found != expected);
    if let Some((index, (found, expected))) = wrong {
        panic!("element {index} of {len} is {found}, and should be {expected}");
    }
}

pub(super) fn every_processor_runs_kernels_and_the_report_counts_them(subject: &Subject) -> Proof {
    let (stage, kernels) = (subject.stage(), Kernels::of(subject));
    for processor in &stage.processors {
        let only = Scope::backend(subject.backend) & Scope::processor(&processor.name);
        let z = stage.runtime.task(kernels.scale().over(300), (ramp(300), 3.0)).scope(only).spawn().take().unwrap();
        check(&z, &times(&ramp(300), 3.0));
    }
    let handle = stage.runtime.handle();
    let expected = stage.processors.iter().map(|processor| (processor.name.clone(), 1)).collect::<Vec<_>>();
    drop(stage);
    let report = handle.report();
    let backend = report.backends.iter().find(|backend| backend.name == subject.backend).map(|backend| &backend.processors);
    let counted: Vec<_> = backend.into_iter().flatten().map(|processor| (processor.name.clone(), processor.tasks)).collect();
    assert_eq!(counted, expected);
    Ok(())
}

pub(super) fn buffers_of_kernels_have_every_length(subject: &Subject) -> Proof {
    let (stage, kernels) = (subject.stage(), Kernels::of(subject));
    for len in [0, 1, 63, 64, 65, 255, 257, 4097, 100_003] {
        let x = stage.runtime.value(ramp(len));
        let z = stage.task(kernels.scale().over(len), (&x, 2.0)).spawn();
        check(&z.fetch().unwrap(), &times(&ramp(len), 2.0));
        // Beside what is empty, or longer than what is done.
        let none = stage.task(kernels.add().over(len.max(3)), (&x, buffer::zeroed(0))).spawn();
        assert_eq!(none.take().unwrap().len(), len.max(3));
        let more = stage.task(kernels.scale().over(len).returning([len + 5]), (z, 2.0)).spawn().take().unwrap();
        assert_eq!(more.len(), len + 5);
        check(&more[..len], &times(&ramp(len), 4.0));
    }
    Ok(())
}

pub(super) fn a_kernel_has_several_results(subject: &Subject) -> Proof {
    let (stage, kernels) = (subject.stage(), Kernels::of(subject));
    let both = Kernel::wgsl("both", kernels.0.both).takes::<(&Buffer<f32>,), (Buffer<f32>, Buffer<f32>)>();
    for lens in [[100, 100], [100, 7], [0, 100]] {
        let task = stage.task(both.over(100).returning(lens), (ramp(100),)).spawn();
        // The host has what it was made of, and both.
        let sums =
            stage.runtime.spawn(|both: &(Buffer<f32>, Buffer<f32>)| (both.0.iter().sum::<f32>(), both.1.iter().sum::<f32>()), (&task,));
        let (y, z) = &*task.fetch().unwrap();
        check(y, &ramp(100).iter().take(lens[0]).map(|x| x + 1.0).collect::<Vec<_>>());
        check(z, &times(&ramp(100)[..lens[1]], 2.0));
        assert_eq!(sums.take().unwrap(), (y.iter().sum(), z.iter().sum()));
    }
    Ok(())
}

pub(super) fn a_kernel_takes_numbers_of_every_type(subject: &Subject) -> Proof {
    let (stage, kernels) = (subject.stage(), Kernels::of(subject));
    let numbers = Kernel::wgsl("numbers", kernels.0.numbers).takes::<(f32, u32, i32, u64, i64, f64, poniard::F16), Buffer<f32>>();
    let one = |scale: f32| {
        // 0x4d00 is 20.
        let args = (0.5 * scale, 3_000_000_000, -3, 1 << 40, -(1 << 41), 1e30, poniard::F16(0x4d00));
        stage.task(numbers.over(1).returning([7]), args).spawn()
    };
    // Several at once: each has its own.
    let all: Vec<_> = [1.0, 2.0, 3.0].map(|scale| (scale, one(scale))).into();
    for (scale, task) in all {
        match task.take() {
            Ok(z) => check(&z, &[0.5 * scale, 3e9, -3.0, (1u64 << 40) as f32, -((1u64 << 41) as f32), 1e30, 20.0]),
            Err(error) if error.reason().contains("the device has no ") => {
                return Err(Unpromised { reason: "its device lacks some types" });
            }
            Err(error) => panic!("{error}"),
        }
    }
    Ok(())
}

pub(super) fn a_kernel_changes_in_place(subject: &Subject) -> Proof {
    let (stage, kernels) = (subject.stage(), Kernels::of(subject));
    let x = Mutable::new(ramp(500));
    let bump = || stage.task(kernels.bump().over(500), (write(&x),)).spawn().detach();
    bump();
    let before = stage.task(kernels.scale().over(500), (read(&x), 1.0)).spawn();
    bump();
    bump();
    stage.runtime.spawn(|x: &mut Buffer<f32>| x.iter_mut().for_each(|x| *x *= 10.0), (write(&x),)).detach();
    bump();
    let after = stage.task(kernels.scale().over(500), (read(&x), 1.0)).spawn();
    for _ in 0..50 {
        bump();
    }
    let expected = |change: fn(f32) -> f32| ramp(500).iter().map(|x| change(*x)).collect::<Vec<_>>();
    check(&before.fetch().unwrap(), &expected(|x| x + 1.0));
    check(&after.fetch().unwrap(), &expected(|x| (x + 3.0) * 10.0 + 1.0));
    check(&x.take().unwrap(), &expected(|x| (x + 3.0) * 10.0 + 51.0));
    Ok(())
}

pub(super) fn a_kernel_overwrites(subject: &Subject) -> Proof {
    let (stage, kernels) = (subject.stage(), Kernels::of(subject));
    let z = Mutable::new(buffer::from_fn(300, |_| -1.0f32));
    stage.task(kernels.copy_into().over(300), (ramp(300), overwrite(&z))).spawn().detach();
    let all = stage.task(kernels.scale().over(300), (read(&z), 1.0)).spawn();
    // With `write` what the kernel leaves alone stays.
    stage.runtime.spawn(|z: &mut Buffer<f32>| z[200] = 7.0, (write(&z),)).detach();
    stage.task(kernels.copy_into().over(100), (buffer::from_fn(100, |_| -2.0f32), write(&z))).spawn().detach();
    check(&all.fetch().unwrap(), &ramp(300));
    let z = z.take().unwrap();
    assert_eq!((z[0], z[99], z[100], z[199], z[200], z[299]), (-2.0, -2.0, 100.0, 199.0, 7.0, 299.0));
    Ok(())
}

pub(super) fn a_result_that_is_added_to_begins_at_zero(subject: &Subject) -> Proof {
    let (stage, kernels) = (subject.stage(), Kernels::of(subject));
    let count = Kernel::wgsl("count", kernels.0.count).takes::<(&Buffer<f32>,), Buffer<f32>>();
    for len in 1..20 {
        // Memory that has been used.
        drop(buffer::from_fn(1, |_| 5.0f32));
        stage.task(kernels.scale().over(1), (ramp(1), 1.0)).spawn().wait().unwrap();
        let z = stage.task(count.over(len).returning([1]), (ramp(len),)).spawn();
        check(&z.take().unwrap(), &[len as f32]);
    }
    Ok(())
}

pub(super) fn kernels_and_functions_take_turns(subject: &Subject) -> Proof {
    let (stage, kernels) = (subject.stage(), Kernels::of(subject));
    let less_one = |mut z: Buffer<f32>| {
        z.iter_mut().for_each(|z| *z -= 1.0);
        z
    };
    let first = stage.runtime.spawn(|| ramp(2000), ());
    let mut z = stage.task(kernels.scale().over(2000), (&first, 1.0)).spawn();
    let mut looks = Vec::new();
    for _ in 0..6 {
        z = stage.task(kernels.scale().over(2000), (&z, 2.0)).spawn();
        looks.push(stage.runtime.spawn(|z: &Buffer<f32>| z[1999], (&z,)));
        z = stage.runtime.spawn(less_one, (z,));
    }
    let (mut value, mut expected) = (999.0, Vec::new());
    for _ in 0..6 {
        expected.push(value * 2.0);
        value = value * 2.0 - 1.0;
    }
    let looks: Vec<_> = looks.into_iter().map(|look| look.take().unwrap()).collect();
    assert_eq!((looks, z.fetch().unwrap()[1999]), (expected, value));
    check(&first.fetch().unwrap(), &ramp(2000));
    Ok(())
}

pub(super) fn a_long_chain_of_kernels_gives_the_right_result(subject: &Subject) -> Proof {
    let (stage, kernels) = (subject.stage(), Kernels::of(subject));
    let (scale, add) = (kernels.scale(), kernels.add());
    let x = stage.runtime.value(ramp(100));
    let mut z = stage.task(scale.over(100), (&x, 0.0)).spawn();
    // Every other handle is dropped, so that memory is used again.
    for _ in 0..500 {
        z = stage.task(add.over(100), (z, &x)).spawn();
    }
    check(&z.take().unwrap(), &times(&ramp(100), 500.0));
    Ok(())
}

pub(super) fn layers_of_kernels_give_the_right_results(subject: &Subject) -> Proof {
    const WIDTH: usize = 8;
    let (stage, kernels) = (subject.stage(), Kernels::of(subject));
    let mut layer: Vec<Task<Buffer<f32>>> = (0..WIDTH).map(|index| stage.runtime.value(buffer::from_fn(70, |_| index as f32))).collect();
    let mut expected: Vec<f32> = (0..WIDTH).map(|index| index as f32).collect();
    for _ in 0..15 {
        layer = (0..WIDTH).map(|index| stage.task(kernels.add().over(70), (&layer[index], &layer[(index + 1) % WIDTH])).spawn()).collect();
        expected = (0..WIDTH).map(|index| expected[index] + expected[(index + 1) % WIDTH]).collect();
    }
    for (task, expected) in layer.into_iter().zip(expected) {
        check(&task.take().unwrap(), &[expected; 70]);
    }
    Ok(())
}

pub(super) fn many_threads_spawn_kernels(subject: &Subject) -> Proof {
    let (stage, kernels) = (subject.stage(), Kernels::of(subject));
    let x = stage.runtime.value(ramp(200));
    let spawn = &|spawner: usize| {
        let tasks: Vec<_> =
            (0..250).map(|number| stage.task(kernels.scale().over(200), (&x, (number * 4 + spawner) as f32)).spawn()).collect();
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.take().unwrap()[199], 199.0 * (number * 4 + spawner) as f32);
        }
    };
    std::thread::scope(|scope| {
        let spawners: Vec<_> = (0..4).map(|spawner| scope.spawn(move || spawn(spawner))).collect();
        for spawner in spawners {
            // What it says is the reason.
            spawner.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
    Ok(())
}

pub(super) fn a_refused_kernel_disturbs_no_others(subject: &Subject) -> Proof {
    let (stage, kernels) = (subject.stage(), Kernels::of(subject));
    for round in 1..4 {
        let factor = round as f32;
        // Neither those before it, nor those that use the same buffers, nor those behind.
        let x = stage.runtime.value(ramp(400));
        let before = stage.task(kernels.scale().over(400), (ramp(400), factor)).spawn();
        let refused = stage.task(kernels.refused().over(400), (&x,)).spawn();
        let beside = stage.task(kernels.scale().over(400), (&x, factor)).spawn();
        let on_it = stage.task(kernels.scale().over(400), (&refused, factor)).spawn();
        let of_before = stage.task(kernels.refused().over(400), (&before,)).spawn();
        let after = stage.task(kernels.scale().over(400), (&before, factor)).spawn();
        let error = refused.wait().expect_err("no device can run it");
        assert!(matches!(error.kind(), FailureKind::Processor { .. }), "{error}");
        assert!(matches!(on_it.fetch().expect_err("it needs that").kind(), FailureKind::Dependency(_)));
        of_before.wait().expect_err("no device can run it");
        for (task, factor) in [(before, factor), (beside, factor), (after, factor * factor)] {
            check(&task.fetch().unwrap(), &times(&ramp(400), factor));
        }
    }
    Ok(())
}

pub(super) fn a_kernel_whose_argument_failed_is_not_run(subject: &Subject) -> Proof {
    let (stage, kernels) = (subject.stage(), Kernels::of(subject));
    let culprit = stage.runtime.task(|| Err::<Buffer<f32>, _>("no picture"), ()).name("culprit").spawn();
    let next = stage.task(kernels.scale().over(10), (&culprit, 2.0)).spawn();
    let last = stage.task(kernels.add().over(10), (&next, &next)).spawn();
    let error = last.fetch().expect_err("it depends on a task that failed");
    assert!(matches!(error.kind(), FailureKind::Dependency(_)), "{error}");
    assert_eq!((error.root_task(), error.reason().as_str()), ("culprit", "no picture"));
    assert_eq!(stage.task(kernels.scale().over(10), (ramp(10), 2.0)).spawn().take().unwrap()[9], 18.0);
    Ok(())
}

pub(super) fn a_cancelled_kernel_has_no_result(subject: &Subject) -> Proof {
    let (stage, kernels) = (subject.stage(), Kernels::of(subject));
    // Before it is ready, when nothing of it was begun; and when that may be so.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let gate = stage.runtime.spawn(
        move || {
            // Whoever lets it go, or is gone.
            let _ = wait.recv();
            ramp(100)
        },
        (),
    );
    let task = stage.task(kernels.scale().over(100), (&gate, 2.0)).spawn();
    let behind = stage.task(kernels.scale().over(100), (&task, 2.0)).spawn();
    assert!(task.cancel());
    drop(go);
    assert!(matches!(task.fetch().expect_err("it is cancelled").kind(), FailureKind::Cancelled));
    assert!(matches!(behind.fetch().expect_err("it needs that").root().kind(), FailureKind::Cancelled));
    for _ in 0..20 {
        let task = stage.task(kernels.scale().over(100), (&gate, 2.0)).spawn();
        let beside = stage.task(kernels.scale().over(100), (&gate, 3.0)).spawn();
        if task.cancel() {
            assert!(matches!(task.fetch().expect_err("it is cancelled").kind(), FailureKind::Cancelled));
        } else {
            assert_eq!(task.fetch().unwrap()[99], 198.0);
        }
        assert_eq!(beside.fetch().unwrap()[99], 297.0);
    }
    Ok(())
}

pub(super) fn two_runtimes_have_kernels_at_once(subject: &Subject) -> Proof {
    let (one, other, kernels) = (subject.stage(), subject.stage(), Kernels::of(subject));
    let x = one.task(kernels.scale().over(100), (ramp(100), 2.0)).spawn();
    let mut tasks = Vec::new();
    for number in 0..50 {
        let (factor, stage) = (number as f32, if number % 2 == 0 { &one } else { &other });
        let y = stage.task(kernels.scale().over(100), (&x, factor)).spawn();
        let back = (if number % 2 == 0 { &other } else { &one }).task(kernels.add().over(100), (&y, &x)).spawn();
        tasks.push((factor, back));
    }
    for (factor, task) in tasks {
        check(&task.take().unwrap(), &times(&ramp(100), 2.0 * factor + 2.0));
    }
    drop(one);
    check(&other.task(kernels.scale().over(100), (&x, 2.0)).spawn().take().unwrap(), &times(&ramp(100), 4.0));
    Ok(())
}

pub(super) fn the_end_waits_for_kernels_whose_results_outlive_it(subject: &Subject) -> Proof {
    let (stage, kernels) = (subject.stage(), Kernels::of(subject));
    let x = stage.runtime.spawn(|| ramp(3000), ());
    let mut z = stage.task(kernels.scale().over(3000), (&x, 1.0)).spawn();
    let mut kept = Vec::new();
    for _ in 0..100 {
        z = stage.task(kernels.add().over(3000), (z, &x)).spawn();
        kept.push(z.clone());
    }
    let place = Mutable::new(ramp(100));
    for _ in 0..20 {
        stage.task(kernels.bump().over(100), (write(&place),)).spawn().detach();
    }
    drop(stage);
    for (z, count) in kept.iter().zip(2..) {
        check(&z.fetch().unwrap(), &times(&ramp(3000), count as f32));
    }
    assert_eq!(place.take().unwrap()[99], 119.0);
    Ok(())
}

pub(super) fn kernels_give_no_warning(subject: &Subject) -> Proof {
    let (stage, kernels) = (subject.stage(), Kernels::of(subject));
    let tasks: Vec<_> = (0..100).map(|number| stage.task(kernels.scale().over(100), (ramp(100), number as f32)).spawn()).collect();
    for task in tasks {
        task.wait().unwrap();
    }
    let handle = stage.runtime.handle();
    drop(stage);
    let messages = handle.report().messages;
    let is_wrong = |message: &String| message.starts_with("warning: ") && !message.contains("the validation layer is not installed");
    assert!(!messages.iter().any(is_wrong), "{messages:?}");
    Ok(())
}
