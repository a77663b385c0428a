//! A closure that captures what must stay on its thread. The compiler has to say:
//~ `Rc<u64>` cannot be sent between threads safely
//~ capture_not_send.rs:10:

use std::rc::Rc;

fn main() {
    let runtime = poniard::Runtime::new().unwrap();
    let shared = Rc::new(5u64);
    let _ = runtime.spawn(move || *shared, ());
}
