//! Comparing a plugin's layout of the contract with this side's.

use abi_stable::abi_stability::abi_checking::{AbiInstability, AbiInstabilityError, AbiInstabilityErrors, check_layout_compatibility};
use abi_stable::type_layout::{TLFieldOrFunction, TypeLayout};

/// Compares the layout that `plugin` returns with `host`, the one that this side was compiled with.
///
/// # Errors
/// The innermost difference, in one phrase: `` `StableTask` in `submit`: its size is 32 bytes in the plugin and 24 bytes here ``.
pub fn check_layout(host: &'static TypeLayout, plugin: extern "C" fn() -> &'static TypeLayout) -> Result<(), String> {
    compare(host, plugin())
}

fn compare(host: &'static TypeLayout, plugin: &'static TypeLayout) -> Result<(), String> {
    check_layout_compatibility(host, plugin).map_err(|errors| difference(&errors))
}

/// The innermost of the differences: those further out follow from it. abi_stable's own text has a page for each.
fn difference(errors: &AbiInstabilityErrors) -> String {
    let with_facts = errors.errors.iter().filter(|error| !error.errs.is_empty());
    match with_facts.max_by_key(|error| error.stack_trace.len()) {
        Some(error) => format!("{}: {}", place(error, errors), phrase(&error.errs[0])),
        None => "the types differ".to_owned(),
    }
}

/// The type that differs, and the function of the contract that it belongs to.
fn place(error: &AbiInstabilityError, errors: &AbiInstabilityErrors) -> String {
    let innermost_function = error.stack_trace.iter().rev().find_map(|step| match &step.expected {
        TLFieldOrFunction::Function(function) => Some(function.name.as_str()),
        TLFieldOrFunction::Field(_) => None,
    });
    let subject = match error.stack_trace.last().map(|step| &step.expected) {
        Some(TLFieldOrFunction::Field(field)) => field.layout().name(),
        Some(TLFieldOrFunction::Function(function)) => return format!("function `{}`", function.name.as_str()),
        None => errors.interface.name(),
    };
    // The fields in between are mostly those of abi_stable's containers.
    match innermost_function {
        Some(function) => format!("`{subject}` in `{function}`"),
        None => format!("`{subject}`"),
    }
}

/// One difference in words.
fn phrase(error: &AbiInstability) -> String {
    use AbiInstability::*;
    match error {
        Size(size) => format!("its size is {} bytes in the plugin and {} bytes here", size.found, size.expected),
        Alignment(align) => format!("its alignment is {} bytes in the plugin and {} bytes here", align.found, align.expected),
        FieldCountMismatch(count) => format!("it has {} fields in the plugin and {} here", count.found, count.expected),
        TooManyVariants(count) => format!("it has {} variants in the plugin and {} here", count.found, count.expected),
        Name(name) => format!("it is `{}` in the plugin and `{}` here", name.found, name.expected),
        Package(package) => format!("it comes from the crate {} in the plugin and from {} here", package.found, package.expected),
        PackageVersion(version) => format!("its crate has version {} in the plugin and {} here", version.found, version.expected),
        UnexpectedField(field) => format!("its field is `{}` in the plugin and `{}` here", field.found.name(), field.expected.name()),
        UnexpectedVariant(variant) => format!("its variant is `{}` in the plugin and `{}` here", variant.found, variant.expected),
        // The rest needs whole layouts to be understood; the name of the difference is what helps to look for it.
        other => {
            let text = format!("{other:?}");
            format!("it differs ({})", text.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi_stable::StableAbi;
    use abi_stable::std_types::RString;

    /// One declaration compiled twice, as a plugin and its host compile it at different times.
    macro_rules! version {
        ($module:ident, $($field:ident: $type:ty),*) => {
            mod $module {
                use super::*;
                #[repr(C)]
                #[derive(StableAbi)]
                pub(super) struct Task {
                    $(pub(super) $field: $type),*
                }
                #[repr(C)]
                #[derive(StableAbi)]
                pub(super) struct Batch {
                    pub(super) first: Task,
                }
            }
        };
    }

    version!(here, id: u64, name: RString);
    version!(same, id: u64, name: RString);
    version!(longer, id: u64, name: RString, weight: u64);
    version!(narrower, id: u32, name: RString);
    version!(renamed, number: u64, name: RString);

    extern "C" fn foreign() -> &'static TypeLayout {
        <here::Batch as StableAbi>::LAYOUT
    }

    fn check(plugin: &'static TypeLayout, parts: &[&str]) {
        let message = compare(<here::Batch as StableAbi>::LAYOUT, plugin).expect_err("the layouts differ");
        for part in parts {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
        assert!(!message.contains('\n') && message.len() < 200, "not one phrase: {message}");
    }

    #[test]
    fn equal_layouts_pass() {
        assert_eq!(check_layout(super::super::layout(), super::super::layout), Ok(()));
        assert_eq!(check_layout(super::super::policy_layout(), super::super::policy_layout), Ok(()));
        assert_eq!(compare(<here::Batch as StableAbi>::LAYOUT, <same::Batch as StableAbi>::LAYOUT), Ok(()));
    }

    #[test]
    fn a_difference_is_one_phrase_about_the_innermost_type() {
        check(<longer::Batch as StableAbi>::LAYOUT, &["`Task`: ", "48 bytes in the plugin", "40 bytes here"]);
        check(<narrower::Batch as StableAbi>::LAYOUT, &["in the plugin", "here", "u32", "u64"]);
        check(<renamed::Batch as StableAbi>::LAYOUT, &["`Task`", "number"]);
    }

    #[test]
    fn a_plugin_of_something_else_is_told_what_it_is() {
        let message = check_layout(super::super::layout(), foreign).expect_err("another type");
        assert!(message.contains("Batch") && message.contains("StableBackend"), "{message}");
    }
}
