//! Two devices: the software driver, which the loader is told of twice.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use poniard::{Buffer, Kernel, Runtime, Scope};

use crate::failures::{ENDLESS, FOR_EVER, double, end_in_time, ramp};
use crate::stand::{SPLIT, Stand, WAYS, child_with_devices, counted, is_child, quick};

fn names(runtime: &Runtime, scope: &Scope) -> Vec<String> {
    runtime.processors_in(scope).into_iter().map(|processor| processor.name).collect()
}

fn at(place: usize) -> Scope {
    Scope::processor(format!("vulkan-{place}"))
}

#[test]
fn work_and_data_go_to_both() {
    if !is_child() {
        child_with_devices("two::work_and_data_go_to_both", 2);
        return;
    }
    for way in WAYS {
        let stand = Stand::new(way).expect("two devices");
        let runtime = &stand.runtime;
        let devices = runtime.processors_in(&Scope::kind("vulkan"));
        let device = devices[0].device.clone().expect("a device");
        for (scope, expected) in [
            (Scope::kind("vulkan"), &["vulkan-0", "vulkan-1"][..]),
            (Scope::backend("vulkan"), &["vulkan-0", "vulkan-1"]),
            (at(1), &["vulkan-1"]),
            // They are the same make, and the driver gives both the same identity.
            (Scope::device(&device.name), &["vulkan-0", "vulkan-1"]),
            (Scope::device(device.uuid.to_uppercase()), &["vulkan-0", "vulkan-1"]),
            (Scope::device(&device.uuid) - at(0), &["vulkan-1"]),
        ] {
            assert_eq!(names(runtime, &scope), expected, "{scope}");
        }
        let launches = || [0, 1].map(|place| counted(runtime, &format!("vulkan-{place}"), "launches"));
        for place in [1, 0] {
            let before = launches();
            let z = runtime.task(double().over(100), (ramp(100),)).scope(at(place)).spawn();
            assert_eq!(z.take().expect("runs")[99], 198.0);
            let after = launches();
            assert_eq!((after[place], after[1 - place]), (before[place] + 1, before[1 - place]));
        }

        // Ready at once, more than one of them has in hand.
        let before = launches();
        let gate = Arc::new(Barrier::new(2));
        let opened = Arc::clone(&gate);
        let x = runtime.spawn(
            move || {
                opened.wait();
                ramp(1000)
            },
            (),
        );
        let all: Vec<_> = (0..300).map(|_| runtime.task(double().over(1000), (&x,)).scope(Scope::kind("vulkan")).spawn()).collect();
        gate.wait();
        assert!(all.iter().all(|z| z.fetch().expect("runs")[999] == 1998.0));
        let done: Vec<_> = launches().into_iter().zip(before).map(|(after, before)| after - before).collect();
        assert!(done.iter().sum::<u64>() == 300 && done.iter().all(|count| *count > 0), "{done:?}");

        // From one to the other and by the host, each time changed by whoever has it.
        let mut z = runtime.value(ramp(5000));
        for step in 0..9 {
            z = match step % 3 {
                2 => runtime.spawn(
                    |mut z: Buffer<f32>| {
                        z.iter_mut().for_each(|z| *z += 1.0);
                        z
                    },
                    (z,),
                ),
                place => runtime.task(double().over(5000), (&z,)).scope(at(place)).spawn(),
            };
        }
        // 4 (4 (4 x + 1) + 1) + 1
        assert_eq!((z.fetch().expect("runs")[0], z.fetch().expect("runs")[4999]), (21.0, 64.0 * 4999.0 + 21.0));

        // Many at once, so that each device has to be read from while it is busy.
        let mut chains: Vec<_> = (0..40).map(|_| runtime.value(ramp(5000))).collect();
        for step in 0..6 {
            let next = |(number, z)| runtime.task(double().over(5000), (z,)).scope(at((number + step) % 2)).spawn();
            chains = chains.into_iter().enumerate().map(next).collect();
        }
        assert!(chains.iter().all(|z| z.fetch().expect("runs")[4999] == 64.0 * 4999.0));
        stand.finish();
    }
    let chosen = Stand::new(&[("vulkan.devices", "1")]).expect("the second device");
    assert_eq!(names(&chosen.runtime, &Scope::kind("vulkan")), ["vulkan-1"]);
    chosen.finish();
}

#[test]
fn when_one_is_lost_the_other_and_the_host_go_on() {
    lose_one("two::when_one_is_lost_the_other_and_the_host_go_on", &[("vulkan.import", "false")]);
}

#[test]
fn when_one_with_two_lanes_is_lost_the_other_and_the_host_go_on() {
    lose_one("two::when_one_with_two_lanes_is_lost_the_other_and_the_host_go_on", SPLIT);
}

fn lose_one(name: &str, way: &[(&str, &str)]) {
    if !is_child() {
        child_with_devices(name, 2);
        return;
    }
    // Copied: what is in the host's memory is not lost with a device.
    let runtime = way.iter().fold(quick(), |builder, (name, value)| builder.setting(*name, *value)).build().expect("threads");
    let there = Scope::kind("vulkan");
    // So that both drivers have compiled it.
    for place in [0, 1] {
        runtime.task(double().over(10), (ramp(10),)).scope(at(place)).spawn().wait().expect("runs");
    }
    let either = |place| at(place) | Scope::kind("cpu");
    // On the first alone: two that the second can compute again, one that the host can, one that nobody can; and one on the second.
    let device_only = Kernel::wgsl("device only", crate::failures::DOUBLE).takes::<(&Buffer<f32>,), Buffer<f32>>();
    let first = runtime.task(device_only.over(1000), (ramp(1000),)).scope(there.clone()).spawn();
    first.wait().expect("runs");
    let begun_at = usize::from(counted(&runtime, "vulkan-1", "launches") > 1);
    let second = runtime.task(device_only.over(1000), (&first,)).scope(there.clone()).spawn();
    let of_host = runtime.task(double().over(1000), (ramp(1000),)).scope(either(begun_at)).spawn();
    let of_nobody = runtime.task(device_only.over(1000), (ramp(1000),)).scope(at(begun_at)).spawn();
    let safe = runtime.task(device_only.over(1000), (ramp(1000),)).scope(at(1 - begun_at)).spawn();
    for task in [&second, &of_host, &of_nobody, &safe] {
        task.wait().expect("runs");
    }
    let other = counted(&runtime, &format!("vulkan-{}", 1 - begun_at), "launches");

    let endless = Kernel::wgsl("endless", ENDLESS).takes::<(), Buffer<u32>>().over_2d(FOR_EVER, FOR_EVER).returning([2]);
    let task = runtime.task(endless, ()).scope(at(begun_at)).timeout(Duration::from_millis(300)).spawn();
    task.fetch().expect_err("it does not end");
    // Launches behind it run on the other one, and the host goes on as well.
    let behind: Vec<_> = (0..20).map(|_| runtime.task(double().over(100), (ramp(100),)).scope(there.clone()).spawn()).collect();
    assert!(behind.iter().all(|z| z.fetch().expect("on the other one")[99] == 198.0));
    assert_eq!(*runtime.spawn(|| 7, ()).fetch().expect("on the host"), 7);

    assert_eq!(second.fetch().expect("it is computed again")[999], 4.0 * 999.0);
    assert_eq!(first.fetch().expect("that, too")[999], 2.0 * 999.0);
    assert_eq!(of_host.fetch().expect("on the host")[999], -2.0 * 999.0);
    assert_eq!(safe.fetch().expect("it was never there")[999], 2.0 * 999.0);
    let error = of_nobody.fetch().expect_err("nobody can").reason();
    assert!(error.contains("its data was lost with ") && error.contains(", and cannot be computed again: "), "{error}");
    assert!(counted(&runtime, &format!("vulkan-{}", 1 - begun_at), "launches") >= other + 20 + 2);
    let error = runtime.task(double().over(10), (ramp(10),)).scope(at(begun_at)).spawn().fetch().expect_err("it is lost").reason();
    assert!(error.starts_with(&format!("processor vulkan-{begun_at}: it is lost: ")), "{error}");
    end_in_time(vec![runtime]);
}
