//! Routes a path to its endpoint, and answers the endpoints that have no module of their own.

use serde_json::{Value, json};

use crate::reply::{ORG_READ, PROJECT_READ, PROJECT_WRITE, TwinReply, TwinRequest, organization};
use crate::world::{SentryGeneration, World};
use crate::{ORGANIZATION, apps, deliver, issues, rules, workflows};

/// Answers a call whose token is known.
pub(crate) fn answer(world: &mut World, request: &TwinRequest) -> TwinReply {
    route(world, request).unwrap_or_else(|refusal| refusal)
}

fn route(world: &mut World, request: &TwinRequest) -> Result<TwinReply, TwinReply> {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    let method = request.method.as_str();
    match (method, path.as_slice()) {
        ("GET", []) => {
            let user = request.token.user.as_ref().map(|user| json!({"email": user, "username": user, "name": ""}));
            Ok(TwinReply::json(200, json!({"version": "0", "auth": {"scopes": request.token.scopes}, "user": user})))
        }
        ("GET", ["organizations", org]) => {
            organization(org)?;
            request.needs(&ORG_READ)?;
            Ok(TwinReply::json(
                200,
                json!({"id": "1", "slug": ORGANIZATION, "name": "Acme", "features": world.features}),
            ))
        }
        ("GET", ["organizations", org, "projects"]) => {
            organization(org)?;
            request.needs(&ORG_READ)?;
            request.knows(&["per_page", "cursor", "query"])?;
            TwinReply::page(world, request, &projects(world))
        }
        ("GET", ["organizations", org, "issues"]) => {
            organization(org)?;
            new_issues(world, request)
        }
        ("GET", ["organizations", org, "issues", id, rest @ ..]) if world.generation != SentryGeneration::Plugin => {
            organization(org)?;
            issues::issue(world, request, id, rest)
        }
        ("PUT", ["organizations", org, "issues", id]) if world.generation != SentryGeneration::Plugin => {
            organization(org)?;
            issues::update(world, request, id)
        }
        ("PUT", ["issues", id]) if world.generation == SentryGeneration::Plugin => issues::update(world, request, id),
        ("GET", ["issues", id, rest @ ..]) if world.generation == SentryGeneration::Plugin => {
            issues::issue(world, request, id, rest)
        }
        ("GET", ["organizations", org, "incidents", identifier]) => {
            organization(org)?;
            issues::incident(world, request, identifier)
        }
        ("GET", ["organizations", org, "open-periods"]) => {
            organization(org)?;
            issues::open_periods(world, request)
        }
        (_, ["organizations", org, "workflows" | "detectors" | "alert-rule-workflow", ..]) => {
            organization(org)?;
            workflows::answer(world, request, &path[2..])
        }
        ("POST", ["organizations", org, "test-fire-actions"]) => {
            organization(org)?;
            deliver::test_actions(world, request)
        }
        (_, ["organizations", org, "sentry-apps" | "sentry-app-installations"]) => {
            organization(org)?;
            apps::list(world, request, path[2])
        }
        (_, ["sentry-apps", rest @ ..]) => apps::answer(world, request, rest),
        ("GET", ["organizations", org, "legacy-webhooks"]) if world.generation == SentryGeneration::Workflows => {
            organization(org)?;
            request.needs(&PROJECT_READ)?;
            let rows: Vec<Value> = world
                .projects
                .iter()
                .map(|project| {
                    json!({
                        "projectId": project.id.to_string(), "projectSlug": project.slug, "projectName": project.slug,
                        "projectPlatform": null, "enabled": project.hook_enabled,
                    })
                })
                .collect();
            Ok(TwinReply::json(200, json!({"projects": rows})))
        }
        (_, ["projects", org, project, rest @ ..]) => {
            organization(org)?;
            let Some(project_id) = world.project(project).map(|project| project.id) else {
                return Err(TwinReply::missing());
            };
            match rest {
                ["issues"] => issues::of_project(world, request, project),
                ["events", id] => issues::event(world, request, project_id, id),
                ["rules", rest @ ..] => rules::answer(world, request, project, rest),
                ["rule-actions"] if world.generation == SentryGeneration::Apps && world.tests_rule_actions => {
                    deliver::test_rule_actions(world, request, project)
                }
                ["plugins", "webhooks"] if world.generation != SentryGeneration::Workflows => {
                    plugin(world, request, project)
                }
                ["legacy-webhooks"] if world.generation == SentryGeneration::Workflows => {
                    legacy_webhooks(world, request, project)
                }
                _ => Err(TwinReply::missing()),
            }
        }
        _ => Err(TwinReply::missing()),
    }
}

fn projects(world: &World) -> Vec<Value> {
    let row = |project: &crate::TwinProject| {
        json!({
            "id": project.id.to_string(), "slug": project.slug, "name": project.slug, "isMember": true, "hasAccess": true,
            "firstEvent": null, "platform": null, "dateCreated": "2026-01-01T00:00:00Z",
        })
    };
    world.projects.iter().map(row).collect()
}

fn new_issues(world: &World, request: &TwinRequest) -> Result<TwinReply, TwinReply> {
    request.needs(&["event:read", "event:write", "event:admin"])?;
    request.knows(&["project", "query", "statsPeriod", "limit", "cursor", "sort", "start", "end"])?;
    if request.parameter("start").is_some() != request.parameter("end").is_some() {
        return Err(TwinReply::detail(400, "start and end are both required"));
    }
    let project = request.parameter("project");
    let query = request.parameter("query").unwrap_or_default();
    if !query.split(' ').all(|token| token == "is:unresolved" || token.starts_with("firstSeen:>=")) {
        return Err(TwinReply::detail(400, "Beyond: a query that no source names"));
    }
    let found =
        world.projects.iter().filter(|one| project.is_none_or(|id| id == one.id.to_string()) && one.has_new_issues);
    let rows: Vec<Value> = found.map(|one| json!({"id": format!("{}1", one.id), "status": "unresolved"})).collect();
    TwinReply::page(world, request, &rows)
}

/// `plugins/webhooks/` of 9.1.2 to about 2025. Source: 9.1.2, `project_plugin_details.py`.
fn plugin(world: &mut World, request: &TwinRequest, slug: &str) -> Result<TwinReply, TwinReply> {
    let Some(project) = world.project(slug) else { return Err(TwinReply::missing()) };
    let shown = |project: &crate::TwinProject| {
        json!({
            "id": "webhooks", "slug": "webhooks", "name": "WebHooks", "enabled": project.hook_enabled, "isTestable": true,
            "config": [{"name": "urls", "label": "Callback URLs", "type": "textarea", "value": project.urls.join("\n")}],
        })
    };
    match request.method.as_str() {
        "GET" => {
            request.needs(&PROJECT_READ)?;
            Ok(TwinReply::json(200, shown(project)))
        }
        "PUT" => {
            request.needs(&PROJECT_WRITE)?;
            request.body_knows(&["urls"])?;
            let Some(text) = request.body["urls"].as_str() else {
                return Err(TwinReply::invalid("urls", "Not a valid string."));
            };
            let urls: Vec<String> =
                text.lines().map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned).collect();
            if urls.iter().any(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
                return Err(TwinReply::json(400, json!({"errors": {"urls": "Not a valid URL."}})));
            }
            project.urls = urls;
            Ok(TwinReply::json(200, shown(project)))
        }
        "POST" => {
            request.needs(&PROJECT_WRITE)?;
            request.body_knows(&["test", "reset"])?;
            if request.body["test"] == true {
                return Ok(deliver::test_plugin(project));
            }
            if request.body["reset"] == true {
                project.urls.clear();
                return Ok(TwinReply::json(200, shown(project)));
            }
            project.hook_enabled = true;
            Ok(TwinReply::empty(201))
        }
        "DELETE" => {
            request.needs(&["project:admin"])?;
            project.hook_enabled = false;
            Ok(TwinReply::empty(204))
        }
        _ => Err(TwinReply::detail(405, "Method not allowed")),
    }
}

/// `legacy-webhooks/` of 2026. Beyond: the response of GET has the fields that POST takes, and an empty list is answered
/// with 400, because no source says what Sentry does with one.
fn legacy_webhooks(world: &mut World, request: &TwinRequest, slug: &str) -> Result<TwinReply, TwinReply> {
    let Some(project) = world.project(slug) else { return Err(TwinReply::missing()) };
    match request.method.as_str() {
        "GET" => request.needs(&PROJECT_READ)?,
        "POST" => {
            request.needs(&PROJECT_WRITE)?;
            request.body_knows(&["urls", "enabled"])?;
            if let Some(urls) = request.body["urls"].as_array() {
                if urls.is_empty() {
                    return Err(TwinReply::invalid("urls", "Beyond: This list may not be empty."));
                }
                project.urls = urls.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            }
            if let Some(enabled) = request.body["enabled"].as_bool() {
                project.hook_enabled = enabled;
            }
        }
        "DELETE" => {
            request.needs(&["project:admin"])?;
            project.hook_enabled = false;
            return Ok(TwinReply::empty(204));
        }
        _ => return Err(TwinReply::detail(405, "Method not allowed")),
    }
    Ok(TwinReply::json(200, json!({"urls": project.urls, "enabled": project.hook_enabled})))
}
