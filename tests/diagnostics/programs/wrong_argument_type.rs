//! A result of another type than the parameter. The compiler has to say:
//~ expected a `Vec<f64>` or a `Task<Vec<f64>>` here, found `Task<u64>`
//~ wrong_argument_type.rs:13:
//~ an argument is a value, a `Task` or `&Task` of it, an `Arc` of it, or `read(&mutable)`

fn dot(a: &Vec<f64>, b: &Vec<f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn main() {
    let runtime = poniard::Runtime::new().unwrap();
    let number = runtime.spawn(|| 5u64, ());
    let _ = runtime.spawn(dot, (vec![1.0], number));
}
