//! Tasks of a region with options: names, above all.

use std::fmt;

use super::{Region, RegionTask};
use crate::function::{Args, TaskFn, caller};
use crate::options::{Priority, TaskBuilder, TaskOptions};
use crate::scope::Scope;

/// A task of a region about to be spawned, with options. Made by [`Region::task`].
#[must_use = "nothing is spawned before `spawn` is called"]
pub struct RegionTaskBuilder<'r, 'h, F, A> {
    region: &'r Region<'h>,
    task: TaskBuilder<'h, F, A>,
}

impl<'h> Region<'h> {
    /// A task with options: `r.task(potrf, (write(&tile),)).name(format!("potrf({k})")).spawn()`. Options for several tasks come from [`with_options`](crate::with_options) around spawns.
    ///
    /// ```
    /// use poniard::{Mutable, Runtime, write};
    ///
    /// fn halve(tile: &mut Vec<u64>) -> Result<(), String> {
    ///     if tile.len() < 2 { Err("nothing to halve".into()) } else { Ok(tile.truncate(tile.len() / 2)) }
    /// }
    /// let runtime = Runtime::new()?;
    /// let tiles: Vec<_> = (0..3).map(|len| Mutable::new(vec![0u64; 3 - len])).collect();
    /// let ended = runtime.region(|r| {
    ///     for (index, tile) in tiles.iter().enumerate() {
    ///         r.task(halve, (write(tile),)).name(format!("halve({index})")).spawn();
    ///     }
    /// });
    /// assert_eq!(ended.err().ok_or("one tile is too small")?.first().task(), "halve(2)");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn task<F, A>(&self, function: F, args: A) -> RegionTaskBuilder<'_, 'h, F, A> {
        RegionTaskBuilder { region: self, task: self.handle.task(function, args) }
    }
}

impl<F, A> RegionTaskBuilder<'_, '_, F, A> {
    /// The name that errors and traces use, in place of the function's own.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.task = self.task.name(name);
        self
    }

    /// How urgent it is once it is ready.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.task = self.task.priority(priority);
        self
    }

    /// Where it may run: as [`TaskBuilder::scope`].
    pub fn scope(mut self, scope: Scope) -> Self {
        self.task = self.task.scope(scope);
        self
    }

    /// Says all that `options` say, in place of what was said before.
    pub fn options(mut self, options: &TaskOptions) -> Self {
        self.task = self.task.options(options);
        self
    }

    /// Spawns it: as [`Region::spawn`].
    #[track_caller]
    pub fn spawn<M>(self) -> RegionTask<F::Value>
    where
        F: TaskFn<M>,
        A: Args<F::Params>,
    {
        let TaskBuilder { function, args, options, .. } = self.task;
        let options = (!options.says_nothing()).then(|| Box::new(options));
        self.region.spawn_with(caller(), function, args, options)
    }
}

impl<F, A> fmt::Debug for RegionTaskBuilder<'_, '_, F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionTaskBuilder").field("options", &self.task.options).finish_non_exhaustive()
    }
}
