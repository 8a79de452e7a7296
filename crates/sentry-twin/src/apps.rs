//! Integrations ("Sentry apps"). Sources: 23.7.1, `sentry_apps/index.py`, `sentry_app.py`; Sentry's main branch of 2026.

use serde_json::{Value, json};

use crate::ORGANIZATION;
use crate::reply::{ORG_READ, TwinReply, TwinRequest};
use crate::world::{SentryGeneration, World};

const WRITE: [&str; 2] = ["org:write", "org:admin"];
const RESOURCES: [&str; 5] = ["issue", "error", "comment", "seer", "preprod_artifact"];
const ISSUE_EVENTS: [&str; 5] = ["created", "resolved", "assigned", "ignored", "unresolved"];
const MEMBERS: [&str; 12] = [
    "organization",
    "name",
    "isInternal",
    "isAlertable",
    "webhookUrl",
    "events",
    "scopes",
    "schema",
    "verifyInstall",
    "overview",
    "author",
    "webhookHeaders",
];

/// Returns the list of the organization's integrations, or of its installations.
pub(crate) fn list(world: &World, request: &TwinRequest, what: &str) -> Result<TwinReply, TwinReply> {
    if world.generation == SentryGeneration::Plugin {
        return Err(TwinReply::missing());
    }
    request.needs(&[ORG_READ.as_slice(), &["org:integrations"]].concat())?;
    request.knows(&["per_page", "cursor", "status"])?;
    let rows: Vec<Value> = match what {
        // A list never shows a usable secret: it is masked where `GET` of the single integration would show it.
        "sentry-apps" => world.apps.iter().map(|app| shown(world, app, request, false)).collect(),
        _ => world.apps.iter().filter(|app| app["installed"] != false).map(|app| installation(world, app)).collect(),
    };
    TwinReply::page(world, request, &rows)
}

fn installation(world: &World, app: &Value) -> Value {
    let uuid = app["uuid"].as_str().unwrap_or_default().replace("-4000-", "-4001-");
    let mut row = json!({
        "uuid": uuid, "status": "installed", "organization": {"slug": ORGANIZATION},
        "app": {"uuid": app["uuid"], "slug": app["slug"]},
    });
    // 23.7.1 does not return the number; workflows, which need it, came later.
    if world.has_workflows() {
        row["app"]["sentryAppId"] = app["sentryAppId"].clone();
    }
    row
}

/// An integration as this caller sees it.
fn shown(world: &World, app: &Value, request: &TwinRequest, alone: bool) -> Value {
    let mut app = app.clone();
    let may_see =
        request.token.user.is_some() && request.token.scopes.iter().any(|scope| WRITE.contains(&scope.as_str()));
    if !world.shows_secrets && world.generation == SentryGeneration::Workflows {
        app["clientSecret"] = Value::Null;
    } else if !may_see || !alone {
        app["clientSecret"] = json!("*".repeat(64));
    }
    if let Some(members) = app.as_object_mut() {
        members.remove("sentryAppId");
        members.remove("installed");
        if world.generation == SentryGeneration::Apps {
            members.remove("isDisabled");
            members.remove("webhookEvents");
        }
    }
    app
}

pub(crate) fn answer(world: &mut World, request: &TwinRequest, rest: &[&str]) -> Result<TwinReply, TwinReply> {
    if world.generation == SentryGeneration::Plugin {
        return Err(TwinReply::missing());
    }
    match (request.method.as_str(), rest) {
        ("POST", []) => {
            request.needs(&WRITE)?;
            request.needs_member()?;
            if request.body["organization"] != ORGANIZATION {
                return Err(TwinReply::detail(404, "Please provide a valid value for the 'organization' field."));
            }
            let name = request.body["name"].as_str().unwrap_or_default().to_owned();
            validate(world, request, &request.body)?;
            if world.apps.iter().any(|app| app["name"] == name.as_str()) {
                return Err(TwinReply::invalid("name", "Name is already taken, please use another."));
            }
            let url = request.body["webhookUrl"].as_str().unwrap_or_default().to_owned();
            world.add_app(&name, &url);
            let Some(mut app) = world.apps.pop() else { return Err(TwinReply::missing()) };
            merge(world, &mut app, &request.body);
            world.apps.push(app.clone());
            // Sentry does not serialize this response for a particular user, and therefore leaves out the secret.
            if let Some(members) = app.as_object_mut() {
                for name in ["clientSecret", "clientId", "owner", "sentryAppId"] {
                    members.remove(name);
                }
            }
            Ok(TwinReply::json(201, app))
        }
        (method, [slug]) => {
            request.needs(if method == "GET" {
                &["org:read", "org:integrations", "org:write", "org:admin"]
            } else {
                &WRITE
            })?;
            let Some(place) = world.apps.iter().position(|app| app["slug"] == *slug) else {
                return Err(TwinReply::missing());
            };
            match method {
                "GET" => {}
                "PUT" => {
                    // PUT needs `name` and `scopes`.
                    validate(world, request, &request.body)?;
                    let mut app = world.apps[place].clone();
                    merge(world, &mut app, &request.body);
                    world.apps[place] = app;
                }
                "DELETE" if !world.deletes_apps => return Err(TwinReply::forbidden()),
                "DELETE" => {
                    world.apps.remove(place);
                    return Ok(TwinReply::empty(204));
                }
                _ => return Err(TwinReply::detail(405, "Method not allowed")),
            }
            Ok(TwinReply::json(200, shown(world, &world.apps[place], request, true)))
        }
        _ => Err(TwinReply::missing()),
    }
}

fn merge(world: &World, app: &mut Value, body: &Value) {
    for name in ["name", "isAlertable", "webhookUrl", "events", "scopes", "schema"] {
        if let Some(value) = body.get(name) {
            app[name] = value.clone();
        }
    }
    if world.single_events
        && let Some(events) = body["events"].as_array()
    {
        let (resources, singles) = consolidated(events);
        app["events"] = json!(resources);
        app["webhookEvents"] = json!(singles);
    }
}

/// Splits the subscriptions into resources and single events. Beyond: that `events` still names the resources.
fn consolidated(events: &[Value]) -> (Vec<String>, Vec<String>) {
    let (mut resources, mut singles) = (Vec::new(), Vec::new());
    for event in events.iter().filter_map(Value::as_str) {
        let resource = event.split('.').next().unwrap_or(event).to_owned();
        match event {
            "issue" => singles.extend(ISSUE_EVENTS.map(|kind| format!("issue.{kind}"))),
            event if event.contains('.') => singles.push(event.to_owned()),
            event => singles.push(format!("{event}.created")),
        }
        if !resources.contains(&resource) {
            resources.push(resource);
        }
    }
    (resources, singles)
}

fn validate(world: &World, request: &TwinRequest, body: &Value) -> Result<(), TwinReply> {
    request.body_knows(&MEMBERS)?;
    let name = body["name"].as_str().unwrap_or_default();
    if name.is_empty() || name.chars().count() > 57 {
        return Err(TwinReply::invalid("name", "Cannot exceed 57 characters"));
    }
    let Some(scopes) = body["scopes"].as_array() else {
        return Err(TwinReply::invalid("scopes", "This field is required."));
    };
    let mut scopes = scopes.iter().map(|scope| scope.as_str().unwrap_or_default());
    if let Some(scope) = scopes.clone().find(|scope| !request.token.scopes.iter().any(|own| own == scope)) {
        let why =
            format!("Requested permission of {scope} exceeds requester's permission. Please contact an administrator.");
        return Err(TwinReply::invalid("scopes", &why));
    }
    let events: Vec<&str> = body["events"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for event in &events {
        let single = world.single_events && event.starts_with("issue.");
        if !RESOURCES.contains(event) && !single {
            return Err(TwinReply::invalid("events", &format!("Invalid event subscription: {event}")));
        }
    }
    if !events.is_empty() && !scopes.any(|scope| scope.starts_with("event:")) {
        return Err(TwinReply::invalid("events", "issue webhooks require the event:read permission."));
    }
    let url = body["webhookUrl"].as_str().unwrap_or_default();
    let wants_url = !events.is_empty() || body["isAlertable"] == true;
    if wants_url && body.get("isInternal").is_some() && url.is_empty() {
        return Err(TwinReply::invalid("webhookUrl", "webhookUrl required if alert rule action is enabled"));
    }
    Ok(())
}
