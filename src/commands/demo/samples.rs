//! The alerts of the demo: the fixtures recorded from Sentry 9.1.2, built into the program so that it runs anywhere.

macro_rules! samples {
    ($($name:literal,)*) => {
        &[$(($name, include_bytes!(concat!("../../../fixtures/legacy-9.1/", $name, ".json")))),*]
    };
}

/// Name and body of each sample.
pub(super) const SAMPLES: &[(&str, &[u8])] = samples![
    "browser-error",
    "csp-report",
    "every-attribute",
    "example-python-exception",
    "integer-event-id",
    "java-exception",
    "level-debug",
    "level-error",
    "level-fatal",
    "level-info",
    "level-warning",
    "message-in-many-scripts",
    "message-of-8192-characters",
    "message-of-many-lines",
    "message-with-control-characters",
    "message-with-lone-surrogates",
    "message-with-markup",
    "message-with-parameters",
    "no-message",
    "node-exception",
    "node-exception-half-emoji",
    "nulls",
    "odd-numbers",
    "organizations-url",
    "plain-message",
    "python-exception",
    "python-exception-with-request",
    "python-log-warning",
    "python-sql-query",
    "tag-named-logger",
    "tags-301",
    "two-alert-rules",
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_recorded_fixture_is_a_sample() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/legacy-9.1");
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(SAMPLES.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
    }
}
