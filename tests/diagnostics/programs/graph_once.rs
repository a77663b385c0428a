//! A node that can be run only once. The compiler has to say:
//~ expected a closure that implements the `Fn` trait, but this closure only implements `FnOnce`
//~ graph_once.rs:9:
//~ closure is `FnOnce` because it moves the variable `text` out of its environment

fn main() {
    let text = String::from("once");
    let mut graph = poniard::GraphBuilder::new();
    graph.task(move || text, ());
}
