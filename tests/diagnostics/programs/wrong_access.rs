//! Access to read where the function changes the value. The compiler has to say:
//~ wrong_access.rs:14:
//~ for a parameter `&mut T` it is `write(&mutable)` or `overwrite(&mutable)`

use poniard::{Mutable, read};

fn scale(values: &mut Vec<f64>, by: f64) {
    values.iter_mut().for_each(|value| *value *= by);
}

fn main() {
    let runtime = poniard::Runtime::new().unwrap();
    let values = Mutable::new(vec![1.0]);
    let _ = runtime.spawn(scale, (read(&values), 2.0));
}
