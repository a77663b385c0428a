//! Samples without a word about where, beside every choice of backends by hand: `automatic-*`.

use std::io::BufWriter;
use std::path::Path;

use poniard::{Runtime, RuntimeBuilder};
use poniard_bench::{Effort, Figure, System};

use crate::sample_run::{SampleRun, lacks_device, with_devices};
use crate::sleeps::warm;

/// Threads, and worker processes.
const WORKERS: usize = 2;
/// Runs before those that count, for what has to be learnt.
const LESSONS: usize = 3;

/// Pixels of an edge of the picture.
const EDGE: u32 = 1536;

/// Writes a picture that is quickly read.
fn write_picture(file: &Path) {
    let bytes: Vec<u8> = (0..3 * EDGE * EDGE).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut encoder = png::Encoder::new(BufWriter::new(std::fs::File::create(file).expect("a file")), EDGE, EDGE);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::NoCompression);
    encoder.write_header().expect("room for a header").write_image_data(&bytes).expect("room for a picture");
}

/// A sample, of a size that takes some 200 ms on two cores at least.
pub(crate) fn sized(name: &str, folder: &Path) -> SampleRun {
    let run = SampleRun::of(name);
    match name {
        "convolve" => {
            let picture = folder.join("picture.png");
            write_picture(&picture);
            SampleRun { inputs: vec![picture], kernel: Some("blur"), tile: Some(128), ..run }
        }
        "matmul" => SampleRun { size: Some(1024), tile: Some(256), ..run },
        "cholesky" => SampleRun { size: Some(2048), tile: Some(256), ..run },
        "mixed" => SampleRun { size: Some(1 << 16), generations: Some(24), ..run },
        "imbalance" => SampleRun { size: Some(12_000), ..run },
        _ => SampleRun { size: Some(4096), tile: Some(256), ..run },
    }
}

/// What a user has who says nothing; in tests and here software devices count as real ones.
fn automatic(has_device: bool) -> RuntimeBuilder {
    let builder = Runtime::builder().threads(WORKERS);
    if has_device { with_devices(builder).setting("placement.software", "true") } else { builder }
}

pub(crate) fn systems(name: &str, effort: Effort) -> Vec<System<'static>> {
    let folder = tempfile::tempdir().expect("a folder");
    let run = sized(name, folder.path());
    let lack = if run.has_kernels() { lacks_device() } else { Some("no kernels".into()) };
    let has_device = lack.is_none();
    let lessons = if effort == Effort::Quick { 1 } else { LESSONS };
    let of = |name: &'static str, runtime: Runtime, takes_software: bool, note: String| {
        let run = run.clone();
        (0..lessons).for_each(|_| drop(run.run(&runtime, takes_software)));
        System::new(name, note, move || run.run(&runtime, takes_software).1.as_secs_f64() * 1e3)
    };
    let threads = Runtime::builder().threads(WORKERS).models(None).build().expect("a runtime");
    let processes = warm(Runtime::builder().backend("process"), WORKERS);
    let mut systems = vec![
        of("threads", threads, false, format!("{WORKERS} threads")),
        of("processes", processes, false, format!("{WORKERS} processes")),
        of("both", warm(Runtime::builder().threads(WORKERS), WORKERS), false, String::new()),
    ];
    if has_device {
        let always = with_devices(Runtime::builder().threads(WORKERS)).devices_always(true).models(None).build().expect("a runtime");
        systems.push(of("vulkan", always, false, format!("launches always on the device; {WORKERS} threads")));
    }
    let note = lack.map_or_else(|| "threads, processes and a device".to_owned(), |_| "threads and processes".to_owned());
    systems.push(of("poniard", warm(automatic(has_device), WORKERS), true, note));
    systems.push(System::new("poniard-first", "a new runtime that has measured nothing", move || {
        let _ = &folder;
        run.run(&warm(automatic(has_device), WORKERS), true).1.as_secs_f64() * 1e3
    }));
    systems
}

/// Compares with the best that is chosen by hand.
pub(crate) fn compare(figures: &mut [Figure]) {
    let by_hand = figures.iter().filter(|figure| !figure.system.starts_with("poniard"));
    let best = by_hand.map(|figure| figure.min).fold(f64::INFINITY, f64::min);
    for figure in figures {
        figure.ratio = Some(figure.min / best);
    }
}
