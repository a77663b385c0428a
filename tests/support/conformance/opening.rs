//! Runtimes begin, and say what is wrong with what they were told. No task is run.

use std::collections::BTreeSet;

use poniard::BuildErrorKind;

use super::{Proof, Subject, promised};

pub(super) fn processors_have_names_of_their_own(subject: &Subject) -> Proof {
    let stage = subject.stage();
    let names: BTreeSet<&str> = stage.processors.iter().map(|processor| processor.name.as_str()).collect();
    assert_eq!(names.len(), stage.processors.len(), "two have one name: {:?}", stage.processors);
    assert!(!names.contains(""), "one has no name: {:?}", stage.processors);
    let report = stage.runtime.report();
    let told = report.backends.iter().find(|backend| backend.name == subject.backend).map(|backend| &backend.processors);
    let told: BTreeSet<&str> = told.into_iter().flatten().map(|processor| processor.name.as_str()).collect();
    assert_eq!(told, names);
    Ok(())
}

/// Checks that a setting is refused, with words that name it.
fn is_refused(subject: &Subject, name: &str, value: &str) {
    match (subject.builder)().setting(name, value).build() {
        Ok(_) => panic!("the setting `{name}` may be `{value}`"),
        Err(error) => {
            assert_eq!(error.kind(), BuildErrorKind::Setting, "{error}");
            assert!(error.to_string().contains(&format!("setting `{name}`")), "{error}");
        }
    }
}

pub(super) fn a_bad_setting_is_refused_by_its_name(subject: &Subject) -> Proof {
    let Subject { backend, promises, .. } = subject;
    promised(!promises.bad_settings.is_empty() || promises.has_own_settings, "it has no settings")?;
    for (name, value) in promises.bad_settings {
        is_refused(subject, name, value);
    }
    if promises.has_own_settings {
        is_refused(subject, &format!("{backend}.no-such-setting"), "1");
    }
    Ok(())
}
