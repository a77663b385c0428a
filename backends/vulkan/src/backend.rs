//! The Vulkan backend: settings and the machine's devices in, queued processors out.

use std::sync::Arc;

use poniard_interface::{
    Backend, BackendInfo, DeviceClass, HostServices, InspectError, KernelInterface, LogLevel, OpenError, Opened, Settings, Source, SpaceId,
};

use crate::instance::{Instance, listen};
use crate::physical_device::PhysicalDevice;
use crate::processor::VulkanProcessor;
use crate::queue::Queue;
use crate::settings::{Devices, VulkanSettings};
use crate::shader;
use crate::space::VulkanSpace;

/// Opens one queued processor for each Vulkan device that the settings ask for, the most capable first: discrete, integrated, virtual, others, software.
#[derive(Clone, Copy, Debug, Default)]
pub struct VulkanBackend;

impl VulkanBackend {
    /// The backend. Looks at nothing yet.
    pub fn new() -> Self {
        Self
    }
}

impl Backend for VulkanBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo { name: "vulkan".into(), version: env!("CARGO_PKG_VERSION").into() }
    }

    fn settings(&self) -> Vec<String> {
        VulkanSettings::NAMES.map(Into::into).into()
    }

    fn open(&self, settings: &Settings, host: Arc<dyn HostServices>) -> Result<Opened, OpenError> {
        let settings = VulkanSettings::read(settings)?;
        if settings.devices == Devices::None {
            return Ok(Opened::default());
        }
        let none = |reason: &str| host.log(LogLevel::Info, &format!("vulkan: none found ({reason})"));
        let instance = match Instance::get(settings.validation) {
            Ok(instance) => instance,
            Err(reason) => {
                none(&reason);
                return Ok(Opened::default());
            }
        };
        if settings.validation {
            listen(&host);
            if !instance.is_validated {
                host.log(LogLevel::Warning, "vulkan: the validation layer is not installed; the checker alone looks on");
            }
        }
        let found: Vec<_> =
            instance.devices.iter().filter(|device| settings.software || device.class != DeviceClass::Software).enumerate().collect();
        if found.is_empty() {
            let hidden = instance.devices.iter().map(|device| format!("`{}` is software: `vulkan.software=true` lists it", device.name));
            none(&hidden.chain(instance.unusable.iter().cloned()).collect::<Vec<_>>().join("; "));
            return Ok(Opened::default());
        }
        let chosen = choose(&settings.devices, &found)?;
        let mut opened = Opened::default();
        for (index, device) in chosen {
            let name = format!("vulkan-{index}");
            let queue = Arc::new(Queue::new(name, Arc::clone(device), settings.clone(), instance, Arc::clone(&host)));
            let space = SpaceId(index as u32 + 1);
            opened.processors.push(Box::new(VulkanProcessor::new(space, Arc::clone(&queue))));
            opened.spaces.push(Box::new(VulkanSpace::new(space, queue)));
        }
        Ok(opened)
    }

    fn inspect(&self, source: Source<'_>) -> Result<Option<KernelInterface>, InspectError> {
        shader::inspect(source).map(Some)
    }
}

/// The devices that are asked for, each once, in the order of the list.
fn choose<'a>(wanted: &Devices, found: &[(usize, &'a Arc<PhysicalDevice>)]) -> Result<Vec<(usize, &'a Arc<PhysicalDevice>)>, OpenError> {
    let Devices::Chosen(names) = wanted else { return Ok(found.to_vec()) };
    let is_meant = |name: &String, index: usize, device: &PhysicalDevice| match name.parse::<usize>() {
        Ok(wanted) => wanted == index,
        Err(_) => device.name.to_lowercase().contains(&name.to_lowercase()) || device.uuid.eq_ignore_ascii_case(name),
    };
    if let Some(unknown) = names.iter().find(|name| !found.iter().any(|(index, device)| is_meant(name, *index, device))) {
        let known: Vec<_> = found.iter().map(|(index, device)| format!("{index}: {} ({})", device.name, device.uuid)).collect();
        return Err(OpenError::new(format!("setting `vulkan.devices` names `{unknown}`, and there is: {}", known.join(", "))));
    }
    let is_chosen = |(index, device): &&(usize, &Arc<PhysicalDevice>)| names.iter().any(|name| is_meant(name, *index, device));
    Ok(found.iter().filter(is_chosen).copied().collect())
}
