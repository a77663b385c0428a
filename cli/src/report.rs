//! What ran where and how long, in words and as JSON.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use poniard::{BackendReport, DeviceClass, DeviceInfo, ProcessorKind, ProcessorReport, Report};
use serde_json::{Value, json};

/// How many tasks all processors ran.
pub fn task_count(report: &Report) -> u64 {
    report.backends.iter().flat_map(|backend| &backend.processors).map(|processor| processor.tasks).sum()
}

/// The line that says what ran where: `ran 128 tasks in 41.2 ms on 2 threads: threads-0 66, threads-1 62 (libponiard_backend_threads.so 0.1.0)`.
pub fn summary(report: &Report) -> String {
    let processors = || report.backends.iter().flat_map(|backend| &backend.processors);
    let threads = processors().all(|processor| !processor.queued && processor.kind == ProcessorKind::cpu());
    let processes = report.backends.iter().any(|backend| backend.name == "process" && !backend.processors.is_empty());
    let place = if threads && !processes { "thread" } else { "processor" };
    let mut line = format!(
        "ran {} in {} on {}: ",
        counted(task_count(report), "task"),
        duration(Duration::from_nanos(report.makespan_ns)),
        counted(processors().count() as u64, place)
    );
    // Without the processes backend unless there are processes.
    let present = report.backends.iter().filter(|backend| !backend.processors.is_empty());
    for (index, backend) in present.enumerate() {
        let shares: Vec<String> =
            backend.processors.iter().map(|processor| format!("{} {}", processor.name, digits(processor.tasks))).collect();
        let separator = if index == 0 { "" } else { "; " };
        // Writing to a string does not fail.
        let _ = write!(line, "{separator}{} ({} {})", shares.join(", "), file_name(backend), backend.version);
    }
    line
}

/// A line for each device that ran something or was lost: `vulkan-0 is NVIDIA H200, discrete: 12.0 MiB copied to it, 4.0 MiB from it`.
pub fn device_lines(report: &Report) -> Vec<String> {
    let processors = report.backends.iter().flat_map(|backend| &backend.processors);
    processors.filter_map(|processor| Some((processor, processor.device.as_ref()?))).filter_map(device_line).collect()
}

fn device_line((processor, device): (&ProcessorReport, &DeviceInfo)) -> Option<String> {
    let mut parts = vec![format!("{} copied to it, {} from it", size(processor.copied_to_bytes), size(processor.copied_from_bytes))];
    for (bytes, what) in [
        (processor.imported_bytes, "used where they are"),
        (processor.evicted_bytes, "moved out for want of room"),
        (processor.memory_peak_bytes, "of its memory at most"),
    ] {
        if bytes > 0 {
            parts.push(format!("{} {what}", size(bytes)));
        }
    }
    parts.extend(processor.lost.as_ref().map(|reason| format!("lost: {reason}")));
    let used = processor.tasks > 0 || processor.lost.is_some();
    used.then(|| format!("{} is {}, {}: {}", processor.name, device.name, class_name(device.class), parts.join(", ")))
}

/// The line that says what went to the disk for want of memory, if anything did: `memory: 64.0 MiB at most, of 64.0 MiB; 192.0 MiB written to the disk, 192.0 MiB read back`.
pub fn memory_line(report: &Report) -> Option<String> {
    let memory = &report.memory;
    (memory.spill_written_bytes > 0).then(|| {
        let [peak, limit, written, read, spilled] = [
            memory.peak_bytes,
            memory.limit_bytes,
            memory.spill_written_bytes,
            memory.spill_read_bytes,
            memory.spill_written_bytes + memory.spill_saved_bytes,
        ]
        .map(size);
        let packed = if memory.spill_saved_bytes > 0 { format!(" for {spilled} of buffers") } else { String::new() };
        format!("memory: {peak} at most, of {limit}; {written} written to the disk{packed}, {read} read back")
    })
}

/// The memory of buffers, for `--json`.
pub fn memory_json(report: &Report) -> Value {
    let memory = &report.memory;
    json!({
        "limit_bytes": memory.limit_bytes,
        "peak_bytes": memory.peak_bytes,
        "spilled_bytes": memory.spilled_bytes,
        "spill_written_bytes": memory.spill_written_bytes,
        "spill_saved_bytes": memory.spill_saved_bytes,
        "spill_read_bytes": memory.spill_read_bytes,
    })
}

/// What a device is, in a word.
pub fn class_name(class: DeviceClass) -> &'static str {
    match class {
        DeviceClass::Discrete => "discrete",
        DeviceClass::Integrated => "integrated",
        DeviceClass::Virtual => "virtual",
        DeviceClass::Software => "software",
        _ => "other",
    }
}

/// What device a processor is, for `--json`.
pub fn device_json(processor: &ProcessorReport) -> Value {
    processor
        .device
        .as_ref()
        .map_or(Value::Null, |device| json!({ "name": device.name, "uuid": device.uuid, "class": class_name(device.class) }))
}

/// The processors with what each did, for `--json`.
pub fn processors_json(report: &Report) -> Value {
    let processors = report.backends.iter().flat_map(|backend| {
        backend.processors.iter().map(move |processor| {
            json!({
                "name": processor.name,
                "backend": backend.name,
                "kind": processor.kind.as_str(),
                "file": backend.file.as_deref().map(path_text),
                "tasks": processor.tasks,
                "processes": processor.processes.iter().map(|process| json!({ "process": process.process, "tasks": process.tasks })).collect::<Value>(),
                "busy_ns": processor.busy_ns,
                "device": device_json(processor),
                "lost": processor.lost,
                "copied_to_bytes": processor.copied_to_bytes,
                "copied_from_bytes": processor.copied_from_bytes,
                "imported_bytes": processor.imported_bytes,
                "evicted_bytes": processor.evicted_bytes,
                "memory_peak_bytes": processor.memory_peak_bytes,
            })
        })
    });
    processors.collect()
}

/// The plugin files that were refused, for `--json`.
pub fn refused_json(report: &Report) -> Value {
    report.refused.iter().map(|refused| json!({ "file": path_text(&refused.file), "reason": refused.reason })).collect()
}

/// A path as text; bytes that are no text show as replacement characters.
pub fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The name of the plugin file that a backend came from.
fn file_name(backend: &BackendReport) -> String {
    match backend.file.as_deref().and_then(Path::file_name) {
        Some(name) => name.to_string_lossy().into_owned(),
        None => format!("built-in {}", backend.name),
    }
}

/// A number with its digits in groups of three: `12 345`.
pub fn digits(number: u64) -> String {
    let plain = number.to_string();
    let mut grouped = String::with_capacity(plain.len() + plain.len() / 3);
    for (index, digit) in plain.chars().enumerate() {
        if index > 0 && (plain.len() - index).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number of things: `1 task`, `2 tasks`.
pub fn counted(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", digits(number), if number == 1 { "" } else { "s" })
}

/// A time as people say it, to three digits: `41.2 ms`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let three = |value: f64, unit: &str| {
        let decimals = if value < 9.995 {
            2
        } else if value < 99.95 {
            1
        } else {
            0
        };
        format!("{value:.decimals$} {unit}")
    };
    if time.as_nanos() < 1_000 {
        format!("{} ns", time.as_nanos())
    } else if seconds < 999.5e-6 {
        three(seconds * 1e6, "µs")
    } else if seconds < 0.9995 {
        three(seconds * 1e3, "ms")
    } else if seconds < 99.95 {
        three(seconds, "s")
    } else {
        let whole = (time + Duration::from_millis(500)).as_secs();
        format!("{} min {} s", digits(whole / 60), whole % 60)
    }
}

/// A size in bytes as people say it: `7.8 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return counted(bytes, "byte");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // From 1023.95 on it would be shown as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use poniard::{BackendReport, DeviceClass, DeviceInfo, ProcessorKind, ProcessorReport, Report};

    use super::{counted, device_lines, digits, duration, memory_line, processors_json, size, summary};

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 12_345, 1_234_567].map(digits), ["0", "999", "1 000", "12 345", "1 234 567"]);
        assert_eq!([counted(0, "task"), counted(1, "task"), counted(1_000, "task")], ["0 tasks", "1 task", "1 000 tasks"]);
        assert_eq!([0, 1023, 1024, 8_375_000_000, u64::MAX].map(size), ["0 bytes", "1 023 bytes", "1.0 KiB", "7.8 GiB", "16.0 EiB"]);
    }

    #[test]
    fn durations_have_three_digits() {
        for (nanoseconds, said) in [
            (999, "999 ns"),
            (1_500, "1.50 µs"),
            (41_234_567, "41.2 ms"),
            (999_499_999, "999 ms"),
            (999_999_999, "1.00 s"),
            (12_345_678_900, "12.3 s"),
            (119_600_000_000, "2 min 0 s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanoseconds)), said);
        }
    }

    /// A backend of which every processor ran so many tasks.
    fn backend(name: &str, file: Option<&str>, tasks: &[u64]) -> BackendReport {
        let processors = tasks.iter().enumerate().map(|(index, &tasks)| ProcessorReport {
            idle: poniard::IdleReport::default(),
            name: format!("{name}-{index}"),
            kind: ProcessorKind::cpu(),
            active: true,
            queued: name != "threads",
            space: "host".into(),
            numa_node: None,
            device: None,
            lost: None,
            tasks,
            processes: Vec::new(),
            busy_ns: 0,
            copied_to_bytes: 0,
            copied_from_bytes: 0,
            imported_bytes: 0,
            evicted_bytes: 0,
            memory_peak_bytes: 0,
            shared_values_sent: 0,
            shared_values_bytes: 0,
            begun_again: 0,
        });
        BackendReport {
            name: name.into(),
            version: "0.1.0".into(),
            file: file.map(Into::into),
            rustc: String::new(),
            processors: processors.collect(),
            spaces: Vec::new(),
        }
    }

    #[test]
    fn the_summary_names_files_and_shares() {
        let threads = backend("threads", Some("/lib/libponiard_backend_threads.so"), &[66, 62]);
        let mut report = Report {
            placement: None,
            backends: vec![threads],
            refused: Vec::new(),
            searched: Vec::new(),
            messages: Vec::new(),
            makespan_ns: 41_200_000,
            memory: Default::default(),
            regions: Vec::new(),
        };
        assert_eq!(
            summary(&report),
            "ran 128 tasks in 41.2 ms on 2 threads: threads-0 66, threads-1 62 (libponiard_backend_threads.so 0.1.0)"
        );
        report.backends.push(backend("example", None, &[1_000]));
        assert_eq!(
            summary(&report),
            "ran 1 128 tasks in 41.2 ms on 3 processors: threads-0 66, threads-1 62 (libponiard_backend_threads.so 0.1.0); \
             example-0 1 000 (built-in example 0.1.0)"
        );
    }

    #[test]
    fn the_summary_leaves_out_backends_without_processors() {
        let backends = vec![backend("process", None, &[]), backend("threads", None, &[1])];
        let mut report = Report {
            placement: None,
            backends,
            refused: Vec::new(),
            searched: Vec::new(),
            messages: Vec::new(),
            makespan_ns: 1_000_000,
            memory: Default::default(),
            regions: Vec::new(),
        };
        assert_eq!(summary(&report), "ran 1 task in 1.00 ms on 1 thread: threads-0 1 (built-in threads 0.1.0)");
        report.backends = vec![backend("process", None, &[2]), backend("threads", None, &[1])];
        assert!(summary(&report).starts_with("ran 3 tasks in 1.00 ms on 2 processors: process-0 2 "), "{}", summary(&report));
    }

    #[test]
    fn the_memory_is_of_interest_when_it_was_short() {
        let mut report = Report {
            placement: None,
            backends: Vec::new(),
            refused: Vec::new(),
            searched: Vec::new(),
            messages: Vec::new(),
            makespan_ns: 0,
            memory: Default::default(),
            regions: Vec::new(),
        };
        report.memory.limit_bytes = 64 << 20;
        report.memory.peak_bytes = 60 << 20;
        assert_eq!(memory_line(&report), None);
        (report.memory.spill_written_bytes, report.memory.spill_read_bytes) = (192 << 20, 96 << 20);
        let said = "memory: 60.0 MiB at most, of 64.0 MiB; 192.0 MiB written to the disk, 96.0 MiB read back";
        assert_eq!(memory_line(&report).as_deref(), Some(said));
        report.memory.spill_saved_bytes = 8 << 20;
        let said = "memory: 60.0 MiB at most, of 64.0 MiB; 192.0 MiB written to the disk for 200.0 MiB of buffers, 96.0 MiB read back";
        assert_eq!(memory_line(&report).as_deref(), Some(said));
    }

    #[test]
    fn a_device_says_what_was_moved() {
        let threads = backend("threads", None, &[3]);
        let mut devices = backend("vulkan", Some("/lib/libponiard_backend_vulkan.so"), &[2, 0]);
        for (place, processor) in devices.processors.iter_mut().enumerate() {
            processor.kind = ProcessorKind::new("vulkan");
            let class = [DeviceClass::Discrete, DeviceClass::Software][place];
            processor.device = Some(DeviceInfo { name: format!("GPU {place}"), uuid: "0-1".into(), class });
        }
        let mut report = Report {
            placement: None,
            backends: vec![threads, devices],
            refused: Vec::new(),
            searched: Vec::new(),
            messages: Vec::new(),
            makespan_ns: 1_000_000,
            memory: Default::default(),
            regions: Vec::new(),
        };
        assert_eq!(
            summary(&report),
            "ran 5 tasks in 1.00 ms on 3 processors: threads-0 3 (built-in threads 0.1.0); vulkan-0 2, vulkan-1 0 (libponiard_backend_vulkan.so 0.1.0)"
        );
        let device =
            |report: &mut Report, place: usize, change: fn(&mut ProcessorReport)| change(&mut report.backends[1].processors[place]);
        assert_eq!(device_lines(&report), ["vulkan-0 is GPU 0, discrete: 0 bytes copied to it, 0 bytes from it"]);
        device(&mut report, 0, |processor| (processor.copied_to_bytes, processor.copied_from_bytes) = (3 << 20, 1 << 10));
        device(&mut report, 0, |processor| {
            (processor.imported_bytes, processor.evicted_bytes, processor.memory_peak_bytes) = (1, 2048, 4096)
        });
        device(&mut report, 1, |processor| processor.lost = Some("it fell off the bus".into()));
        assert_eq!(
            device_lines(&report),
            [
                "vulkan-0 is GPU 0, discrete: 3.0 MiB copied to it, 1.0 KiB from it, 1 byte used where they are, 2.0 KiB moved out for want of room, \
                 4.0 KiB of its memory at most",
                "vulkan-1 is GPU 1, software: 0 bytes copied to it, 0 bytes from it, lost: it fell off the bus"
            ]
        );
        let json = processors_json(&report);
        assert_eq!(json[0]["device"], serde_json::Value::Null);
        assert_eq!((&json[1]["device"]["class"], &json[1]["device"]["uuid"]), (&"discrete".into(), &"0-1".into()));
        assert_eq!((&json[1]["copied_to_bytes"], &json[2]["lost"]), (&(3 << 20).into(), &"it fell off the bus".into()));
    }
}
