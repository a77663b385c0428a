//! Kernels whose buffers are reached by their addresses.

use poniard_interface::{Access, Binding, ElementKind, Source};
use spirv::{Decoration, Op};

use super::super::{Target, addresses, addresses_offset, compile, inspect, pushed_bytes};
use super::{GOOD, MATMUL, SAXPY, targets, validate, words};

/// Masks of so many buffers: all, each alone, every second one.
fn masks(count: usize) -> impl Iterator<Item = u32> {
    let all = u32::MAX.checked_shr(32 - count as u32).unwrap_or(0);
    [all, all & 0x5555_5555, all & 0xaaaa_aaaa].into_iter().chain((0..count).map(|index| 1 << index)).filter(|mask| *mask != 0)
}

#[test]
fn what_is_rewritten_is_valid_and_binds_the_rest() {
    for (text, _) in GOOD {
        let interface = inspect(Source::Wgsl(text)).unwrap();
        for target in targets() {
            let bound = words::bindings(&compile(Source::Wgsl(text), &target).unwrap());
            for addressed in masks(interface.bindings.len()) {
                let target = Target { addressed, ..target };
                let words = compile(Source::Wgsl(text), &target).unwrap_or_else(|error| panic!("{text}\n{target:?}: {error}"));
                validate(&words, &format!("{text}\n{target:?}"));
                let places = interface.bindings.iter().enumerate().filter(|(index, _)| addressed >> index & 1 == 0);
                let left: Vec<u32> = places.map(|(_, binding)| binding.number).filter(|number| bound.contains(number)).collect();
                assert_eq!(words::bindings(&words), left, "{text}\n{target:?}");
            }
        }
    }
}

#[test]
fn the_checks_of_indices_stay() {
    let count = |addressed, unchecked, op| {
        words::count(&compile(Source::Wgsl(MATMUL), &Target { addressed, unchecked, ..Target::default() }).unwrap(), op)
    };
    // Of three buffers, those that are not bound have their lengths elsewhere.
    for (addressed, left) in [(0b000, 3), (0b001, 2), (0b101, 1), (0b111, 0)] {
        assert_eq!(count(addressed, false, Op::ArrayLength), left);
        assert_eq!(count(addressed, true, Op::ArrayLength), 0);
        // `min` of each index and the last one.
        assert_eq!(count(addressed, false, Op::ExtInst), count(0, false, Op::ExtInst));
    }
    // A pointer for each buffer, a number for each check.
    assert_eq!(count(0b111, false, Op::Load), count(0, false, Op::Load) + 3 + 3);
}

#[test]
fn addresses_lie_behind_scalars_and_parts() {
    for (text, parts, addressed, offset, len) in
        [(SAXPY, false, 0b111, 8, 44), (SAXPY, false, 0b010, 8, 20), (SAXPY, true, 0b011, 48, 72), (MATMUL, false, 0b100, 16, 28)]
    {
        let (interface, target) = (inspect(Source::Wgsl(text)).unwrap(), Target { parts, addressed, ..Target::default() });
        assert_eq!((addresses_offset(&interface, &target), pushed_bytes(&interface, &target)), (offset, len), "{text}\n{target:?}");
        let offsets = words::offsets_of_push_constants(&compile(Source::Wgsl(text), &target).unwrap());
        let count = addressed.count_ones();
        let expected = (0..count).map(|at| offset + 8 * at).chain((0..count).map(|at| offset + 8 * count + 4 * at));
        assert_eq!(offsets[offsets.len() - 2 * count as usize..], expected.collect::<Vec<_>>(), "{text}\n{target:?}");
    }
}

#[test]
fn what_is_said_of_a_variable_is_said_of_what_its_pointer_reaches() {
    let text = "
        @group(0) @binding(0) @coherent @volatile var<storage, read_write> x: array<u32>;
        @group(0) @binding(1) var<storage, read> y: array<u32>;
        @compute @workgroup_size(1) fn f() { x[0] = x[1] + y[0]; }";
    let Ok(words) = compile(Source::Wgsl(text), &Target { addressed: 0b11, ..Target::default() }) else { panic!("it compiles") };
    validate(&words, text);
    let of_members = words::member_decorations(&words);
    assert!([Decoration::Coherent, Decoration::Volatile].iter().all(|said| of_members.contains(&(*said as u32))), "{of_members:?}");
}

#[test]
fn a_buffer_is_counted_in_elements_and_refused_with_numbers() {
    let array = |element_bytes, len_bytes_min| Binding {
        name: "x".to_owned(),
        number: 0,
        element: ElementKind::F32,
        element_bytes,
        len_bytes_min,
        is_sized: false,
        access: Access::Read,
    };
    let of = |binding: &Binding, address, len_bytes| addresses([(binding, address, len_bytes)].into_iter());
    let words = |address: u64, count: u32| Ok([&address.to_le_bytes()[..], &count.to_le_bytes()].concat());
    assert_eq!(of(&array(4, 4), 0x10, 1 << 33), words(0x10, 1 << 31));
    assert_eq!(of(&array(8, 24), 0x1_0000_0000, 24 + 7), words(0x1_0000_0000, 1), "16 bytes stand before the array");
    assert_eq!(of(&array(8, 24), 0, 24 + 8), words(0, 2));
    let refused = |binding: &Binding, address, len_bytes| of(binding, address, len_bytes).unwrap_err();
    assert_eq!(
        refused(&array(4, 4), 0, (1 << 33) + 4),
        "buffer `x`: it has 2147483649 elements, and a kernel tells at most 2147483648 apart"
    );
    assert_eq!(refused(&array(4, 8), 0, 4), "buffer `x`: it has 4 bytes, and the kernel takes 8 at least");
    assert!(refused(&array(4, 4), 24, 4).contains("0x18, which is no multiple of 16"));
}

#[test]
fn spirv_is_not_rewritten() {
    let words = compile(Source::Wgsl(SAXPY), &Target::default()).unwrap();
    let error = compile(Source::SpirV(&words), &Target { addressed: 1, ..Target::default() }).unwrap_err().reason;
    assert!(error.starts_with("a kernel in SPIR-V reaches no buffer that is longer than the device binds: give it as WGSL"), "{error}");
}
