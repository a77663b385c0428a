//! What a launch on a Vulkan device costs, beside a program that has `ash` and no runtime, in the same run:
//! `cargo bench -p poniard-tests --bench vulkan [-- [--json] [--quick] [CASE ...]]`.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod agreement;
mod bare;
mod compile;

use poniard_bench::Turns;

fn main() {
    let bare = bare::Bare::open().unwrap();
    eprintln!("{}", bare.about);
    for figure in (Turns { bench: "vulkan", case: "agreement", unit: "of allowed", warm_up: false, sample_count: 1 }).measure(agreement::systems(&bare)) {
        println!("{}", figure.row());
    }
}
