//! What the user may ask of the Vulkan devices.
//!
//! | setting | value | default |
//! |---|---|---|
//! | `vulkan.devices` | `all`, `none` (then the library is not even loaded), or a list with commas of indexes, parts of names and UUIDs | `all` |
//! | `vulkan.software` | `true` or `false`: whether the host's own cores may play a device | `false` |
//! | `vulkan.import` | `true` or `false`: whether devices work in the host's memory, so that nothing is copied | `true` for integrated and software devices |
//! | `vulkan.memory` | how many bytes of each device's memory are used at most | 90 % of its largest heap |
//! | `vulkan.deadline_ms` | a device that has not ended a batch after so many milliseconds is given up, 1 to 86400000 | 10000 |
//! | `vulkan.transfer` | `auto`: copies go to a queue of their own where the device has one; `none`: everything goes to one queue; `emulated`: two rows of batches on one queue, for tests | `auto` |
//! | `vulkan.validation` | `true` or `false`: whether the validation layer and the checker of the backend's own commands look on; for tests | `false` |
//! | `vulkan.binding_limit` | a buffer that is longer than so many bytes is not bound but reached by its address, at least 16; for tests, since only what is longer than the device's own limit needs it | what the device says |
//! | `vulkan.cache` | the folder for compiled kernels; empty: they are not kept | `poniard/vulkan` in `XDG_CACHE_HOME` or `~/.cache` |
//! | `vulkan.without` | what to do without, as a list with commas: `push-descriptors`, `mapping` (the host reaches no memory of the device), `addresses` (buffers are reached by bindings alone), `device` (none can be made); for tests, and to find faults of drivers | nothing |

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use poniard_interface::{OpenError, Settings};

const DEFAULT_DEADLINE_MS: u64 = 10_000;
/// A day: more is a slip of the keyboard.
const MAX_DEADLINE_MS: u64 = 86_400_000;
/// Less than any device binds, and than chunks are aligned to.
const MIN_BINDING_BYTES: u64 = 16;
/// Less holds no useful chunk.
const MIN_MEMORY_BYTES: u64 = 1 << 20;

/// The settings, read and found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VulkanSettings {
    /// Which devices.
    pub devices: Devices,
    /// Whether software devices are devices.
    pub software: bool,
    /// Whether spaces import the host's memory; none: as the device's class suggests.
    pub import: Option<bool>,
    /// How much of a device's memory is used at most, in bytes.
    pub memory_bytes: Option<u64>,
    /// How long a binding may be at most, in bytes, if that is less than the device takes.
    pub binding_bytes: Option<u64>,
    /// How long a batch may take.
    pub deadline: Duration,
    /// Where copies between the host and the device go.
    pub transfer: Transfer,
    /// Whether validation is on.
    pub validation: bool,
    /// Where compiled kernels are kept.
    pub cache: Option<PathBuf>,
    /// What to do without.
    pub without: Without,
}

/// Which of the machine's devices are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Devices {
    /// All.
    All,
    /// None.
    None,
    /// Those with these indexes, parts of names, or UUIDs.
    Chosen(Vec<String>),
}

/// Where copies between the host and a device go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transfer {
    /// To a queue of their own, where the device has one.
    #[default]
    Auto,
    /// To the queue that computes.
    None,
    /// To the queue that computes, but in a row of batches of their own: what two queues do, without what they are good for.
    Emulated,
}

/// What the backend does without though the driver has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Without {
    /// Descriptors come from pools.
    pub push_descriptors: bool,
    /// The host reaches the device's memory by copies alone.
    pub mapping: bool,
    /// Buffers have no addresses.
    pub addresses: bool,
    /// No device can be made.
    pub device: bool,
}

impl VulkanSettings {
    /// Their names.
    pub const NAMES: [&str; 10] = [
        "vulkan.binding_limit",
        "vulkan.cache",
        "vulkan.deadline_ms",
        "vulkan.devices",
        "vulkan.import",
        "vulkan.memory",
        "vulkan.software",
        "vulkan.transfer",
        "vulkan.validation",
        "vulkan.without",
    ];

    /// Reads the settings of this backend out of those of all.
    ///
    /// # Errors
    /// [`OpenError`] names the setting, its text and what would be right.
    pub fn read(settings: &Settings) -> Result<Self, OpenError> {
        let devices = match settings.get("vulkan.devices") {
            None | Some("all") => Devices::All,
            Some("none") => Devices::None,
            Some(text) => {
                let chosen: Vec<_> = text.split(',').map(|name| name.trim().to_owned()).collect();
                if chosen.iter().any(String::is_empty) {
                    return Err(refuse(
                        "vulkan.devices",
                        text,
                        "expected `all`, `none`, or indexes, parts of names and UUIDs between commas",
                    ));
                }
                Devices::Chosen(chosen)
            }
        };
        let memory_bytes = match settings.parse::<u64>("vulkan.memory")? {
            Some(bytes) if bytes < MIN_MEMORY_BYTES => {
                return Err(refuse("vulkan.memory", bytes, format!("at least {MIN_MEMORY_BYTES} bytes are needed")));
            }
            bytes => bytes,
        };
        let binding_bytes = match settings.parse::<u64>("vulkan.binding_limit")? {
            Some(bytes) if bytes < MIN_BINDING_BYTES => {
                return Err(refuse("vulkan.binding_limit", bytes, format!("at least {MIN_BINDING_BYTES} bytes are needed")));
            }
            bytes => bytes,
        };
        let deadline_ms = match settings.parse::<u64>("vulkan.deadline_ms")? {
            Some(0) => return Err(refuse("vulkan.deadline_ms", 0, "at least 1 millisecond is needed")),
            Some(ms) if ms > MAX_DEADLINE_MS => {
                return Err(refuse("vulkan.deadline_ms", ms, format!("at most {MAX_DEADLINE_MS} are possible, a day")));
            }
            ms => ms.unwrap_or(DEFAULT_DEADLINE_MS),
        };
        let transfer = match settings.get("vulkan.transfer") {
            None | Some("auto") => Transfer::Auto,
            Some("none") => Transfer::None,
            Some("emulated") => Transfer::Emulated,
            Some(text) => return Err(refuse("vulkan.transfer", text, "expected `auto`, `none` or `emulated`")),
        };
        let mut without = Without::default();
        let text = settings.get("vulkan.without").unwrap_or_default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part {
                "push-descriptors" => without.push_descriptors = true,
                "mapping" => without.mapping = true,
                "addresses" => without.addresses = true,
                "device" => without.device = true,
                _ => {
                    let known = "expected some of `push-descriptors`, `mapping`, `addresses` and `device` between commas";
                    return Err(refuse("vulkan.without", text, known));
                }
            }
        }
        let cache = match settings.get("vulkan.cache") {
            Some("") => None,
            Some(path) => Some(PathBuf::from(path)),
            None => default_cache(),
        };
        Ok(Self {
            devices,
            software: settings.parse("vulkan.software")?.unwrap_or(false),
            import: settings.parse("vulkan.import")?,
            memory_bytes,
            binding_bytes,
            deadline: Duration::from_millis(deadline_ms),
            transfer,
            validation: settings.parse("vulkan.validation")?.unwrap_or(false),
            cache,
            without,
        })
    }
}

/// Where the user keeps what can be made again, if that can be told.
fn default_cache() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let base = folder("XDG_CACHE_HOME").filter(|path| path.is_absolute()).or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(base.join("poniard/vulkan"))
}

fn refuse(setting: &str, value: impl Display, reason: impl Display) -> OpenError {
    OpenError::new(format!("setting `{setting}` is `{value}`: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<VulkanSettings, OpenError> {
        let mut settings = Settings::new();
        settings.set(name, value);
        VulkanSettings::read(&settings)
    }

    fn check_refused(name: &str, value: &str, part: &str) {
        let reason = read(name, value).expect_err("a bad setting").reason;
        assert!(reason.contains(&format!("`{name}` is `{value}`")) && reason.contains(part), "{reason}");
    }

    #[test]
    fn good_values_are_taken() {
        let settings = VulkanSettings::read(&Settings::new()).unwrap();
        assert_eq!((settings.devices, settings.software, settings.import, settings.validation), (Devices::All, false, None, false));
        assert_eq!(settings.deadline, Duration::from_secs(10));
        assert_eq!(read("vulkan.devices", "none").unwrap().devices, Devices::None);
        assert_eq!(read("vulkan.devices", "0, GPU x").unwrap().devices, Devices::Chosen(vec!["0".into(), "GPU x".into()]));
        assert!(read("vulkan.software", "true").unwrap().software);
        assert_eq!(read("vulkan.import", "false").unwrap().import, Some(false));
        assert_eq!(read("vulkan.memory", "1048576").unwrap().memory_bytes, Some(1 << 20));
        assert_eq!(read("vulkan.deadline_ms", "86400000").unwrap().deadline, Duration::from_secs(86400));
        let transfers = ["auto", "none", "emulated"].map(|value| read("vulkan.transfer", value).unwrap().transfer);
        assert_eq!(transfers, [Transfer::Auto, Transfer::None, Transfer::Emulated]);
        assert_eq!(read("vulkan.cache", "").unwrap().cache, None);
        assert_eq!(read("vulkan.cache", "/a").unwrap().cache, Some("/a".into()));
        assert_eq!(read("vulkan.binding_limit", "16").unwrap().binding_bytes, Some(16));
        let without = Without { push_descriptors: true, mapping: true, addresses: true, device: false };
        assert_eq!(read("vulkan.without", "push-descriptors, mapping,addresses").unwrap().without, without);
        assert!(read("threads", "nonsense").is_ok(), "settings of other backends are ignored");
    }

    #[test]
    fn bad_values_are_named() {
        check_refused("vulkan.devices", "", "expected `all`");
        check_refused("vulkan.devices", "0,,1", "expected `all`");
        check_refused("vulkan.software", "yes", "`true` or `false`");
        check_refused("vulkan.import", "1", "`true` or `false`");
        check_refused("vulkan.memory", "1024", "at least 1048576 bytes");
        check_refused("vulkan.memory", "1GiB", "invalid digit");
        check_refused("vulkan.binding_limit", "15", "at least 16 bytes");
        check_refused("vulkan.deadline_ms", "0", "at least 1 millisecond");
        check_refused("vulkan.deadline_ms", "86400001", "a day");
        check_refused("vulkan.transfer", "two", "expected `auto`, `none` or `emulated`");
        check_refused("vulkan.validation", "on", "`true` or `false`");
        check_refused("vulkan.without", "hope", "expected some of");
    }
}
