//! An order in which every task comes after what it needs, or the tasks that wait for each other in a circle.

/// What a task needs: the index of another task, and the line that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dependency {
    /// Index of the task needed.
    pub(super) on: usize,
    /// Where it is named.
    pub(super) line: usize,
}

/// All tasks, each after its dependencies; among tasks that could come next, the one that became ready first (Kahn's algorithm).
/// Nothing here recurses: a chain of 100 000 tasks is as good as any.
///
/// # Errors
/// The dependencies of a cycle: each one's task needs the next one, the last needs the first. It begins with its first task in the
/// order of the file.
pub(super) fn order(dependencies: &[Vec<Dependency>]) -> Result<Vec<usize>, Vec<Dependency>> {
    let count = dependencies.len();
    let mut unmet: Vec<usize> = dependencies.iter().map(Vec::len).collect();
    let mut successors: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (task, needs) in dependencies.iter().enumerate() {
        for need in needs {
            successors[need.on].push(task);
        }
    }
    let mut order: Vec<usize> = (0..count).filter(|task| unmet[*task] == 0).collect();
    let mut next = 0;
    while let Some(&task) = order.get(next) {
        next += 1;
        for &successor in &successors[task] {
            unmet[successor] -= 1;
            if unmet[successor] == 0 {
                order.push(successor);
            }
        }
    }
    if order.len() == count { Ok(order) } else { Err(cycle(dependencies, &unmet)) }
}

/// Every task with unmet dependencies needs another such task, so a walk along them comes back to where it was.
fn cycle(dependencies: &[Vec<Dependency>], unmet: &[usize]) -> Vec<Dependency> {
    let start = unmet.iter().position(|unmet| *unmet > 0).unwrap_or_default();
    let mut position = vec![None; unmet.len()];
    let mut walk: Vec<Dependency> = Vec::new();
    let mut task = start;
    loop {
        position[task] = Some(walk.len());
        let Some(need) = dependencies[task].iter().copied().find(|need| unmet[need.on] > 0) else { return walk };
        walk.push(need);
        task = need.on;
        if let Some(first) = position[task] {
            walk.drain(..first);
            break;
        }
    }
    // `walk[i].on` is the task of `walk[i + 1]`; turn the circle so that the last one leads back to the first task of the file.
    let lowest = walk.iter().enumerate().min_by_key(|(_, need)| need.on).map_or(0, |(index, _)| index);
    let turn = (lowest + 1) % walk.len().max(1);
    walk.rotate_left(turn);
    walk
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(edges: &[&[usize]], expect: Result<&[usize], &[usize]>) {
        let dependencies: Vec<Vec<Dependency>> =
            edges.iter().map(|needs| needs.iter().map(|on| Dependency { on: *on, line: 0 }).collect()).collect();
        let found = order(&dependencies).map_err(|cycle| cycle.into_iter().map(|need| need.on).collect::<Vec<_>>());
        assert_eq!(found, expect.map(<[_]>::to_vec).map_err(<[_]>::to_vec), "{edges:?}");
    }

    #[test]
    fn tasks_come_after_what_they_need() {
        check(&[], Ok(&[]));
        check(&[&[], &[0], &[0, 0], &[1, 2]], Ok(&[0, 1, 2, 3]));
        check(&[&[1], &[2], &[]], Ok(&[2, 1, 0]));
    }

    #[test]
    fn cycles_are_walked_from_their_first_task() {
        check(&[&[0]], Err(&[0]));
        // 0 waits for a cycle but is not on it: 1 -> 3 -> 2 -> 1.
        check(&[&[2], &[3], &[1], &[2]], Err(&[3, 2, 1]));
    }
}
