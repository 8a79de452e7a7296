//! The rules of a trigger's `contexts`: links and images.

use serde_json::{Map, Value};

use crate::validate::{Findings, is_absolute};

const INVALID: &str = "Contexts is invalid";

/// Adds what is wrong with `contexts` to `findings`.
pub(crate) fn validate(contexts: &Value, strict: bool, findings: &mut Findings) {
    let Some(contexts) = contexts.as_array() else { return findings.error(INVALID) };
    for context in contexts {
        let Some(context) = context.as_object() else {
            findings.error(INVALID);
            continue;
        };
        match context.get("type").and_then(Value::as_str) {
            Some("link") => {
                if text(context, "href").is_none() {
                    findings.error("Context href is missing or blank");
                }
                others(context, ["type", "href"], &["text"], strict, findings);
            }
            Some("image") => {
                match text(context, "src") {
                    None => findings.error("Context src is missing or blank"),
                    Some(src) if !is_absolute(src, &["https"]) => findings.error("Context src must be HTTPS"),
                    Some(_) => {}
                }
                others(context, ["type", "src"], &["href", "alt"], strict, findings);
            }
            _ => findings.error(INVALID),
        }
    }
}

/// A member's text, unless it is blank.
fn text<'a>(context: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    context.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty())
}

/// Looks at the members besides those that are `required`.
fn others(context: &Map<String, Value>, required: [&str; 2], optional: &[&str], strict: bool, findings: &mut Findings) {
    for (name, value) in context.iter().filter(|(name, _)| !required.contains(&name.as_str())) {
        let known = optional.contains(&name.as_str());
        if (known && !value.is_string()) || (!known && strict) {
            findings.error(INVALID);
        } else if !known {
            findings.warnings.push(format!("{name} is no member of such a context"));
        }
    }
}
