//! The macro that declares every setting once, and its helpers.

use std::fmt::Write as _;

use super::error::{Problem, ValueError};
use super::{SETTINGS, source};

/// A setting as `--help` and the docs describe it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Setting {
    /// The name of the variable, in full.
    pub name: &'static str,
    /// Its default value, as one would write it; `None` if it has no default.
    pub default: Option<&'static str>,
    /// Whether the bridge refuses to start without it.
    pub required: bool,
    /// Whether its value is never shown.
    pub secret: bool,
    /// What it means, in one line, with a leading space.
    doc: &'static str,
}

impl Setting {
    /// What it means, in one line.
    #[must_use]
    pub fn help(&self) -> &'static str {
        self.doc.trim_start()
    }

    pub(super) const fn new(
        name: &'static str,
        doc: &'static str,
        default: Option<&'static str>,
        required: bool,
        secret: bool,
    ) -> Self {
        Self { name, default, required, secret, doc }
    }
}

/// Every setting as text, for the end of `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = String::from(
        "Settings, from the environment or a file `.env` in the working directory:\n\
         (empty means unset; any BRIDGE_X may be given as BRIDGE_X_FILE, a path to read it from)\n",
    );
    for setting in SETTINGS {
        let fallback = match setting.default {
            Some(default) => format!(" [default: {default}]"),
            None if setting.required => " [required]".to_owned(),
            None => String::new(),
        };
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {}{fallback}\n      {}\n", setting.name, setting.help());
    }
    text
}

/// Collects what is wrong while settings are parsed, so that one start reports all of it.
pub(super) struct Problems(pub(super) Vec<Problem>);

impl Problems {
    /// Parses a setting that is set or has a default. `None` where it has neither, or does not parse.
    pub(super) fn parse<T, E: Into<ValueError>>(
        &mut self,
        name: &'static str,
        text: Option<&String>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.check(name, parse(text?))
    }

    /// Returns the value, or records what is wrong with the setting.
    pub(super) fn check<T, E: Into<ValueError>>(&mut self, name: &'static str, checked: Result<T, E>) -> Option<T> {
        match checked {
            Ok(value) => Some(value),
            Err(error) => {
                let sentences = error.into().into_sentences();
                self.0.extend(sentences.into_iter().map(|sentence| Problem::Value { name, sentence }));
                None
            }
        }
    }

    /// Reports the first of `names` as missing, unless one of them is reported already, such as for a file that cannot
    /// be read.
    pub(super) fn missing<const N: usize>(&mut self, names: [&'static str; N], remedy: &'static str) {
        if !self.0.iter().any(|problem| names.iter().any(|name| problem.concerns(name))) {
            self.0.extend(names.first().map(|name| Problem::Missing { name, remedy }));
        }
    }
}

/// Sorts texts by the setting's name into the fields of `R`, with `envy`.
///
/// All fields are strings, because the errors of `envy` contain values that it cannot parse, including secrets, and
/// names without their prefix.
pub(super) fn sort<R: serde::de::DeserializeOwned>(texts: &source::Texts) -> Result<R, Problem> {
    // `RUST_LOG` has no prefix to strip.
    let field = |name: &str| name.strip_prefix(source::PREFIX).unwrap_or(name).to_owned();
    Ok(envy::from_iter(texts.iter().map(|(name, text)| (field(name), text.clone())))?)
}

/// Declares settings: each as
///
/// ```text
/// /// What it means, in one line.
/// KIND plain|secret NAME field: Type = parser[, or TEXT];
/// ```
///
/// `field` is the name in lower case and without the prefix. The parser takes a `&str`. KIND is one of
///
/// - `required`: TEXT says what to do where it is missing
/// - `default`: TEXT is parsed where it is not set
/// - `optional`: the field is an `Option` of what the parser returns
/// - `list`: the field is the type's default where it is not set
///
/// The block after `check` sees every field by its name as an `Option` of what its parser returned.
macro_rules! declare {
    (
        $(#[doc = $doc:literal] $kind:ident $secrecy:ident $name:ident $field:ident: $type:ty = $parse:expr $(, or $text:literal)?;)+
        check |$problems:ident| $check:block
    ) => {
        /// All settings of the bridge, validated. Code that holds a `Config` need not check anything again.
        #[derive(Clone, Debug)]
        pub struct Config {
            $(#[doc = $doc] pub $field: $type,)+
        }

        /// Every setting, the ones people need first.
        pub const SETTINGS: &[Setting] = &[$(declare!(@setting $kind $secrecy $name $doc $($text)?)),+];

        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            $($field: Option<String>,)+
        }

        impl Config {
            /// Reads the configuration from a source.
            ///
            /// # Errors
            ///
            /// The error contains every problem of the configuration.
            pub fn load(source: &Source<'_>) -> Result<Self, ConfigError> {
                let (texts, problems) = source.texts().map_err(|problem| ConfigError::new(vec![problem]))?;
                let raw: Raw = declare::sort(&texts).map_err(|problem| ConfigError::new(vec![problem]))?;
                let mut problems = declare::Problems(problems);
                let parsed = Self::parse(&raw, &mut problems).filter(|_| problems.0.is_empty());
                parsed.ok_or_else(|| ConfigError::new(problems.0))
            }

            /// Returns `None` only if there are problems. There may also be problems with `Some`.
            fn parse(raw: &Raw, $problems: &mut declare::Problems) -> Option<Self> {
                $(
                    let $field = $problems.parse(stringify!($name), raw.$field.as_ref(), $parse);
                    declare!(@missing $kind $problems $name raw.$field $($text)?);
                )+
                $check
                Some(Self { $($field: declare!(@value $kind $field)),+ })
            }

            /// Returns this configuration with the settings in `texts` replaced.
            ///
            /// # Errors
            ///
            /// The error contains `problems`, which were found before, and every problem of the texts.
            fn with_texts(&self, texts: &source::Texts, problems: Vec<Problem>) -> Result<Self, ConfigError> {
                let (mut problems, mut after) = (declare::Problems(problems), self.clone());
                $(
                    if let Some($field) = problems.parse(stringify!($name), texts.get(stringify!($name)), $parse) {
                        after.$field = declare!(@some $kind $field);
                    }
                )+
                problems.check("BRIDGE_ADMIN_TOKEN", secrets::are_apart(&after.admin_token, &after.webhook_token));
                if problems.0.is_empty() { Ok(after) } else { Err(ConfigError::new(problems.0)) }
            }

            /// The digest of this configuration.
            #[must_use]
            pub fn fingerprint(&self) -> Fingerprint {
                let mut digest = fingerprint::Sum::default();
                $(digest.add(stringify!($name), &self.$field);)+
                digest.finish()
            }
        }
    };

    (@setting required $secrecy:ident $name:ident $doc:literal $text:literal) => {
        Setting::new(stringify!($name), $doc, None, true, declare!(@secret $secrecy))
    };
    (@setting default $secrecy:ident $name:ident $doc:literal $text:literal) => {
        Setting::new(stringify!($name), $doc, Some($text), false, declare!(@secret $secrecy))
    };
    (@setting $kind:ident $secrecy:ident $name:ident $doc:literal) => {
        Setting::new(stringify!($name), $doc, None, false, declare!(@secret $secrecy))
    };

    (@secret secret) => { true };
    (@secret plain) => { false };

    (@missing required $problems:ident $name:ident $raw:ident.$field:ident $text:literal) => {
        if $raw.$field.is_none() {
            $problems.missing([stringify!($name)], $text);
        }
    };
    (@missing $kind:ident $problems:ident $name:ident $raw:ident.$field:ident $($text:literal)?) => {};

    (@some optional $field:ident) => { Some($field) };
    (@some $kind:ident $field:ident) => { $field };

    (@value optional $field:ident) => { $field };
    (@value list $field:ident) => { $field.unwrap_or_default() };
    (@value $kind:ident $field:ident) => { $field? };
}

pub(super) use declare;

#[cfg(test)]
mod tests {
    use crate::config::{Config, SETTINGS};

    #[test]
    fn a_field_is_called_like_its_setting() {
        // `Debug` writes the fields in the order of their declarations.
        let config = Config::from_vars([
            ("BRIDGE_PAGERDUTY_SERVICE_KEY", "0123456789abcdef0123456789abcdef"),
            ("BRIDGE_WEBHOOK_TOKEN", "a-token-of-some-length"),
        ]);
        let printed = format!("{:#?}", config.unwrap());
        let lines = printed
            .lines()
            .filter_map(|line| line.strip_prefix("    ").filter(|line| !line.starts_with([' ', ']', ')', '}'])));
        let fields: Vec<&str> = lines.filter_map(|line| line.split(':').next()).collect();
        let names: Vec<String> =
            SETTINGS.iter().map(|setting| setting.name.trim_start_matches("BRIDGE_").to_lowercase()).collect();
        assert_eq!(fields, names);
    }
}
