//! `BRIDGE_DESCRIPTION`: the description of a trigger in the operator's own words.

use std::fmt;

use strum::{EnumString, IntoStaticStr, VariantNames};
use thiserror::Error;

use crate::alert::Alert;

/// A line with placeholders such as `{project}`. `Display` writes it as it was parsed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Text(String),
    Field(Field),
}

/// What a placeholder stands for. A value that is not known becomes the empty text.
#[derive(Clone, Copy, Debug, Eq, PartialEq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
enum Field {
    /// The description that the event has without a template.
    Title,
    /// The project's slug, else its name.
    Project,
    /// The project's name, else its slug.
    ProjectName,
    Environment,
    Level,
    Message,
    Culprit,
    Transaction,
    Release,
    Platform,
    Logger,
    ServerName,
    /// The alert rule that fired, the first if there are several.
    Rule,
    /// The id of the issue, or the name of the metric alert's incident.
    Issue,
}

/// Why a text is not a [`Template`].
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum TemplateError {
    /// A name in braces that is not a placeholder.
    #[error("has `{{{0}}}`, which is not a placeholder: write some of {names}, and `{{{{` for a brace", names = names())]
    Unknown(String),
    /// An opening or closing brace without its counterpart.
    #[error("has a `{0}` without its other brace: write `{0}{0}` for a brace that is no placeholder")]
    Brace(char),
    /// No placeholder, so that every alert would get the same text.
    #[error("has no placeholder, so all incidents would have the same description: write some of {names}", names = names())]
    NoPlaceholder,
}

fn names() -> String {
    Field::VARIANTS.iter().map(|name| format!("`{{{name}}}`")).collect::<Vec<_>>().join(", ")
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    ///
    /// Returns an error if a name in braces is not a placeholder, a brace has no counterpart, or there is no placeholder
    /// at all.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(place) = rest.find(['{', '}']) {
            let (before, from_brace) = rest.split_at(place);
            literal.push_str(before);
            let brace = if from_brace.starts_with('{') { '{' } else { '}' };
            let after = &from_brace[1..];
            if let Some(after) = after.strip_prefix(brace) {
                literal.push(brace);
                rest = after;
                continue;
            }
            let (name, after) = after.split_once('}').filter(|_| brace == '{').ok_or(TemplateError::Brace(brace))?;
            let field = name.trim().parse().map_err(|_| TemplateError::Unknown(name.to_owned()))?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::Field(field));
            rest = after;
        }
        literal.push_str(rest);
        if parts.is_empty() {
            return Err(TemplateError::NoPlaceholder);
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self(parts))
    }

    /// The line of an alert, of any length; `title` is its description without a template.
    pub(super) fn line(&self, alert: &Alert, title: &str) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(field) => field.value(alert, title).unwrap_or_default().to_owned(),
        };
        self.0.iter().map(part).collect()
    }
}

impl Field {
    fn value<'a>(self, alert: &'a Alert, title: &'a str) -> Option<&'a str> {
        let project = &alert.project;
        match self {
            Self::Title => Some(title),
            Self::Project => project.slug.as_deref().or(project.name.as_deref()),
            Self::ProjectName => project.name.as_deref().or(project.slug.as_deref()),
            Self::Environment => alert.environment.as_deref(),
            Self::Level => alert.level.as_deref(),
            Self::Message => alert.message.as_deref(),
            Self::Culprit => alert.culprit.as_deref(),
            Self::Transaction => alert.transaction.as_deref(),
            Self::Release => alert.release.as_deref(),
            Self::Platform => alert.platform.as_deref(),
            Self::Logger => alert.logger.as_deref(),
            Self::ServerName => alert.server_name.as_deref(),
            Self::Rule => alert.rules.first().map(String::as_str),
            Self::Issue => Some(alert.subject.name()),
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            match part {
                Part::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}"))?,
                Part::Field(field) => write!(f, "{{{}}}", <&str>::from(field))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_written_as_it_was_read() {
        for text in ["{title}", "[{project}/{environment}] {title}", "{{{level}}} {title}{rule} 100 %"] {
            assert_eq!(Template::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Template::parse("{ title }").unwrap().to_string(), "{title}");
    }

    #[test]
    fn what_is_wrong_with_a_template_is_told() {
        let wrong = |text: &str| Template::parse(text).unwrap_err().to_string();
        assert!(
            wrong("{projet}: {title}")
                .starts_with("has `{projet}`, which is not a placeholder: write some of `{title}`, ")
        );
        assert!(wrong("{projet}").ends_with("`{issue}`, and `{{` for a brace"), "{}", wrong("{projet}"));
        assert!(wrong("{}").starts_with("has `{}`, which is not a placeholder"));
        let open = "has a `{` without its other brace: write `{{` for a brace that is no placeholder";
        assert_eq!(wrong("{title} {"), open);
        assert_eq!(wrong("{title"), open);
        assert_eq!(wrong("title}"), open.replace('{', "}"));
        for text in ["", "the same", "{{title}}"] {
            assert!(
                wrong(text).starts_with("has no placeholder, so all incidents would have the same description"),
                "{text}"
            );
        }
    }
}
