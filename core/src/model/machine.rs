//! Which machine something was measured on.

use std::fs;

use poniard_interface::type_key::{FNV_OFFSET, fnv};

use super::text::VERSION;

/// What was measured on another machine is not true here: this tells them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine(String);

impl Machine {
    /// A machine in words.
    #[must_use]
    pub fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }

    /// This one: the model of its processors and their number, as `/proc/cpuinfo` has them. Not its name: a container gets a new one each time. Devices are told
    /// apart by their own names.
    #[must_use]
    pub fn this() -> Self {
        Self::read(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default())
    }

    fn read(cpuinfo: &str) -> Self {
        let fields = || cpuinfo.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name.trim(), value.trim()));
        let field = |wanted: &str| fields().find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned());
        // On aarch64 there are numbers only.
        let arm = || Some(format!("CPU implementer {} part {}", field("CPU implementer")?, field("CPU part")?));
        let model = field("model name").or_else(arm).unwrap_or_else(|| "unknown CPU".into());
        let count = fields().filter(|(name, _)| *name == "processor").count();
        Self(format!("{} {model}, {count} processors", std::env::consts::ARCH))
    }

    /// The words.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of its file, with the version of the text: programs of two versions have a file each.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{:016x}.v{VERSION}.txt", fnv(FNV_OFFSET, self.0.as_bytes()) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_told_apart() {
        let x86 = Machine::read("processor\t: 0\nmodel name\t: Some CPU\n\nprocessor\t: 1\nmodel name\t: Some CPU\n");
        assert!(x86.as_str().ends_with(" Some CPU, 2 processors"), "{x86:?}");
        let arm = Machine::read("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n");
        assert!(arm.as_str().ends_with(" CPU implementer 0x41 part 0xd0c, 1 processors"), "{arm:?}");
        assert!(Machine::read("").as_str().ends_with(" unknown CPU, 0 processors"));
        assert_ne!(x86.file_name(), arm.file_name());
        assert_eq!(Machine::this(), Machine::this());
    }
}
