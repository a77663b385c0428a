//! A result of a type that is no `Data`. The compiler has to say:
//~ `fn() -> Plain {make}` is not a task function
//~ not_data.rs:14:
//~ its result is `Data` or a `Result` of it

struct Plain;

fn make() -> Plain {
    Plain
}

fn main() {
    let runtime = poniard::Runtime::new().unwrap();
    let _ = runtime.spawn(make, ());
}
