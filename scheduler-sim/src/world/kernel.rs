//! Kernels of a world: their sources, which its devices read, and what they do.
//!
//! A source is a name and then a line for each buffer: `read`, `change` or `make`. All take the number of their task besides, and write its value into what they change or make.

use poniard::{Access, Binding, Buffer, ElementKind, InspectError, Kernel, KernelInterface, Scalar, Source};

use super::scene::Scene;
use super::work::{result, value_of, word};

/// Makes a buffer of nothing.
pub(super) type Make = Kernel<fn(u64) -> Buffer<u64>>;
/// Makes one of another one.
pub(super) type Map = Kernel<fn(&'static Buffer<u64>, u64) -> Buffer<u64>>;
/// Makes one of two.
pub(super) type Join = Kernel<fn(&'static Buffer<u64>, &'static Buffer<u64>, u64) -> Buffer<u64>>;
/// Changes one.
pub(super) type Change = Kernel<fn(&'static mut Buffer<u64>, u64)>;
/// Changes one by another one.
pub(super) type Merge = Kernel<fn(&'static mut Buffer<u64>, &'static Buffer<u64>, u64)>;

/// All kernels, with bodies for the host or without.
pub(super) struct Kernels {
    pub(super) make: [Make; 2],
    pub(super) map: [Map; 2],
    pub(super) join: [Join; 2],
    pub(super) change: [Change; 2],
    pub(super) merge: [Merge; 2],
}

impl Kernels {
    /// Those without bodies for the host first.
    pub(super) fn new() -> Self {
        let make = || Kernel::wgsl("make", "make\nmake");
        let map = || Kernel::wgsl("map", "map\nread\nmake");
        let join = || Kernel::wgsl("join", "join\nread\nread\nmake");
        let change = || Kernel::wgsl("change", "change\nchange");
        let merge = || Kernel::wgsl("merge", "merge\nchange\nread");
        let on_host = |task: u64, inputs: &[&Buffer<u64>]| Scene::here().make_on_host(task as u32, inputs);
        let in_place = |task: u64, cell: &mut Buffer<u64>, inputs: &[&Buffer<u64>]| {
            Scene::here().change_on_host(task as u32, cell, inputs);
        };
        Self {
            make: [make().takes::<(u64,), Buffer<u64>>(), make().host(move |task: u64| on_host(task, &[]))],
            map: [map().takes::<(&Buffer<u64>, u64), Buffer<u64>>(), map().host(move |x: &Buffer<u64>, task: u64| on_host(task, &[x]))],
            join: [
                join().takes::<(&Buffer<u64>, &Buffer<u64>, u64), Buffer<u64>>(),
                join().host(move |x: &Buffer<u64>, y: &Buffer<u64>, task: u64| on_host(task, &[x, y])),
            ],
            change: [
                change().takes::<(&mut Buffer<u64>, u64), ()>(),
                change().host(move |cell: &mut Buffer<u64>, task: u64| in_place(task, cell, &[])),
            ],
            merge: [
                merge().takes::<(&mut Buffer<u64>, &Buffer<u64>, u64), ()>(),
                merge().host(move |cell: &mut Buffer<u64>, x: &Buffer<u64>, task: u64| in_place(task, cell, &[x])),
            ],
        }
    }
}

/// What a source takes.
///
/// # Errors
/// [`InspectError`]: a line says none of `read`, `change` and `make`.
pub(super) fn inspect(source: Source<'_>) -> Result<Option<KernelInterface>, InspectError> {
    let Source::Wgsl(text) = source else { return Ok(None) };
    let mut interface = KernelInterface { workgroup: [1; 3], scalars_bytes: 8, ..KernelInterface::default() };
    interface.scalars.push(Scalar { name: "task".into(), kind: ElementKind::U64, offset_bytes: 0 });
    for (line, number) in text.lines().skip(1).zip(0..) {
        let access = match line {
            "read" => Access::Read,
            "change" => Access::Write,
            "make" => Access::Overwrite,
            _ => return Err(InspectError::new(format!("line {}: `{line}` is none of read, change, make", number + 2))),
        };
        interface.bindings.push(Binding {
            name: format!("{line}-{number}"),
            number,
            element: ElementKind::U64,
            element_bytes: 8,
            len_bytes_min: 8,
            is_sized: false,
            access,
        });
    }
    Ok(Some(interface))
}

/// What a launch writes, made of what its buffers have that it reads. Of what holds no value it makes none: it may belong to a launch that was refused, and be of no interest.
pub(super) fn compute(task: u32, inputs: &[&[u8]]) -> Option<u64> {
    let value = |bytes: &&[u8]| value_of(bytes.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_ne_bytes)));
    let values: Option<Vec<u64>> = inputs.iter().map(value).collect();
    Some(result(task, values?.into_iter()))
}

/// The bytes of a buffer that holds a value, or none.
pub(super) fn bytes_of(value: Option<u64>, len_bytes: usize) -> Vec<u8> {
    let words = (0..len_bytes / 8).map(|index| value.map_or(index as u64 + 1, |value| word(value, index)));
    words.flat_map(u64::to_ne_bytes).collect()
}
