//! A method is no task. The compiler has to say:
//~ a task is a free function: it has no `self`
//~ task_macro_self.rs:9:

struct Solver;

impl Solver {
    #[poniard::task]
    fn solve(&self, x: f64) -> f64 {
        x
    }
}

fn main() {}
