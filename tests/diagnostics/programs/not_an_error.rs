//! A function whose error is none. The compiler has to say:
//~ `fn() -> Result<u64, u8> {broken}` is not a task function
//~ not_an_error.rs:13:
//~ an error is a type that implements `Error`, a `String` or a `&str`; at most eight parameters

fn broken() -> Result<u64, u8> {
    Err(1)
}

fn main() {
    let runtime = poniard::Runtime::new().unwrap();
    // Nothing else is wrong.
    let _ = runtime.spawn(broken, ());
}
