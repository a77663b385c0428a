//! The kernels of the samples, without a device: their code for devices is valid, and their bodies for the host do what they say.

use std::process::Command;

use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use poniard::buffer;
use poniard_tests::kernels::{self, Agreement, SHADERS, Trial, trials};

/// SPIR-V of a kernel, as a backend has it made.
fn compile(source: &str) -> Vec<u32> {
    let module = naga::front::wgsl::parse_str(source).unwrap_or_else(|error| panic!("{}", error.emit_to_string(source)));
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::IMMEDIATES);
    let info = validator.validate(&module).unwrap_or_else(|error| panic!("{}", error.emit_to_string(source)));
    let policies =
        BoundsCheckPolicies { index: BoundsCheckPolicy::Restrict, buffer: BoundsCheckPolicy::Restrict, ..BoundsCheckPolicies::default() };
    let options = spv::Options { lang_version: (1, 3), bounds_check_policies: policies, ..spv::Options::default() };
    spv::write_vec(&module, &info, &options, None).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_shaders_are_valid() {
    for shader in SHADERS {
        let words = compile(shader.source);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kernel.spv");
        std::fs::write(&file, words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
        match Command::new("spirv-val").args(["--target-env", "vulkan1.2"]).arg(&file).output() {
            Ok(output) => assert!(output.status.success(), "{}: {}", shader.name, String::from_utf8_lossy(&output.stderr)),
            Err(error) => {
                eprintln!("the SPIR-V is not checked: spirv-val: {error}");
                return;
            }
        }
    }
}

#[test]
fn every_shader_is_tried() {
    let trials = trials();
    for shader in SHADERS {
        assert!(trials.iter().filter(|trial| trial.shader == *shader).count() >= 5, "{}", shader.name);
    }
    // As many words as the shaders are told.
    for trial in &trials {
        let operands = trial.shader.source.matches("var<storage").count();
        assert_eq!((trial.operands.len(), trial.operands.last().map(Vec::len)), (operands, Some(trial.expected.len())), "{}", trial.size);
    }
}

#[test]
fn comparing_finds_what_differs() {
    let trial = |agreement| Trial {
        shader: kernels::SAXPY,
        size: "2".into(),
        operands: Vec::new(),
        scalars: Vec::new(),
        invocations: [2, 1, 1],
        expected: vec![0x0102_0304, 2f32.to_bits()],
        agreement,
    };
    let exact = trial(Agreement::Exact);
    assert_eq!(exact.compare(&exact.expected), Ok(0.0));
    assert_eq!(exact.compare(&[0x0102_0304]).unwrap_err(), "saxpy of 2: 1 words where 2 are expected");
    assert_eq!(
        exact.compare(&[0x0102_0304, 3f32.to_bits()]).unwrap_err(),
        "saxpy of 2: element 1 is 0x40400000, and 0x40000000 on the host"
    );
    let levels = trial(Agreement::Levels(2));
    assert_eq!(levels.compare(&[0x0002_0305, 2f32.to_bits()]), Ok(0.5));
    assert!(levels.compare(&[0x0105_0304, 2f32.to_bits()]).is_err());
    let within = trial(Agreement::Within(vec![0.0, 0.5]));
    assert_eq!(within.compare(&[0x0102_0304, 2.25f32.to_bits()]), Ok(0.5));
    let error = within.compare(&[0x0102_0304, 2.75f32.to_bits()]).unwrap_err();
    assert_eq!(error, "saxpy of 2: element 1 is 2.75, and 2 on the host");
    assert!(within.compare(&[0x0102_0304, f32::NAN.to_bits()]).is_err());
}

#[test]
fn host_bodies_do_what_they_say() {
    let floats = |values: &[f32]| buffer::from_slice(values);
    assert_eq!(kernels::saxpy(&floats(&[1.0, 2.0]), &floats(&[10.0, 20.0]), 3.0)[..], [13.0, 26.0]);
    assert_eq!(kernels::transpose(&floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), 2, 3)[..], [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    let product = kernels::matmul(&floats(&[1.0, 2.0, 3.0, 4.0]), &floats(&[5.0, 6.0, 7.0, 8.0]), 2, 2, 2);
    assert_eq!(product[..], [19.0, 22.0, 43.0, 50.0]);
    // Whole numbers, so that the order does not matter.
    let numbers = buffer::from_fn(10_000, |index| (index % 5) as f32);
    let sums = kernels::reduce(&kernels::reduce(&numbers));
    assert_eq!((kernels::reduce(&numbers).len(), &sums[..]), (3, &[20_000.0][..]));
    assert_eq!(kernels::reduce(&floats(&[]))[..], [0.0]);
    let bins = kernels::histogram(&buffer::from_slice(&[0x0201, 0x0301, 0x0205]), buffer::from_fn(512, |_| 1), 2);
    assert_eq!((bins[1], bins[5], bins[0], bins[256 + 2], bins[256 + 3], bins.iter().sum::<u32>()), (3, 2, 1, 3, 2, 512 + 6));
}

#[test]
fn a_blinker_turns() {
    // On a torus, and across its edge.
    let mut cells = vec![0; 30];
    for column in [5, 0, 1] {
        cells[2 * 6 + column] = 1;
    }
    let upright = kernels::life(&buffer::from_slice(&cells), 6, 5, 1 << 3, 1 << 2 | 1 << 3);
    let alive: Vec<usize> = (0..30).filter(|cell| upright[*cell] == 1).collect();
    assert_eq!(alive, [6, 12, 18]);
    assert_eq!(kernels::life(&upright, 6, 5, 1 << 3, 1 << 2 | 1 << 3)[..], cells);
}

#[test]
fn a_filter_keeps_what_it_is_not_for() {
    let pixels = buffer::from_fn(12, |index| (index as u32 * 20) * 0x0101_0101);
    let filter = kernels::Filter { width: 4, height: 3, edge: 3, filters: 1, colours: 3 };
    let moved = buffer::from_slice(&[0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
    let result = kernels::convolve(&pixels, &moved, filter);
    // The one to the right, and at the edge the same; the last channel stays.
    let expected: Vec<u32> =
        (0..12).map(|index| (if index % 4 == 3 { index } else { index + 1 }) * 20 * 0x0001_0101 + index * 20 * 0x0100_0000).collect();
    assert_eq!(result[..], expected);
    // Halves away from zero, below zero and above the most.
    let single = |weight: f32| {
        let filter = kernels::Filter { width: 1, height: 1, edge: 1, filters: 1, colours: 1 };
        kernels::convolve(&buffer::from_slice(&[5]), &buffer::from_slice(&[weight]), filter)[0]
    };
    assert_eq!([0.5, -0.5, 100.0, 0.29].map(single), [3, 0, 255, 1]);
}

#[test]
fn points_are_spread_evenly() {
    let n = 1 << 22;
    let inside: u32 = kernels::estimate_pi(n, 7, 1).iter().sum();
    let estimate = 4.0 * f64::from(inside) / f64::from(n);
    // Five standard deviations.
    assert!((estimate - std::f64::consts::PI).abs() < 0.004, "{estimate}");
    assert_ne!(kernels::estimate_pi(n, 7, 2)[..], kernels::estimate_pi(n, 7, 1)[..]);
    assert_ne!(kernels::estimate_pi(n, 8, 1)[..], kernels::estimate_pi(n, 7, 1)[..]);
    assert_eq!(kernels::estimate_pi(0, 7, 1)[..], [0]);
}
