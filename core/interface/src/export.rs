//! The macros that make a crate a plugin.

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
            static HEADER: $crate::PluginHeader<$crate::stable::CreateBackend> =
                $crate::PluginHeader::new($name, env!("CARGO_PKG_VERSION"), $crate::stable::layout, create);
        };
    };
}

/// Makes the crate a plugin: exports the header symbol of the policy `$name`, which `$summary` describes in one line. `$make` is evaluated for each runtime that uses it,
/// to a value of a type that implements [`Policy`](crate::policy::Policy) and whose `name` is `$name`.
///
/// Every entry of the plugin catches panics, the evaluation of `$make` included.
///
/// ```
/// # use poniard_interface::policy::*;
/// #[derive(Debug)]
/// struct NewestFirst;
/// impl Policy for NewestFirst {
///     fn name(&self) -> &'static str {
///         "newest-first"
///     }
///     fn place(&mut self, _: &ReadyTask<'_>, _: &mut View<'_>) -> Decision {
///         Decision::shared(Why::FirstFree)
///     }
///     fn end(&self, _: usize, _: &[Place]) -> End {
///         End { last_level: false, last_within: true }
///     }
/// }
/// poniard_interface::export_policy!("newest-first", "one queue, the newest task first", NewestFirst);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export_policy {
    ($name:literal, $summary:literal, $make:expr) => {
        const _: () = {
            extern "C" fn create() -> $crate::stable::CreatedPolicy {
                $crate::stable::create_policy($summary, || $make)
            }

            #[unsafe(export_name = concat!("poniard_policy_", $name))]
            static HEADER: $crate::PluginHeader<$crate::stable::CreatePolicy> =
                $crate::PluginHeader::new($name, env!("CARGO_PKG_VERSION"), $crate::stable::policy_layout, create);
        };
    };
}
