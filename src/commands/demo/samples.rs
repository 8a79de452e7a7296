//! The alerts of the demo: the fixtures of the legacy plugin, built into the program so that it runs anywhere.

macro_rules! samples {
    ($($name:literal,)*) => {
        &[$(($name, include_bytes!(concat!("../../../fixtures/", $name, ".json")))),*]
    };
}

/// Name and body of each sample.
pub(super) const SAMPLES: &[(&str, &[u8])] = samples![
    "legacy-9.1/browser-error",
    "legacy-9.1/csp-report",
    "legacy-9.1/every-attribute",
    "legacy-9.1/example-python-exception",
    "legacy-9.1/integer-event-id",
    "legacy-9.1/java-exception",
    "legacy-9.1/level-debug",
    "legacy-9.1/level-error",
    "legacy-9.1/level-fatal",
    "legacy-9.1/level-info",
    "legacy-9.1/level-warning",
    "legacy-9.1/message-in-many-scripts",
    "legacy-9.1/message-of-8192-characters",
    "legacy-9.1/message-of-many-lines",
    "legacy-9.1/message-with-control-characters",
    "legacy-9.1/message-with-lone-surrogates",
    "legacy-9.1/message-with-markup",
    "legacy-9.1/message-with-parameters",
    "legacy-9.1/no-message",
    "legacy-9.1/node-exception",
    "legacy-9.1/node-exception-half-emoji",
    "legacy-9.1/nulls",
    "legacy-9.1/odd-numbers",
    "legacy-9.1/organizations-url",
    "legacy-9.1/plain-message",
    "legacy-9.1/python-exception",
    "legacy-9.1/python-exception-with-request",
    "legacy-9.1/python-log-warning",
    "legacy-9.1/python-sql-query",
    "legacy-9.1/tag-named-logger",
    "legacy-9.1/tags-301",
    "legacy-9.1/two-alert-rules",
    "legacy-other/nothing-to-read",
    "legacy-other/relay-with-shapes-of-its-own",
    "legacy-other/sentry-20-without-timestamp",
    "legacy-other/sentry-24-test-notification",
    "legacy-other/sentry-8.0-java-exception",
    "legacy-other/sentry-8.22-null-level",
    "legacy-other/sentry-9.0-message-with-stack",
    "legacy-other/sentry-in-a-folder",
    "legacy-other/sentry-io-2023-chained-exception",
    "legacy-other/service-hook-23.7",
    "legacy-other/service-hook-9.1",
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_fixture_of_the_plugin_is_a_sample() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let mut names = Vec::new();
        for folder in ["legacy-9.1", "legacy-other"] {
            for entry in fs::read_dir(fixtures.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                names.push(format!("{folder}/{}", path.file_stem().unwrap().to_string_lossy()));
            }
        }
        names.sort();
        assert_eq!(SAMPLES.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
    }
}
