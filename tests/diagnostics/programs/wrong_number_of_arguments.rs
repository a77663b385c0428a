//! One argument too few. The compiler has to say:
//~ these arguments do not fit the task function's parameters
//~ wrong_number_of_arguments.rs:12:
//~ give one tuple with one element for each parameter

fn add(a: u64, b: u64) -> u64 {
    a + b
}

fn main() {
    let runtime = poniard::Runtime::new().unwrap();
    let _ = runtime.spawn(add, (1u64,));
}
