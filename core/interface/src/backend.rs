//! The plugin itself.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::host::HostServices;
use crate::kernel::{InspectError, KernelInterface};
use crate::launch::Source;
use crate::processor::{Processor, operation_error};
use crate::remote::Image;
use crate::space::MemorySpace;

/// What a backend is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendInfo {
    /// Its name; the plugin file is `libponiard_backend_<name>.so`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// What the user asked of a backend: names and values as text, for instance `threads = 4`.
///
/// One set of settings is offered to all backends. Each reads those that it names ([`Backend::settings`]), refuses values that it does not understand, and ignores the
/// others. The runtime refuses one that no backend names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// No settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `name` to `value`.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// The text of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of `name`, if it is set.
    ///
    /// # Errors
    /// [`OpenError`] names the setting, its text and why it does not parse.
    pub fn parse<T: std::str::FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<Option<T>, OpenError> {
        self.get(name)
            .map(|text| text.parse().map_err(|error| OpenError::new(format!("setting `{name}` is `{text}`: {error}"))))
            .transpose()
    }

    /// Names and values in order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// What a backend found when it was opened.
#[derive(Default)]
pub struct Opened {
    /// What executes tasks. Empty is no error: a machine without a GPU has no GPU processors.
    pub processors: Vec<Box<dyn Processor>>,
    /// Memory besides the host's.
    pub spaces: Vec<Box<dyn MemorySpace>>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("processors", &self.processors.iter().map(|p| p.info()).collect::<Vec<_>>())
            .field("spaces", &self.spaces.iter().map(|s| s.info()).collect::<Vec<_>>())
            .finish()
    }
}

/// One way to execute tasks. A plugin exports one with [`export_backend!`](crate::export_backend).
pub trait Backend: Send + Sync {
    /// What it is.
    fn info(&self) -> BackendInfo;

    /// The names of the settings that it reads. None, unless it says otherwise.
    fn settings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Finds the processors that `settings` ask for. Starts no thread yet. Called once for each runtime.
    ///
    /// # Errors
    /// [`OpenError`] when a setting is bad or the machine's device refuses.
    fn open(&self, settings: &Settings, host: Arc<dyn HostServices>) -> Result<Opened, OpenError>;

    /// What a kernel's body takes, from its source; `None` for code that is nothing to this backend. Needs no device.
    ///
    /// # Errors
    /// [`InspectError`] when the code is no kernel: its text says what and where.
    fn inspect(&self, source: Source<'_>) -> Result<Option<KernelInterface>, InspectError> {
        let _ = source;
        Ok(None)
    }

    /// In a process that was started by a [`ServeCommand`](crate::ServeCommand) with this `argument`: serves until it is not needed any more, and gives the exit
    /// status of the process. Called on the only thread there is, before `main`.
    ///
    /// # Errors
    /// [`OpenError`] when it cannot serve; the process then says so on its standard error and ends.
    fn serve(&self, argument: &str, image: Arc<dyn Image>) -> Result<i32, OpenError> {
        let _ = (argument, image);
        Err(OpenError::new("the backend starts no processes"))
    }
}

operation_error!(
    /// A backend could not be opened.
    OpenError,
    "failed to open the backend: {reason}"
);
