//! `audit`: which projects and alerts of a Sentry would page nobody.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use chrono::{SecondsFormat, Utc};
use serde_json::json;

use super::environment::{ConfiguredSentry, sentry};
use super::environment::{UsageError, block_on, config_with_placeholders, out};
use crate::cli::AuditArgs;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::printable::{self, line};
use crate::sentry_api::address::BridgeAddress;
use crate::sentry_api::audit::{AuditSettings, FindingKind, SavedAudit, SentryAudit, audit};
use crate::sentry_api::inventory::{Inventory, InventoryOptions, read};

/// The maximum number of findings printed about what the token may not see; a token that lacks a scope lacks it for
/// every project.
const MAX_UNSEEN: usize = 5;

/// Asks Sentry and prints what was found; ends with [`ExitCode::Failed`] when anything was.
///
/// # Errors
///
/// When settings are missing, Sentry does not answer, or a file cannot be read or written.
pub(super) fn run(args: &AuditArgs) -> anyhow::Result<ExitCode> {
    let (config, missing) = config_with_placeholders()?;
    let sentry = sentry(&config)?;
    let saved = args.against.as_deref().map(|path| load(path, &sentry.organization)).transpose()?;
    let options = InventoryOptions { alerts: args.alerts, hooks: false, new_issues: true };
    let inventory = block_on(read(&sentry.client, options))?;
    let expected = expected(args, &config, &missing);
    let slugs: BTreeSet<&String> = inventory.projects.iter().map(|project| &project.slug).collect();
    if let Some(unknown) = expected.projects.iter().find(|slug| !slugs.contains(slug)) {
        return Err(UsageError(format!("the token sees no project `{unknown}` in {}", sentry.organization)).into());
    }
    let mut found = audit(&inventory, &expected);
    if let Some(path) = &args.save {
        let at = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        let text = serde_json::to_string_pretty(&SavedAudit::of(&found, &sentry.organization, at))?;
        fs::write(path, text + "\n").with_context(|| format!("{} cannot be written", path.display()))?;
    }
    if let Some(saved) = saved {
        saved.compare(&mut found);
    }
    if args.json {
        print_json(&sentry, &inventory, &found)?;
    } else {
        print_text(&sentry, &inventory, &found)?;
    }
    Ok(ExitCode::of(found.findings.is_empty()))
}

fn expected(args: &AuditArgs, config: &Config, missing: &[&str]) -> AuditSettings {
    // A placeholder is not a token that the bridge would accept.
    let tokens = if missing.contains(&"BRIDGE_WEBHOOK_TOKEN") { Vec::new() } else { config.webhook_token.clone() };
    AuditSettings {
        bridge: BridgeAddress { root: args.bridge.clone(), tokens },
        projects: args.projects.iter().cloned().collect(),
        ..AuditSettings::of(config)
    }
}

fn load(path: &Path, organization: &str) -> anyhow::Result<SavedAudit> {
    let name = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("{name} cannot be read"))?;
    let saved = SavedAudit::parse(&text).with_context(|| format!("{name} cannot be compared with"))?;
    if saved.organization != organization {
        return Err(
            UsageError(format!("{name} is of the organization {}, not of {organization}", saved.organization)).into()
        );
    }
    Ok(saved)
}

fn print_json(sentry: &ConfiguredSentry, inventory: &Inventory, audit: &SentryAudit) -> anyhow::Result<()> {
    let document = json!({
        "sentry": sentry.root,
        "organization": sentry.organization,
        "generation": inventory.generation(),
        "token": {"user": inventory.identity.user, "scopes": inventory.identity.scopes},
        "projects": audit.projects,
        "findings": audit.findings,
        "notes": audit.notes,
    });
    writeln!(out(), "{}", printable::json(&serde_json::to_string_pretty(&document)?))?;
    Ok(())
}

fn print_text(sentry: &ConfiguredSentry, inventory: &Inventory, audit: &SentryAudit) -> anyhow::Result<()> {
    let mut out = out();
    writeln!(out, "{}, organization {}: {}", sentry.root, sentry.organization, inventory.generation())?;
    writeln!(out, "seen with the token of {}", inventory.identity)?;
    writeln!(out)?;
    let width = audit.projects.iter().map(|project| project.project.chars().count()).max().unwrap_or(0);
    for project in &audit.projects {
        let names: Vec<_> =
            project.alerts.iter().filter(|alert| alert.pages).map(|alert| line(&alert.name).to_string()).collect();
        let (mark, names) = if project.pages { ("pages", names.join(", ")) } else { ("NOBODY", String::new()) };
        writeln!(out, "{}", format!("{mark:<6}  {:width$}  {names}", project.project).trim_end())?;
    }
    let mut unseen = 0;
    for (number, finding) in (1..).zip(&audit.findings) {
        if finding.kind == FindingKind::NotSeen {
            unseen += 1;
            if unseen > MAX_UNSEEN {
                continue;
            }
        }
        let place: Vec<String> =
            [&finding.project, &finding.alert].into_iter().flatten().map(|name| line(name).to_string()).collect();
        let place = if place.is_empty() { String::new() } else { format!("{}: ", place.join(", ")) };
        writeln!(out, "\n{number}. {place}{}", line(&finding.problem))?;
        writeln!(out, "   remedy: {}", finding.remedy)?;
    }
    if unseen > MAX_UNSEEN {
        writeln!(out, "\n… and {} more things that the token may not see", unseen - MAX_UNSEEN)?;
    }
    for note in &audit.notes {
        writeln!(out, "\nnote: {note}")?;
    }
    let paging = audit.projects.iter().filter(|project| project.pages).count();
    let findings = match audit.findings.len() {
        0 => "nothing found".to_owned(),
        1 => "1 finding".to_owned(),
        number => format!("{number} findings"),
    };
    writeln!(out, "\n{paging} of {} projects page, {findings}", audit.projects.len())?;
    Ok(())
}
