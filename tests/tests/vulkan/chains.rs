//! Kernels behind kernels, and tasks of the host among them.

use poniard::{Buffer, Kernel, buffer};

use crate::stand::{SPLIT, Stand, WAYS};

const SAXPY: &str = "
    struct Numbers { n: u32, a: f32 }
    var<immediate> p: Numbers;
    @group(0) @binding(0) var<storage> x: array<f32>;
    @group(0) @binding(1) var<storage> y: array<f32>;
    @group(0) @binding(2) var<storage, read_write> z: array<f32>;
    @compute @workgroup_size(64)
    fn saxpy(@builtin(global_invocation_id) id: vec3<u32>) {
        if id.x < p.n { z[id.x] = p.a * x[id.x] + y[id.x]; }
    }
";

#[test]
fn a_chain_of_kernels_and_host_tasks() {
    for way in WAYS {
        let Some(stand) = Stand::new(way) else { return };
        let runtime = &stand.runtime;
        let saxpy = Kernel::wgsl("saxpy", SAXPY).takes::<(&Buffer<f32>, &Buffer<f32>, u32, f32), Buffer<f32>>();
        let x = runtime.spawn(|| buffer::from_fn(10_000, |i| i as f32), ());
        let mut z = runtime.spawn(saxpy.over(10_000), (&x, &x, 10_000, 1.0));
        for _ in 0..100 {
            z = runtime.spawn(saxpy.over(10_000), (&x, &z, 10_000, 1.0));
        }
        let doubled = runtime.spawn(|z: &Buffer<f32>| z.iter().map(|z| f64::from(*z)).sum::<f64>(), (&z,));
        assert_eq!(z.fetch().expect("runs")[9_999], 9_999.0 * 102.0);
        assert_eq!(*doubled.fetch().expect("runs"), 49_995_000.0 * 102.0);
        // Up once, and down at the end and where the lineage is cut.
        assert_eq!(stand.counted("transfer submissions"), if way == SPLIT { 3 } else { 0 });
        stand.finish();
    }
}
