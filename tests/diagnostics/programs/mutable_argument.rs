//! A `Mutable` itself where access to it belongs. The compiler has to say:
//~ mutable_argument.rs:16:
//~ for a parameter `&mut T` it is `write(&mutable)` or `overwrite(&mutable)`
//~ a `Mutable` is given as `read(&m)`, `write(&m)` or `overwrite(&m)`

use poniard::{Data, Mutable};

fn scale(values: &mut Vec<f64>, by: f64) {
    values.iter_mut().for_each(|value| *value *= by);
}

fn main() {
    fn check<T: Data>(_: &T) {}
    let runtime = poniard::Runtime::new().unwrap();
    let values = Mutable::new(vec![1.0]);
    let _ = runtime.spawn(scale, (&values, 2.0));
    check(&values);
}
