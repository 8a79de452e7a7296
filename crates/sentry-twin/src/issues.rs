//! Issues, their events, and the alerts that fired for them. Sources: 9.1.2 and 23.7.1, `project_group_index.py`,
//! `group_details.py`, `project_event_details.py`, `rules/history/`; Sentry's main branch of 2026,
//! `organization_workflow_group_history.py` and `groupopenperiod.py`.
//!
//! Times are in seconds since 1970; responses contain them as text.

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

use crate::ORGANIZATION;
use crate::reply::{PROJECT_READ, TwinReply, TwinRequest};
use crate::world::{AlertFiring, OutgoingWebhook, SentryGeneration, World};

const EVENT_READ: [&str; 3] = ["event:read", "event:write", "event:admin"];
const EVENT_WRITE: [&str; 2] = ["event:write", "event:admin"];
const ALERTS_READ: [&str; 5] = ["alerts:read", "alerts:write", "org:read", "org:write", "org:admin"];

impl World {
    /// Adds an unresolved issue to a project, with one event of that time, and returns its number.
    ///
    /// # Panics
    ///
    /// When there is no such project.
    #[expect(clippy::expect_used, reason = "for tests alone")]
    pub fn add_issue(&mut self, project: &str, title: &str, at: i64) -> u64 {
        let id = 4_000 + self.take_id();
        let project_id = self.project(project).expect("a project of this name").id;
        self.issue_rows.push(json!({
            "id": id.to_string(), "shareId": null, "shortId": format!("{}-{id}", project.to_uppercase()), "title": title,
            "culprit": "checkout", "permalink": format!("http://twin.test/organizations/{ORGANIZATION}/issues/{id}/"),
            "logger": null, "level": "error", "status": "unresolved", "statusDetails": {}, "isPublic": false,
            "platform": "python", "project": {"id": project_id.to_string(), "name": "Shop", "slug": project},
            "type": "error", "metadata": {"title": title}, "numComments": 0, "assignedTo": null, "count": "1",
            "userCount": 0, "firstSeen": iso(at), "lastSeen": iso(at), "activity": [],
        }));
        self.add_event(id, at);
        id
    }

    /// Adds an event to an issue, and returns its id.
    ///
    /// # Panics
    ///
    /// When there is no such issue.
    #[expect(clippy::expect_used, reason = "for tests alone")]
    pub fn add_event(&mut self, issue: u64, at: i64) -> String {
        let number = self.take_id();
        let id = format!("{number:016x}{issue:016x}");
        let row = self.issue(issue).expect("an issue of this number");
        row["lastSeen"] = json!(iso(at));
        let (title, project) = (row["title"].clone(), row["project"]["id"].clone());
        // In 9.1.2, `id` is the number of a row in its database.
        let own = if self.generation == SentryGeneration::Plugin { number.to_string() } else { id.clone() };
        self.event_rows.push(json!({
            "id": own, "eventID": id, "groupID": issue.to_string(), "projectID": project, "title": title,
            "message": title, "platform": "python", "culprit": "checkout", "dateCreated": iso(at), "dateReceived": iso(at),
            "release": null, "dist": null, "user": null, "context": {}, "contexts": {}, "packages": {}, "errors": [],
            "type": "default", "metadata": {"title": title}, "size": 1, "sdk": null, "fingerprints": ["0"],
            "tags": [{"key": "environment", "value": "production"}, {"key": "level", "value": "error"}],
            "entries": [{"type": "message", "data": {"formatted": title}}],
        }));
        id
    }

    /// The issue with this number.
    pub fn issue(&mut self, id: u64) -> Option<&mut Value> {
        let id = id.to_string();
        self.issue_rows.iter_mut().find(|issue| issue["id"] == id.as_str())
    }

    /// Lets an alert fire for an issue, with a new event, and returns the id of that event.
    pub fn fire(&mut self, alert: &str, issue: u64, at: i64) -> String {
        let event = self.add_event(issue, at);
        self.firings.push(AlertFiring { alert: alert.to_owned(), issue, event: event.clone(), at });
        event
    }

    /// Resolves an issue without sending a webhook.
    ///
    /// # Panics
    ///
    /// When there is no such issue.
    #[expect(clippy::expect_used, reason = "for tests alone")]
    pub fn resolve(&mut self, issue: u64, at: i64) {
        let issue = self.issue(issue).expect("an issue of this number");
        issue["status"] = json!("resolved");
        issue["activity"] =
            json!([{"id": "1", "type": "set_resolved", "user": null, "data": {}, "dateCreated": iso(at)}]);
    }

    /// Merges an issue into another, which is returned in its place from now on.
    pub fn merge(&mut self, child: u64, parent: u64) {
        self.merged.push((child, parent));
        self.delete_issue(child);
    }

    /// Deletes an issue with its events.
    pub fn delete_issue(&mut self, issue: u64) {
        let id = issue.to_string();
        self.issue_rows.retain(|one| one["id"] != id.as_str());
        self.event_rows.retain(|one| one["groupID"] != id.as_str());
    }
}

/// Formats a time as Sentry does.
fn iso(at: i64) -> String {
    DateTime::from_timestamp(at, 0).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Parses a time of a query: UTC, with or without a `Z`.
fn moment(text: Option<&str>) -> Result<i64, TwinReply> {
    let wrong = || TwinReply::detail(400, "Invalid date: expected ISO 8601");
    let text = text.ok_or_else(|| TwinReply::detail(400, "start and end are both required"))?;
    let text = text.trim_end_matches('Z');
    let parsed = format!("{text}Z").parse::<DateTime<chrono::Utc>>().map_err(|_| wrong())?;
    Ok(parsed.timestamp())
}

/// `group-history/` of a rule or a workflow: a row for each issue, those with most firings first.
pub(crate) fn history(world: &World, request: &TwinRequest, alert: &str) -> Result<TwinReply, TwinReply> {
    request.knows(&["per_page", "cursor", "start", "end", "statsPeriod"])?;
    let (start, end) = (moment(request.parameter("start"))?, moment(request.parameter("end"))?);
    if start > end {
        return Err(TwinReply::detail(400, "start must be before end"));
    }
    let mut rows: Vec<(usize, i64, Value)> = Vec::new();
    for issue in &world.issue_rows {
        let of_issue = |firing: &&AlertFiring| issue["id"] == firing.issue.to_string().as_str();
        let fired: Vec<_> = world
            .firings
            .iter()
            .filter(|firing| firing.alert == alert && (start..end).contains(&firing.at))
            .filter(of_issue)
            .collect();
        let Some(last) = fired.iter().max_by_key(|firing| firing.at) else { continue };
        let mut row = json!({
            "group": listed(issue), "count": fired.len(), "lastTriggered": iso(last.at), "eventId": last.event,
        });
        if world.generation == SentryGeneration::Workflows {
            row["detector"] = Value::Null;
        }
        rows.push((fired.len(), last.at, row));
    }
    rows.sort_by_key(|(count, at, _)| (usize::MAX - count, -at));
    let rows: Vec<Value> = rows.into_iter().map(|(_, _, row)| row).collect();
    TwinReply::page(world, request, &rows)
}

/// An issue as lists show it.
fn listed(issue: &Value) -> Value {
    let mut issue = issue.clone();
    if let Some(members) = issue.as_object_mut() {
        members.remove("activity");
    }
    issue
}

/// `issues/` of a project. Beyond: the only searches are `is:unresolved` and `firstSeen:>=`.
pub(crate) fn of_project(world: &World, request: &TwinRequest, project: &str) -> Result<TwinReply, TwinReply> {
    request.needs(&EVENT_READ)?;
    request.knows(&["query", "statsPeriod", "limit", "cursor", "sort"])?;
    if !matches!(request.parameter("statsPeriod"), None | Some("" | "24h" | "14d")) {
        return Err(TwinReply::detail(400, "Invalid stats_period. Valid choices are '', '24h', and '14d'"));
    }
    let (mut since, mut only_unresolved) = (i64::MIN, false);
    for token in request.parameter("query").unwrap_or("is:unresolved").split(' ') {
        match token.strip_prefix("firstSeen:>=") {
            Some(text) => since = moment(Some(text))?,
            None if token == "is:unresolved" => only_unresolved = true,
            None => return Err(TwinReply::detail(400, "Beyond: a query that no source names")),
        }
    }
    let is_found = |issue: &&Value| {
        let seen = issue["firstSeen"].as_str().and_then(|text| text.parse::<DateTime<chrono::Utc>>().ok());
        issue["project"]["slug"] == project
            && seen.is_some_and(|seen| seen.timestamp() >= since)
            && (!only_unresolved || issue["status"] == "unresolved")
    };
    let rows: Vec<Value> = world.issue_rows.iter().filter(is_found).map(listed).collect();
    TwinReply::page(world, request, &rows)
}

/// `issues/{id}/…`, below the organization or, only on 9.1, at the root.
pub(crate) fn issue(world: &World, request: &TwinRequest, id: &str, rest: &[&str]) -> Result<TwinReply, TwinReply> {
    request.needs(&EVENT_READ)?;
    let number: u64 = id.parse().map_err(|_| TwinReply::missing())?;
    // For a merged issue, the one that it was merged into is returned.
    let number = world.merged.iter().find(|(child, _)| *child == number).map_or(number, |(_, parent)| *parent);
    let id = number.to_string();
    let Some(issue) = world.issue_rows.iter().find(|issue| issue["id"] == id.as_str()) else {
        return Err(TwinReply::missing());
    };
    match rest {
        [] => {
            if world.generation == SentryGeneration::Plugin {
                request.knows(&["environment"])?;
            } else {
                request.knows(&["collapse", "expand", "environment"])?;
            }
            Ok(TwinReply::json(200, issue.clone()))
        }
        ["events", "latest"] => {
            let latest = world.event_rows.iter().rfind(|event| event["groupID"] == id.as_str());
            latest.map(|event| TwinReply::json(200, event.clone())).ok_or_else(TwinReply::missing)
        }
        _ => Err(TwinReply::missing()),
    }
}

/// Changes an issue. Source: 9.1.2, `api/helpers/group_index.py`; the OpenAPI description of `PUT …/issues/{id}/`.
pub(crate) fn update(world: &mut World, request: &TwinRequest, id: &str) -> Result<TwinReply, TwinReply> {
    request.needs(&EVENT_WRITE)?;
    request.body_knows(&["status", "statusDetails"])?;
    let status =
        request.body["status"].as_str().filter(|status| ["resolved", "unresolved", "ignored"].contains(status));
    let Some(status) = status.map(str::to_owned) else {
        return Err(TwinReply::invalid("status", "Not a valid choice."));
    };
    let Some(issue) = world.issue_rows.iter_mut().find(|issue| issue["id"] == id) else {
        return Err(TwinReply::missing());
    };
    let was = std::mem::replace(&mut issue["status"], json!(status));
    let issue = issue.clone();
    // 9.1 sends no webhook; `issue.unresolved` came later than 23.7.
    let told: &[&str] = match world.generation {
        SentryGeneration::Plugin => &[],
        SentryGeneration::Apps => &["resolved"],
        SentryGeneration::Workflows => &["resolved", "unresolved"],
    };
    let mut reply = TwinReply::json(200, json!({"status": status, "statusDetails": {}}));
    if was != json!(status) && told.contains(&status.as_str()) {
        let wants = |app: &&Value| {
            let has = |list: &Value, name: &str| list.as_array().is_some_and(|list| list.contains(&json!(name)));
            has(&app["events"], "issue") || has(&app["webhookEvents"], &format!("issue.{status}"))
        };
        let tell = |app: &Value| OutgoingWebhook::signed(app, "issue", &status, &json!({"issue": issue}));
        reply.deliveries = world.apps.iter().filter(wants).map(tell).collect();
    }
    Ok(reply)
}

/// `events/{id}/` of a project.
pub(crate) fn event(world: &World, request: &TwinRequest, project: u64, id: &str) -> Result<TwinReply, TwinReply> {
    request.needs(&PROJECT_READ)?;
    let project = project.to_string();
    let mut events = world.event_rows.iter();
    let found = events.find(|event| event["eventID"] == id && event["projectID"] == project.as_str());
    found.map(|event| TwinReply::json(200, event.clone())).ok_or_else(TwinReply::missing)
}

/// `incidents/{identifier}/`, only on a Sentry without workflows.
pub(crate) fn incident(world: &World, request: &TwinRequest, identifier: &str) -> Result<TwinReply, TwinReply> {
    if world.generation != SentryGeneration::Apps {
        return Err(if world.generation == SentryGeneration::Plugin {
            TwinReply::missing()
        } else {
            TwinReply::withdrawn()
        });
    }
    request.needs(&ALERTS_READ)?;
    let found = world.metric_incidents.iter().find(|(known, _)| known == identifier);
    let (_, is_closed) = found.ok_or_else(TwinReply::missing)?;
    Ok(TwinReply::json(
        200,
        json!({"id": identifier, "identifier": identifier, "status": if *is_closed { 2 } else { 20 }}),
    ))
}

/// `open-periods/` of a detector. Beyond: a call without `detectorId` is answered with 400.
pub(crate) fn open_periods(world: &World, request: &TwinRequest) -> Result<TwinReply, TwinReply> {
    if world.generation != SentryGeneration::Workflows {
        return Err(TwinReply::missing());
    }
    request.needs(&ALERTS_READ)?;
    request.knows(&["detectorId", "per_page", "cursor"])?;
    let detector =
        request.parameter("detectorId").ok_or_else(|| TwinReply::detail(400, "Beyond: detectorId is required"))?;
    let rows: Vec<Value> = world
        .open_periods
        .iter()
        .filter(|(of, _, _)| of == detector)
        .map(|(_, id, end)| {
            json!({"id": id.to_string(), "start": iso(0), "end": end.map(iso), "isOpen": end.is_none(), "activities": []})
        })
        .collect();
    TwinReply::page(world, request, &rows)
}
