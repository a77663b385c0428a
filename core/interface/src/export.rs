//! The macro that makes a crate a plugin.

/// Makes the crate a plugin: exports the header symbol of the backend `$name`, whose `create` evaluates `$make`, an expression of a type that
/// implements [`Backend`](crate::Backend).
///
/// Every entry of the plugin catches panics and returns them as errors, the evaluation of `$make` included.
/// The symbol carries the name, so several backends can be linked into one program.
///
/// ```
/// # use std::sync::Arc;
/// # use poniard_interface::*;
/// struct Nothing;
/// impl Backend for Nothing {
///     fn info(&self) -> BackendInfo {
///         BackendInfo { name: "nothing".into(), version: "1.0.0".into() }
///     }
///     fn open(&self, _: &Settings, _: Arc<dyn HostServices>) -> Result<Opened, OpenError> {
///         Ok(Opened::default())
///     }
/// }
/// poniard_interface::export_backend!("nothing", Nothing);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export_backend {
    ($name:literal, $make:expr) => {
        const _: () = {
            extern "C" fn create() -> $crate::stable::Created {
                $crate::stable::create(|| $make)
            }

            #[unsafe(export_name = concat!("poniard_backend_", $name))]
            static HEADER: $crate::PluginHeader =
                $crate::PluginHeader::new($name, env!("CARGO_PKG_VERSION"), $crate::stable::layout, create);
        };
    };
}
