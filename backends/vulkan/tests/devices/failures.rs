//! Drivers that are missing, devices that fail, code that does not end. What needs another environment or a whole process runs in one of its own.

use std::io::Read as _;
use std::time::{Duration, Instant};

use crate::stand::{ENDLESS, FOR_EVER, NEXT, STEP, child, is_child, kernel, open, operand, read, software_driver, with_device};
use poniard_interface::{Access, DeviceClass, FaultKind, Launch, LogLevel, TaskDescriptor, TaskId};

/// Much longer than ending takes, and much shorter than for ever.
const AT_MOST: Duration = Duration::from_secs(30);

#[test]
fn without_a_driver_there_are_no_processors_and_one_message() {
    if !is_child() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("libvulkan.so.1"), "no library").unwrap();
        for (file, libraries) in [
            ("/nonexistent", ""),
            // A file that is there and names no driver.
            ("/dev/null", ""),
            // No loader that could look for it.
            ("/nonexistent", folder.path().to_str().unwrap()),
        ] {
            let variables = [("VK_ICD_FILENAMES", file), ("VK_DRIVER_FILES", file), ("LD_LIBRARY_PATH", libraries)];
            child("failures::without_a_driver_there_are_no_processors_and_one_message", &variables);
        }
        return;
    }
    for validation in ["false", "true"] {
        let stand = open(&[("vulkan.validation", validation)]).unwrap();
        assert!(stand.processors.is_empty() && stand.spaces.is_empty());
        let messages = stand.host.messages.lock().unwrap();
        assert_eq!(messages.len(), 1, "{messages:?}");
        let (level, text) = &messages[0];
        let why =
            if std::env::var("LD_LIBRARY_PATH").is_ok_and(|path| path.is_empty()) { "no " } else { "the Vulkan loader cannot be opened" };
        assert!(*level == LogLevel::Info && text.starts_with(&format!("vulkan: none found ({why}")), "{messages:?}");
    }
    let none = open(&[("vulkan.devices", "none")]).unwrap();
    assert!(
        none.processors.is_empty() && none.host.messages.lock().unwrap().is_empty(),
        "nobody looks, and nobody says that nothing was found"
    );
    assert!(open(&[("vulkan.devices", "0")]).unwrap().processors.is_empty(), "a device that is asked for and not there is no error either");
}

#[test]
fn software_devices_are_hidden_unless_asked_for() {
    let Some(driver) = software_driver() else { return };
    if !is_child() {
        let driver = driver.to_str().unwrap();
        child("failures::software_devices_are_hidden_unless_asked_for", &[("VK_ICD_FILENAMES", driver), ("VK_DRIVER_FILES", driver)]);
        return;
    }
    let stand = open(&[("vulkan.software", "false")]).unwrap();
    assert!(stand.processors.is_empty());
    let said = stand.host.said("none found");
    assert!(said.len() == 1 && said[0].contains("is software: `vulkan.software=true` lists it"), "{said:?}");
    assert_eq!(open(&[]).unwrap().processors.len(), 1);
}

#[test]
fn two_devices_work_side_by_side() {
    let Some(driver) = software_driver() else { return };
    if !is_child() {
        // The loader takes a file once, however often it is named.
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("second_icd.json");
        std::fs::copy(&driver, &copy).unwrap();
        let twice = format!("{}:{}", driver.display(), copy.display());
        child("failures::two_devices_work_side_by_side", &[("VK_ICD_FILENAMES", &twice), ("VK_DRIVER_FILES", &twice)]);
        return;
    }
    let mut stand = open(&[]).unwrap();
    assert_eq!(stand.processors.iter().map(|processor| processor.info().name).collect::<Vec<_>>(), ["vulkan-0", "vulkan-1"]);
    assert_ne!(stand.spaces[0].info().id, stand.spaces[1].info().id);
    assert_eq!(stand.processors[1].info().space, stand.spaces[1].info().id);
    let second = open(&[("vulkan.devices", "1")]).unwrap();
    assert_eq!(second.processors.iter().map(|processor| processor.info().name).collect::<Vec<_>>(), ["vulkan-1"]);

    let here = stand.chunk(&[1; 64]);
    stand.launch(0, STEP, &[operand(&*here, Access::Write)], &[2, 0, 0, 0], [64, 1, 1]);
    stand.processors.swap(0, 1);
    stand.launch(1, STEP, &[operand(&*here, Access::Write)], &[2, 0, 0, 0], [64, 1, 1]);
    let fault = stand.host.outcomes(0..2).remove(1).unwrap_err();
    assert!(fault.reason.contains("the device has no chunk"), "chunks of one device are nothing to another: {fault:?}");
    stand.spaces.swap(0, 1);
    let there = stand.chunk(&[1; 64]);
    stand.launch(2, STEP, &[operand(&*there, Access::Write)], &[3, 0, 0, 0], [64, 1, 1]);
    stand.host.done(2..3);
    assert_eq!((read(&*here)[5], read(&*there)[5]), (2 + 5, 3 + 5));

    // One is lost, the other goes on.
    let chunk = stand.chunk(&[0; 2]);
    let deadline = Some(Duration::from_millis(300));
    stand.launch_within(3, ENDLESS, &[operand(&*chunk, Access::Write)], &[], FOR_EVER, deadline);
    assert_eq!(stand.host.outcomes(3..4).remove(0).unwrap_err().kind, FaultKind::TimedOut);
    stand.processors.swap(0, 1);
    stand.launch(4, STEP, &[operand(&*here, Access::Write)], &[1, 0, 0, 0], [64, 1, 1]);
    stand.host.done(4..5);
    assert_eq!(read(&*here)[5], 2 + 5 + 5);
    for processor in &stand.processors {
        processor.stop().unwrap();
    }
}

#[test]
fn a_device_that_cannot_be_made_is_lost_from_the_start() {
    let Some(stand) = with_device(&[("vulkan.without", "device")]) else { return };
    let error = stand.spaces[0].allocate(16, false).err().unwrap();
    assert!(error.reason.contains("says that no device can be made"), "{error}");
    for id in 0..2 {
        stand.launch(id, STEP, &[], &[], [1, 1, 1]);
    }
    for outcome in stand.host.outcomes(0..2) {
        let fault = outcome.unwrap_err();
        assert!(fault.kind == FaultKind::Lost && fault.reason.contains("says that no device can be made"), "{fault:?}");
    }
    assert_eq!(stand.host.said("is of no use").len(), 1, "said once");
    let lines = stand.processors[0].describe(true);
    assert!(lines.iter().any(|(name, _)| name == "not measured"), "{lines:?}");
    stand.finish();
}

#[test]
fn a_launch_that_does_not_end_costs_the_device_and_not_the_process() {
    if !is_child() {
        child("failures::a_launch_that_does_not_end_costs_the_device_and_not_the_process", &[]);
        return;
    }
    let Some(stand) = with_device(&[("vulkan.validation", "false"), ("vulkan.deadline_ms", "1000")]) else { return };
    if !crate::stand::is_software(&stand) {
        eprintln!("skipped: the first device is no software device, and what it does with endless code is its driver's business");
        return;
    }
    let (chunk, other) = (stand.chunk(&[0; 64]), stand.chunk(&[1; 64]));
    // So that the driver has compiled what follows.
    stand.launch(0, STEP, &[operand(&*other, Access::Write)], &[1, 0, 0, 0], [64, 1, 1]);
    stand.host.done(0..1);
    stand.launch(1, ENDLESS, &[operand(&*chunk, Access::Write)], &[], FOR_EVER);
    for id in 2..100 {
        stand.launch(id, NEXT, &[operand(&*chunk, Access::Read), operand(&*other, Access::Overwrite)], &[], [64, 1, 1]);
    }
    let faults: Vec<_> = stand.host.outcomes(1..100).into_iter().map(Result::unwrap_err).collect();
    assert_eq!(faults[0].kind, FaultKind::TimedOut);
    assert!(faults[1..].iter().all(|fault| fault.kind == FaultKind::Lost));
    assert!(faults[0].reason.contains("`vulkan-0`") && faults[0].reason.contains("has not ended after 1000 ms"), "{:?}", faults[0]);
    assert_eq!(stand.host.said("it is given up").len(), 1);

    stand.launch(100, STEP, &[operand(&*other, Access::Write)], &[1, 0, 0, 0], [64, 1, 1]);
    assert_eq!(stand.host.outcomes(100..101).remove(0).unwrap_err().kind, FaultKind::Lost);
    let error = other.read(0, &mut [0; 4]).unwrap_err();
    assert!(error.reason.contains("is lost"), "{error}");
    assert!(stand.spaces[0].allocate(16, true).is_err());
    drop((chunk, other));
    stand.finish();
}

#[test]
fn a_deadline_is_that_of_one_launch() {
    if !is_child() {
        child("failures::a_deadline_is_that_of_one_launch", &[]);
        return;
    }
    let Some(stand) = with_device(&[("vulkan.validation", "false")]) else { return };
    if !crate::stand::is_software(&stand) {
        eprintln!("skipped: the first device is no software device");
        return;
    }
    let (chunk, other) = (stand.chunk(&[0; 64]), stand.chunk(&[0; 64]));
    let (used, scalars) = ([operand(&*chunk, Access::Write)], [1, 0, 0, 0]);
    let step = Launch { kernel: kernel(STEP), operands: &used, scalars: &scalars, invocations: [64, 1, 1], deadline: None };
    let other = [operand(&*other, Access::Write)];
    let deadline = Some(Duration::from_millis(500));
    let endless = Launch { kernel: kernel(ENDLESS), operands: &other, scalars: &[], invocations: FOR_EVER, deadline };
    // Compiled before, so that the batches follow each other closely.
    stand.launch(0, STEP, &used, &scalars, [64, 1, 1]);
    stand.host.done(0..1);
    let task = |id: u64| TaskDescriptor::new(TaskId(id), "a task").with_launch(if id == 31 { &endless } else { &step });
    stand.processors[0].submit(&(1..64).map(task).collect::<Vec<_>>()).unwrap();
    let outcomes = stand.host.outcomes(1..64);
    assert!(outcomes[..30].iter().all(Result::is_ok), "what came before in the same call is done: {outcomes:?}");
    assert_eq!(outcomes[30].as_ref().unwrap_err().kind, FaultKind::TimedOut);
    assert!(outcomes[31..].iter().all(|outcome| outcome.as_ref().is_err_and(|fault| fault.kind == FaultKind::Lost)));
    stand.finish();
}

/// What a thread reads while the device does not end.
#[test]
fn whoever_waits_for_a_lost_device_is_told() {
    if !is_child() {
        child("failures::whoever_waits_for_a_lost_device_is_told", &[]);
        return;
    }
    for (without, transfer) in [("", "none"), ("mapping", "none"), ("", "emulated"), ("mapping", "emulated")] {
        let (without, transfer) = (("vulkan.without", without), ("vulkan.transfer", transfer));
        let pairs = [("vulkan.validation", "false"), ("vulkan.deadline_ms", "1000"), without, transfer];
        let Some(stand) = with_device(&pairs) else { return };
        if stand.processors[0].info().device.unwrap().class != DeviceClass::Software {
            eprintln!("skipped: no software device");
            return;
        }
        let chunk = stand.chunk(&[0; 64]);
        stand.launch(1, ENDLESS, &[operand(&*chunk, Access::Write)], &[], FOR_EVER);
        let error = chunk.read(0, &mut [0; 4]).unwrap_err();
        assert!(error.reason.contains("is lost"), "{error}");
        drop(chunk);
        stand.finish();
    }
}

#[test]
fn the_process_ends_while_a_launch_does_not() {
    const READY: &str = "the launch does not end";
    if is_child() {
        let Some(stand) = with_device(&[("vulkan.validation", "false"), ("vulkan.deadline_ms", "500")]) else { return };
        let chunk = stand.chunk(&[0; 64]);
        stand.launch(1, ENDLESS, &[operand(&*chunk, Access::Write)], &[], FOR_EVER);
        assert_eq!(stand.host.outcomes(1..2).remove(0).unwrap_err().kind, FaultKind::TimedOut);
        drop(chunk);
        stand.finish();
        eprintln!("{READY}");
        return;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "failures::the_process_ends_while_a_launch_does_not", "--nocapture"])
        .env("PONIARD_VULKAN_CHILD", "1")
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = child.stderr.take().unwrap();
    let text = std::thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if begin.elapsed() > AT_MOST {
            child.kill().unwrap();
            break None;
        }
        std::thread::yield_now();
    };
    let text = text.join().unwrap().unwrap();
    assert!(status.is_some_and(|status| status.success()), "{status:?}: {text}");
    if !text.contains("skipped") {
        assert!(text.contains(READY), "{text}");
    }
}
