//! Responses, and the checks that all endpoints share.

use serde_json::{Value, json};

use crate::ORGANIZATION;
use crate::world::{OutgoingWebhook, TwinToken, World};

pub(crate) const ORG_READ: [&str; 3] = ["org:read", "org:write", "org:admin"];
pub(crate) const PROJECT_READ: [&str; 3] = ["project:read", "project:write", "project:admin"];
pub(crate) const PROJECT_WRITE: [&str; 2] = ["project:write", "project:admin"];

/// A call to answer.
pub(crate) struct TwinRequest {
    pub(crate) method: String,
    /// The segments after `/api/0/`.
    pub(crate) path: Vec<String>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) body: Value,
    pub(crate) token: TwinToken,
    /// The path as it was received, for links.
    pub(crate) target: String,
}

impl TwinRequest {
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// 403 unless the token has one of these scopes.
    pub(crate) fn needs(&self, scopes: &[&str]) -> Result<(), TwinReply> {
        if self.token.scopes.iter().any(|scope| scopes.contains(&scope.as_str())) {
            Ok(())
        } else {
            Err(TwinReply::forbidden())
        }
    }

    /// 403 unless the token belongs to a person: integrations are not members.
    pub(crate) fn needs_member(&self) -> Result<(), TwinReply> {
        if self.token.user.is_some() { Ok(()) } else { Err(TwinReply::forbidden()) }
    }

    /// Beyond: a query parameter that no source names is answered with 400.
    pub(crate) fn knows(&self, names: &[&str]) -> Result<(), TwinReply> {
        match self.query.iter().find(|(name, _)| !names.contains(&name.as_str())) {
            Some((name, _)) => Err(TwinReply::detail(400, &format!("Beyond: no parameter {name}"))),
            None => Ok(()),
        }
    }

    /// Beyond: a field of the body that no source names is answered with 400.
    pub(crate) fn body_knows(&self, names: &[&str]) -> Result<(), TwinReply> {
        let Some(body) = self.body.as_object() else { return Err(TwinReply::detail(400, "JSON parse error")) };
        match body.keys().find(|name| !names.contains(&name.as_str())) {
            Some(name) => Err(TwinReply::detail(400, &format!("Beyond: no member {name}"))),
            None => Ok(()),
        }
    }
}

/// A response, and the webhooks that are sent before it.
pub(crate) struct TwinReply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Option<Value>,
    pub(crate) deliveries: Vec<OutgoingWebhook>,
    /// The status and body of the response when one of the deliveries is not answered with success.
    pub(crate) unless_delivered: Option<(u16, Value)>,
}

impl TwinReply {
    pub(crate) fn json(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body: Some(body), deliveries: Vec::new(), unless_delivered: None }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self { body: None, ..Self::json(status, Value::Null) }
    }

    pub(crate) fn detail(status: u16, detail: &str) -> Self {
        Self::json(status, json!({"detail": detail}))
    }

    /// 400 in the form of Sentry's serializers.
    pub(crate) fn invalid(member: &str, why: &str) -> Self {
        Self::json(400, json!({member: [why]}))
    }

    pub(crate) fn forbidden() -> Self {
        Self::detail(403, "You do not have permission to perform this action.")
    }

    pub(crate) fn missing() -> Self {
        Self::detail(404, "The requested resource does not exist")
    }

    /// 410 for an endpoint that sentry.io has withdrawn permanently.
    pub(crate) fn withdrawn() -> Self {
        Self::detail(410, "This API no longer exists.")
    }

    /// One page of rows, with links to the previous and the next page whether or not they exist.
    pub(crate) fn page(world: &World, request: &TwinRequest, rows: &[Value]) -> Result<Self, Self> {
        let wanted: usize = match request.parameter("per_page").map(str::parse) {
            None => 100,
            Some(Ok(number)) if (1..=100).contains(&number) => number,
            // 9.1.2 fails an assertion.
            Some(_) if world.generation == crate::SentryGeneration::Plugin => {
                return Err(Self::detail(500, "Internal Error"));
            }
            Some(_) => return Err(Self::invalid("per_page", "Invalid per_page value. Must be between 1 and 100.")),
        };
        let size = wanted.min(world.page);
        let start = match request.parameter("cursor") {
            None => 0,
            Some(cursor) => {
                let parts: Vec<Option<usize>> = cursor.split(':').map(|part| part.parse().ok()).collect();
                let [Some(_), Some(offset), Some(_)] = parts.as_slice() else {
                    return Err(Self::detail(400, "Invalid cursor parameter."));
                };
                *offset
            }
        };
        let page: Vec<Value> = rows.iter().skip(start).take(size).cloned().collect();
        let link = |cursor: &str, rel: &str, results: bool| {
            format!(
                "<http://twin{}?cursor={cursor}>; rel=\"{rel}\"; results=\"{results}\"; cursor=\"{cursor}\"",
                request.target
            )
        };
        let previous = link(&format!("0:{}:1", start.saturating_sub(size)), "previous", start > 0);
        let next = link(&format!("0:{}:0", start + size), "next", start + size < rows.len());
        Ok(Self { headers: vec![("Link", format!("{previous}, {next}"))], ..Self::json(200, Value::Array(page)) })
    }
}

/// 404 for another organization.
pub(crate) fn organization(slug: &str) -> Result<(), TwinReply> {
    if slug == ORGANIZATION { Ok(()) } else { Err(TwinReply::missing()) }
}
