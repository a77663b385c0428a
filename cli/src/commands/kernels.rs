//! `poniard kernels`: what graph files can name.

use serde_json::{Value, json};

use crate::console::{Console, NAME, QUIET, Styled};
use crate::failure::Failure;
use crate::kernels::catalogue;
use crate::options::ListOptions;

/// Lists the catalogue of kernels.
pub fn kernels(options: &ListOptions, console: &mut Console) -> Result<(), Failure> {
    let catalogue = catalogue();
    if options.json {
        let all: Value =
            catalogue.iter().map(|entry| json!({ "name": entry.name, "signature": entry.signature, "summary": entry.summary })).collect();
        return console.line(all);
    }
    for entry in &catalogue {
        // A signature may begin with the name; it shall not be there twice.
        let rest = entry.signature.strip_prefix(entry.name);
        let separator = if rest.is_some() { "" } else { "  " };
        console.line(format_args!("{}{separator}{}", Styled(NAME, entry.name), rest.unwrap_or(&entry.signature)))?;
        console.line(format_args!("    {}", entry.summary))?;
    }
    console.line(Styled(QUIET, "Each task of a graph file names one of these."))
}
