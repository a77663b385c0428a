//! Taking a value that cannot be cloned. The compiler has to say:
//~ is not a task function
//~ not_clone_by_value.rs:15:
//~ its parameters are `T`, `&T`, `&mut T` or `Gather<

#[derive(poniard::Data)]
struct Unique(u64);

fn open(unique: Unique) -> u64 {
    unique.0
}

fn main() {
    let runtime = poniard::Runtime::new().unwrap();
    let _ = runtime.spawn(open, (Unique(1),));
}
