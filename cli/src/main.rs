//! The `poniard` command.

/// `poniard bench` counts allocations; otherwise this is the system's allocator.
#[global_allocator]
static ALLOCATOR: poniard_bench::CountingAllocator = poniard_bench::CountingAllocator;

fn main() -> std::process::ExitCode {
    poniard_cli::main()
}
