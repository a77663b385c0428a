//! A constant that every run would have to take, and that cannot be cloned. The compiler has to say:
//~ cannot be a node of a graph
//~ graph_not_clone.rs:15:
//~ a node is run again and again

#[derive(poniard::Data)]
struct Unique(u64);

fn open(unique: Unique) -> u64 {
    unique.0
}

fn main() {
    let mut graph = poniard::GraphBuilder::new();
    graph.task(open, (Unique(1),));
}
