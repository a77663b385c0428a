//! Samples without a word about where, beside every choice of backends by hand: `automatic-*`.

use std::io::BufWriter;
use std::path::PathBuf;

use poniard::Runtime;
use poniard_bench::{Effort, Figure, System};

use crate::sample_run::{On, SampleRun, lacks_device, with_devices};
use crate::sleeps::warm;

/// Threads, and worker processes.
const WORKERS: usize = 2;
/// Runs before those that count, for what has to be learnt.
pub(crate) const LESSONS: usize = 3;

/// A device that takes so long is measured once.
const SLOW_MS: f64 = 1000.0;

/// Pixels of an edge of the picture.
const EDGE: u32 = 3072;

/// A picture that is quickly read, beside this program.
fn picture() -> PathBuf {
    let file = std::env::current_exe().expect("this program").with_file_name("picture.png");
    let bytes: Vec<u8> = (0..3 * EDGE * EDGE).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut encoder = png::Encoder::new(BufWriter::new(std::fs::File::create(&file).expect("a file")), EDGE, EDGE);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::NoCompression);
    encoder.write_header().expect("room for a header").write_image_data(&bytes).expect("room for a picture");
    file
}

/// A sample, of a size that takes some 200 ms on two cores at least.
pub(crate) fn sized(name: &str) -> SampleRun {
    let run = SampleRun::of(name);
    match name {
        "convolve" => SampleRun { inputs: vec![picture()], kernel: Some("blur"), tile: Some(256), ..run },
        "matmul" => SampleRun { size: Some(1024), tile: Some(256), ..run },
        "cholesky" => SampleRun { size: Some(3072), tile: Some(256), ..run },
        // Loops of less than 65536 steps: Mesa's software device leaves longer ones.
        "mixed" => SampleRun { size: Some(1000), generations: Some(1000), ..run },
        "imbalance" => SampleRun { size: Some(120_000), ..run },
        _ => SampleRun { size: Some(8192), tile: Some(512), ..run },
    }
}

/// What a user has who says nothing; here software devices count as real ones.
fn automatic(has_device: bool) -> Runtime {
    let builder = Runtime::builder().threads(WORKERS);
    warm(if has_device { with_devices(builder).setting("placement.software", "true") } else { builder }, WORKERS)
}

/// A sample on a runtime that lives on, which has learnt what there is to learn, and comes to the right result there.
fn learnt(name: &'static str, note: impl Into<String>, run: &SampleRun, lessons: usize, runtime: Runtime, on: On) -> System<'static> {
    let run = run.clone();
    run.outcome(&runtime, on);
    let time_ms = move || run.time(&runtime, on).as_secs_f64() * 1e3;
    let mut last_ms = 0.0;
    (0..lessons).for_each(|_| last_ms = time_ms());
    System::new(name, note, move || {
        // A software device that is as slow as that is no rival, and would take most of the benchmark's time.
        if on != On::Device || last_ms < SLOW_MS {
            last_ms = time_ms();
        }
        last_ms
    })
}

pub(crate) fn systems(name: &str, effort: Effort) -> Vec<System<'static>> {
    let run = sized(name);
    let has_device = run.sample.kernels && lacks_device().is_none();
    let lessons = if has_device && effort == Effort::Thorough { LESSONS } else { 1 };
    let threads = Runtime::builder().threads(WORKERS).models(None).build().expect("a runtime");
    let processes = warm(Runtime::builder().backend("process"), WORKERS);
    let mut systems = vec![
        learnt("threads", format!("{WORKERS} threads"), &run, 1, threads, On::Host),
        learnt("processes", format!("{WORKERS} processes"), &run, 1, processes, On::Host),
    ];
    if has_device {
        systems.push(learnt("both", "the two, without the device", &run, 1, automatic(false), On::Host));
        let builder = with_devices(Runtime::builder().threads(WORKERS)).devices_always(true);
        let always = builder.models(None).build().expect("a runtime");
        systems.push(learnt("vulkan", "launches always on the device", &run, 1, always, On::Device));
    }
    let all = if has_device { "threads, processes and a device" } else { "threads and processes" };
    systems.push(learnt("poniard", all, &run, lessons, automatic(has_device), On::Anything));
    if has_device {
        systems.push(System::new("poniard-first", "a new runtime with a warm pool, which has measured nothing", move || {
            let runtime = automatic(true);
            // Functions are not what kernels are: no model learns from this.
            run.time(&runtime, On::Host);
            run.time(&runtime, On::Anything).as_secs_f64() * 1e3
        }));
    }
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
