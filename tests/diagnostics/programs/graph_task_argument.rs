//! The result of a task as an argument of a node. The compiler has to say:
//~ expected a `u64` or a `Node<u64>` here, found `Task<u64>`
//~ graph_task_argument.rs:12:
//~ results of tasks are none

fn half(value: u64) -> u64 {
    value / 2
}

fn main() {
    let runtime = poniard::Runtime::new().unwrap();
    poniard::GraphBuilder::new().task(half, (runtime.spawn(half, (1,)),));
}
