//! What tasks of a script work on: numbers, buffers, and cells that are changed in place; and where.

use std::fmt;

use super::script::Script;

/// A device with a memory of its own, two copy engines (one each way) and one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptDevice {
    /// Its column of costs.
    pub column: u32,
    /// Bytes of its memory.
    pub capacity_bytes: u64,
    /// How long a copy takes besides its bytes, in nanoseconds.
    pub latency_ns: u64,
    /// Bytes a second, each way.
    pub bandwidth: u64,
    /// Launches that it wants at once.
    pub depth: u32,
    /// Whether it says how long launches and copies took.
    pub measures: bool,
}

impl ScriptDevice {
    /// How long a copy of so many bytes takes, in nanoseconds.
    #[must_use]
    pub fn copy_ns(&self, bytes: u64) -> u64 {
        let bytes_ns = u128::from(bytes) * 1_000_000_000 / u128::from(self.bandwidth.max(1));
        self.latency_ns.saturating_add(bytes_ns.try_into().unwrap_or(u64::MAX))
    }
}

impl fmt::Display for ScriptDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { capacity_bytes, latency_ns, bandwidth, depth, .. } = self;
        write!(f, "{capacity_bytes} bytes, copies of {latency_ns} ns and {bandwidth} bytes a second, {depth} launches at once")
    }
}

/// Where a launch may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Where {
    /// On the host and on all devices.
    #[default]
    Anywhere,
    /// On all devices.
    Devices,
    /// On one of them.
    Device(u32),
}

/// What a task does. Its value is a number that is made of the values of all that it looks at; a buffer holds it in each of its words, in another form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Work {
    /// A function of the host returns its value as a number.
    #[default]
    Number,
    /// A function of the host returns a buffer.
    Fill {
        /// How many words of 8 bytes it has.
        words: u32,
    },
    /// A kernel reads up to two buffers, and makes another one.
    Kernel {
        /// How many words that has.
        words: u32,
        /// Where it may run.
        at: Where,
    },
    /// A kernel changes a cell in place, and may read a buffer.
    Update {
        /// Which cell.
        cell: u32,
        /// Where it may run.
        at: Where,
    },
    /// A function of the host returns what a cell has as a number.
    Look {
        /// Which cell.
        cell: u32,
    },
}

impl Work {
    /// Where a launch may run; nothing of a function of the host.
    #[must_use]
    pub fn launched_at(&self) -> Option<Where> {
        match *self {
            Self::Kernel { at, .. } | Self::Update { at, .. } => Some(at),
            Self::Number | Self::Fill { .. } | Self::Look { .. } => None,
        }
    }

    /// The cell that it changes or looks at.
    #[must_use]
    pub fn cell(&self) -> Option<u32> {
        match *self {
            Self::Update { cell, .. } | Self::Look { cell } => Some(cell),
            _ => None,
        }
    }

    /// How many words the buffer has that it returns; nothing if it returns none.
    #[must_use]
    pub fn words(&self) -> Option<u32> {
        match *self {
            Self::Fill { words } | Self::Kernel { words, .. } => Some(words),
            _ => None,
        }
    }

    fn is_number(&self) -> bool {
        matches!(self, Self::Number | Self::Look { .. })
    }

    /// How many buffers it reads at most.
    fn buffers_max(&self) -> usize {
        match self {
            Self::Number | Self::Fill { .. } => usize::MAX,
            Self::Kernel { .. } => 2,
            Self::Update { .. } => 1,
            Self::Look { .. } => 0,
        }
    }

    fn takes_numbers(&self) -> bool {
        matches!(self, Self::Number | Self::Fill { .. })
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number => write!(f, "a number"),
            Self::Fill { words } => write!(f, "a buffer of {words} words"),
            Self::Kernel { words, .. } => write!(f, "a kernel, a buffer of {words} words"),
            Self::Update { cell, .. } => write!(f, "a kernel, changes cell {cell}"),
            Self::Look { cell } => write!(f, "a number, looks at cell {cell}"),
        }?;
        match self.launched_at() {
            None => Ok(()),
            Some(Where::Anywhere) => write!(f, ", anywhere"),
            Some(Where::Devices) => write!(f, ", on devices"),
            Some(Where::Device(device)) => write!(f, ", on device {device}"),
        }
    }
}

/// What a task depends on, by what it does with that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Tasks whose numbers it takes.
    pub(super) numbers: Vec<u32>,
    /// Tasks whose buffers it takes.
    pub(super) buffers: Vec<u32>,
    /// Tasks that it only comes after.
    pub(super) after: Vec<u32>,
    /// The task that has changed its cell last.
    pub(super) writer: Option<u32>,
    /// Tasks that have looked at its cell since, which it comes after as it changes it.
    pub(super) lookers: Vec<u32>,
}

impl Needs {
    /// All tasks whose failure is its own.
    pub(super) fn values(&self) -> impl Iterator<Item = u32> + '_ {
        self.numbers.iter().chain(&self.buffers).chain(&self.writer).copied()
    }

    /// All tasks that it comes after.
    pub(super) fn all(&self) -> impl Iterator<Item = u32> + '_ {
        self.values().chain(self.after.iter().chain(&self.lookers).copied())
    }
}

/// What each task of a script depends on. What it cannot take as an input, it only comes after.
pub(super) fn needs(script: &Script) -> Vec<Needs> {
    let mut cells: Vec<(Option<u32>, Vec<u32>)> = vec![(None, Vec::new()); script.cells.len()];
    let of = |(number, task): (u32, &super::ScriptTask)| {
        let mut needs = Needs { after: task.after.clone(), ..Needs::default() };
        for source in &task.inputs {
            let made = &script.tasks[*source as usize].work;
            let place = if made.is_number() && task.work.takes_numbers() {
                &mut needs.numbers
            } else if made.words().is_some() && needs.buffers.len() < task.work.buffers_max() {
                &mut needs.buffers
            } else {
                &mut needs.after
            };
            place.push(*source);
        }
        if let Some((writer, lookers)) = task.work.cell().map(|cell| &mut cells[cell as usize]) {
            needs.writer = *writer;
            if let Work::Update { .. } = task.work {
                *writer = Some(number);
                needs.lookers = std::mem::take(lookers);
            } else {
                lookers.push(number);
            }
        }
        needs
    };
    (0..).zip(&script.tasks).map(of).collect()
}

/// The value of each task if nothing goes wrong, and what the cells have in the end.
pub(super) fn reference(script: &Script, needs: &[Needs]) -> (Vec<u64>, Vec<u64>) {
    let mut cells: Vec<u64> = (0..script.cells.len() as u32).map(initial).collect();
    let mut values = Vec::with_capacity(script.tasks.len());
    for ((number, task), needs) in (0..).zip(&script.tasks).zip(needs) {
        let cell = task.work.cell().map(|cell| cells[cell as usize]);
        let others = needs.numbers.iter().chain(&needs.buffers).map(|source| values[*source as usize]);
        let value = result(number, cell.into_iter().chain(others));
        if let Work::Update { cell, .. } = task.work {
            cells[cell as usize] = value;
        }
        values.push(value);
    }
    (values, cells)
}

/// The value of a task, made of those of what it looks at: its cell, then numbers, then buffers.
pub(super) fn result(task: u32, inputs: impl Iterator<Item = u64>) -> u64 {
    let own = (u64::from(task) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    inputs.fold(own, |sum, input| sum.wrapping_add(input).rotate_left(7))
}

/// What a cell has in the beginning.
pub(super) fn initial(cell: u32) -> u64 {
    result(u32::MAX - cell, std::iter::empty())
}

/// A word of a buffer that holds a value.
pub(super) fn word(value: u64, index: usize) -> u64 {
    value ^ (index as u64).wrapping_mul(0xd134_2543_de82_ef95)
}

/// The value that a buffer holds; nothing if it holds none, in part or whole.
pub(super) fn value_of(mut words: impl Iterator<Item = u64>) -> Option<u64> {
    let value = words.next()?;
    (1..).zip(words).all(|(index, found)| found == word(value, index)).then_some(value)
}
