//! Runtimes with devices that a test tells what to do ([`crate::device`]), and kernels for them.

use std::sync::Arc;

use poniard::{Buffer, Kernel, Runtime, buffer};

use crate::device::{FakeDevice, FakeDevices};

/// z = a x
pub const SCALE: &str = "scale\nin x f32\nout z f32\nscalar a f32";
/// z = x + y
pub const ADD: &str = "add\nin x f32\nin y f32\nout z f32";
/// c = c + a b, square matrices
pub const MULTIPLY: &str = "multiply\nin a f32\nin b f32\ninout c f32";
/// x = x + 1, in place
pub const BUMP: &str = "bump\ninout x f32";

/// The kernel of [`SCALE`].
pub type Scale = Kernel<fn(&'static Buffer<f32>, f32) -> Buffer<f32>>;

/// [`SCALE`], for devices only.
pub fn scale() -> Scale {
    Kernel::wgsl("scale", SCALE).takes::<(&Buffer<f32>, f32), Buffer<f32>>()
}

/// The same with a body for the host, which says so by a sign.
pub fn scale_or_host() -> Scale {
    Kernel::wgsl("scale", SCALE).host(|x: &Buffer<f32>, a: f32| buffer::from_fn(x.len(), |i| -a * x[i]))
}

/// 0, 1, 2, ...
pub fn ramp(len: usize) -> Buffer<f32> {
    buffer::from_fn(len, |i| i as f32)
}

/// A device of 1 MiB.
pub fn small() -> FakeDevice {
    FakeDevice::new("A device", 1 << 20)
}

/// Two threads, and these devices.
///
/// # Panics
/// When no thread can be had.
pub fn runtime_with(devices: &FakeDevices) -> Runtime {
    Runtime::builder().threads(2).linked(devices.clone()).devices_always(true).models(None).build().expect("threads")
}

/// A runtime with one device, which the backend has, too.
///
/// # Panics
/// As [`runtime_with`].
pub fn one(device: FakeDevice) -> (Runtime, Arc<FakeDevice>, FakeDevices) {
    let devices = FakeDevices::new([device]);
    (runtime_with(&devices), Arc::clone(&devices.devices[0]), devices)
}
