//! The loader, and the machine's devices as it lists them.
//!
//! A process has one instance, or two if some runtime wants validation and some does not. They stay for good: a driver whose threads still run must not be unloaded, and
//! making one takes up to a third of a second.
#![expect(unsafe_code, reason = "calls the Vulkan loader")]

use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use ash::{Entry, ext, vk};
use poniard_interface::{HostServices, LogLevel};

use crate::physical_device::PhysicalDevice;

const VALIDATION_LAYER: &CStr = c"VK_LAYER_KHRONOS_validation";

/// The loader, opened.
pub(crate) struct Instance {
    pub(crate) raw: ash::Instance,
    /// Whether the validation layer is there.
    pub(crate) is_validated: bool,
    /// The usable devices, the most capable first, and for each other one why it is not usable.
    pub(crate) devices: Vec<Arc<PhysicalDevice>>,
    pub(crate) unusable: Vec<String>,
    /// Kept open: the functions of `raw` are in it.
    _entry: Entry,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("devices", &self.devices).field("unusable", &self.unusable).finish_non_exhaustive()
    }
}

/// What the validation layer said.
static MESSAGES: Messages = Messages { count: AtomicU64::new(0), hosts: Mutex::new(Vec::new()) };

struct Messages {
    count: AtomicU64,
    hosts: Mutex<Vec<Weak<dyn HostServices>>>,
}

/// How many messages the validation layer has had, in the whole process.
pub(crate) fn message_count() -> u64 {
    MESSAGES.count.load(Ordering::Relaxed)
}

/// Tells `host` the messages of the validation layer from now on.
pub(crate) fn listen(host: &Arc<dyn HostServices>) {
    let mut hosts = MESSAGES.hosts.lock().unwrap_or_else(PoisonError::into_inner);
    hosts.retain(|host| host.strong_count() > 0);
    hosts.push(Arc::downgrade(host));
}

impl Instance {
    /// The process's instance.
    ///
    /// # Errors
    /// Why there is none: no loader, no driver.
    pub(crate) fn get(validation: bool) -> Result<&'static Self, String> {
        static PLAIN: OnceLock<Result<Instance, String>> = OnceLock::new();
        static VALIDATED: OnceLock<Result<Instance, String>> = OnceLock::new();
        let place = if validation { &VALIDATED } else { &PLAIN };
        place.get_or_init(|| Self::open(validation)).as_ref().map_err(Clone::clone)
    }

    fn open(validation: bool) -> Result<Self, String> {
        // SAFETY: runs the initialisers of the system's Vulkan loader, which is what the user of this backend wants.
        let entry = unsafe { Entry::load() }.map_err(|error| match error {
            ash::LoadingError::LibraryLoadFailure(_) => "the Vulkan loader is not installed".to_owned(),
            other => format!("the Vulkan loader is not usable: {other}"),
        })?;
        // SAFETY: has no preconditions.
        let version = unsafe { entry.try_enumerate_instance_version() };
        if version.ok().flatten().unwrap_or(vk::API_VERSION_1_0) < vk::API_VERSION_1_2 {
            return Err("the Vulkan loader is older than 1.2".to_owned());
        }
        // SAFETY: has no preconditions.
        let layers = unsafe { entry.enumerate_instance_layer_properties() }.unwrap_or_default();
        let is_validated = validation && layers.iter().any(|layer| layer.layer_name_as_c_str() == Ok(VALIDATION_LAYER));

        let application =
            vk::ApplicationInfo::default().application_name(c"poniard").engine_name(c"poniard").api_version(vk::API_VERSION_1_2);
        let layer_names: &[*const c_char] = if is_validated { &[VALIDATION_LAYER.as_ptr()] } else { &[] };
        let extensions: &[*const c_char] =
            if is_validated { &[ext::debug_utils::NAME.as_ptr(), ext::validation_features::NAME.as_ptr()] } else { &[] };
        let enabled = [vk::ValidationFeatureEnableEXT::SYNCHRONIZATION_VALIDATION];
        let mut features = vk::ValidationFeaturesEXT::default().enabled_validation_features(&enabled);
        let mut messenger = vk::DebugUtilsMessengerCreateInfoEXT::default()
            .message_severity(vk::DebugUtilsMessageSeverityFlagsEXT::ERROR | vk::DebugUtilsMessageSeverityFlagsEXT::WARNING)
            .message_type(vk::DebugUtilsMessageTypeFlagsEXT::VALIDATION)
            .pfn_user_callback(Some(note_message));
        let mut info = vk::InstanceCreateInfo::default()
            .application_info(&application)
            .enabled_layer_names(layer_names)
            .enabled_extension_names(extensions);
        if is_validated {
            info = info.push_next(&mut features);
        }
        // SAFETY: the structures are complete, and what they point to lives to the end of this function.
        let raw = unsafe { entry.create_instance(&info, None) }.map_err(|error| match error {
            vk::Result::ERROR_INCOMPATIBLE_DRIVER => "no Vulkan driver is installed".to_owned(),
            other => format!("the Vulkan loader makes no instance: {other}"),
        })?;
        if is_validated {
            messenger = messenger.message_type(vk::DebugUtilsMessageTypeFlagsEXT::VALIDATION);
            let functions = ext::debug_utils::Instance::new(&entry, &raw);
            // SAFETY: the extension is enabled; the callback is a function of this file, which stays loaded for good.
            unsafe { functions.create_debug_utils_messenger(&messenger, None) }
                .map_err(|error| format!("the validation layer takes no messenger: {error}"))?;
        }
        // SAFETY: the instance was just made.
        let handles =
            unsafe { raw.enumerate_physical_devices() }.map_err(|error| format!("the Vulkan loader lists no devices: {error}"))?;
        let (mut devices, mut unusable) = (Vec::new(), Vec::new());
        for handle in handles {
            match PhysicalDevice::look_at(&raw, handle) {
                Ok(device) => devices.push(device),
                Err(reason) => unusable.push(reason),
            }
        }
        if devices.is_empty() && unusable.is_empty() {
            return Err("no driver has a device".to_owned());
        }
        // Stable: devices of one class stay in the loader's order.
        devices.sort_by_key(|device| device.class);
        Ok(Self { raw, is_validated, devices: devices.into_iter().map(Arc::new).collect(), unusable, _entry: entry })
    }
}

/// Counts a message of the validation layer and tells the runtimes.
unsafe extern "system" fn note_message(
    _: vk::DebugUtilsMessageSeverityFlagsEXT,
    _: vk::DebugUtilsMessageTypeFlagsEXT,
    data: *const vk::DebugUtilsMessengerCallbackDataEXT<'_>,
    _: *mut c_void,
) -> vk::Bool32 {
    // SAFETY: the layer hands over a structure that is there during the call.
    let data = unsafe { &*data };
    let text = if data.p_message.is_null() {
        String::new()
    } else {
        // SAFETY: not null, so it is text that ends with a zero and is there during the call.
        unsafe { CStr::from_ptr(data.p_message) }.to_string_lossy().into_owned()
    };
    MESSAGES.count.fetch_add(1, Ordering::Relaxed);
    let hosts: Vec<_> = {
        let hosts = MESSAGES.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.iter().filter_map(Weak::upgrade).collect()
    };
    // No unwinding may reach the layer.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        for host in hosts {
            host.log(LogLevel::Warning, &format!("vulkan: validation: {text}"));
        }
    }));
    vk::FALSE
}
