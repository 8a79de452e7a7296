//! A small shop with three services, and what Sentry posts when they fail: bodies in the shape that the legacy plugin posts,
//! as those in `fixtures/legacy-9.1`.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

/// The root of the shop's Sentry. No such host exists.
const SENTRY: &str = "https://sentry.example.com";

/// A service of the shop, which is a project in Sentry and a service in PagerDuty.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct DemoService {
    /// Its short name in Sentry's addresses.
    pub(super) slug: &'static str,
    /// Its name.
    pub(super) name: &'static str,
    /// Its integration key.
    pub(super) key: &'static str,
    platform: &'static str,
    release: &'static str,
}

pub(super) const SHOP: DemoService = DemoService {
    slug: "shop",
    name: "Shop",
    key: "0000000000000000000000000000SHOP",
    platform: "javascript",
    release: "shop@4.12.0",
};

pub(super) const PAYMENTS: DemoService = DemoService {
    slug: "payments",
    name: "Payments",
    key: "0000000000000000000000000000PAYM",
    platform: "python",
    release: "payments@2.7.3",
};

pub(super) const WAREHOUSE: DemoService = DemoService {
    slug: "warehouse",
    name: "Warehouse",
    key: "0000000000000000000000000000WARE",
    platform: "python",
    release: "warehouse@1.30.1",
};

/// An issue in Sentry.
#[derive(Clone, Copy, Debug)]
pub(super) struct DemoIssue {
    pub(super) service: DemoService,
    /// Its number, which is the incident key.
    pub(super) id: &'static str,
    level: &'static str,
    kind: &'static str,
    value: &'static str,
    function: &'static str,
    file: &'static str,
    line: u32,
}

const fn issue(
    service: DemoService,
    id: &'static str,
    level: &'static str,
    (kind, value): (&'static str, &'static str),
    (function, file, line): (&'static str, &'static str, u32),
) -> DemoIssue {
    DemoIssue { service, id, level, kind, value, function, file, line }
}

pub(super) const CART_TOTAL: DemoIssue = issue(
    SHOP,
    "4101",
    "error",
    ("TypeError", "Cannot read properties of undefined (reading 'total')"),
    ("renderSummary", "cart/summary.js", 88),
);

pub(super) const SLOW_SEARCH: DemoIssue = issue(
    SHOP,
    "4102",
    "warning",
    ("TimeoutError", "GET /search took longer than 8 s"),
    ("search", "catalogue/search.js", 41),
);

pub(super) const CHECKOUT_DOWN: DemoIssue = issue(
    SHOP,
    "4103",
    "fatal",
    ("CheckoutError", "no payment method is available"),
    ("submitOrder", "checkout/submit.js", 132),
);

pub(super) const NEGATIVE_AMOUNT: DemoIssue = issue(
    PAYMENTS,
    "5201",
    "error",
    ("ValueError", "the amount is negative: -12.00 EUR"),
    ("create_charge", "payments/charges.py", 57),
);

pub(super) const NO_CARD_PROCESSOR: DemoIssue = issue(
    PAYMENTS,
    "5202",
    "fatal",
    ("ConnectionError", "the card processor did not answer within 30 s"),
    ("authorize", "payments/cards.py", 119),
);

pub(super) const CHARGED_TWICE: DemoIssue = issue(
    PAYMENTS,
    "5203",
    "error",
    ("DuplicateCharge", "order 88117 was charged twice"),
    ("capture", "payments/charges.py", 94),
);

pub(super) const NO_ADDRESS: DemoIssue =
    issue(WAREHOUSE, "6301", "error", ("KeyError", "'shipping_address'"), ("print_label", "warehouse/labels.py", 23));

pub(super) const NO_DATABASE: DemoIssue = issue(
    WAREHOUSE,
    "6302",
    "error",
    ("OperationalError", "could not connect to server: Connection refused"),
    ("reserve", "warehouse/stock.py", 71),
);

pub(super) const DISK_FULL: DemoIssue = issue(
    WAREHOUSE,
    "6303",
    "fatal",
    ("DiskFull", "warehouse-db-1 has 2 % of its disk left"),
    ("check_disk", "warehouse/health.py", 12),
);

/// Every issue of the demo.
pub(super) const ISSUES: [DemoIssue; 9] = [
    CART_TOTAL,
    SLOW_SEARCH,
    CHECKOUT_DOWN,
    NEGATIVE_AMOUNT,
    NO_CARD_PROCESSOR,
    CHARGED_TWICE,
    NO_ADDRESS,
    NO_DATABASE,
    DISK_FULL,
];

impl DemoIssue {
    /// Sentry's title of it.
    pub(super) fn title(&self) -> String {
        format!("{}: {}", self.kind, self.value)
    }

    /// What the legacy plugin posts about the event `number` of the issue, which happened at `at`.
    pub(super) fn alert(&self, number: u32, at: DateTime<Utc>) -> Value {
        let DemoService { slug, name, platform, release, .. } = self.service;
        let (title, culprit) = (self.title(), format!("{} in {}", self.file, self.function));
        let seconds = at.timestamp();
        json!({
            "project": slug,
            "project_name": name,
            "project_slug": slug,
            "id": self.id,
            "level": self.level,
            "culprit": culprit,
            "message": title,
            "logger": null,
            "triggering_rules": ["Page whoever is on call"],
            "url": format!("{SENTRY}/acme/{slug}/issues/{}/?referrer=webhooks_plugin", self.id),
            "event": {
                "event_id": format!("{:0>24}{number:08x}", self.id),
                "title": title,
                "culprit": culprit,
                "level": self.level,
                "platform": platform,
                "release": release,
                "environment": "production",
                "type": "error",
                "timestamp": seconds,
                "received": seconds,
                "metadata": {"type": self.kind, "value": self.value, "function": self.function, "filename": self.file},
                "tags": [
                    ["environment", "production"],
                    ["level", self.level],
                    ["sentry:release", release],
                    ["server_name", format!("{slug}-2")],
                ],
                "exception": {"values": [{
                    "type": self.kind,
                    "value": self.value,
                    "stacktrace": {"frames": [
                        {"function": "handle", "filename": "http/server", "lineno": 210, "in_app": false},
                        {"function": self.function, "filename": self.file, "lineno": self.line, "in_app": true},
                    ]},
                }]},
            },
        })
    }

    /// What the integration platform posts when somebody resolves the issue.
    pub(super) fn resolved(&self, at: DateTime<Utc>) -> Value {
        let at = at.to_rfc3339();
        json!({
            "action": "resolved",
            "actor": {"type": "user", "id": 1, "name": "Ada"},
            "data": {
                "resolution_type": "now",
                "issue": {
                    "id": self.id,
                    "title": self.title(),
                    "status": "resolved",
                    "lastSeen": at,
                    "project": {"slug": self.service.slug, "name": self.service.name},
                },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::envelope::EnqueueRequest;
    use crate::ingest::{Decision, Ingest, Webhook};
    use crate::pagerduty::SentryOrigin;

    fn decide(resource: Option<&str>, body: &Value) -> Decision {
        let config = Config::from_vars(super::super::settings("http://127.0.0.1:9", "demo.db")).unwrap();
        let (body, received_at) = (body.to_string().into_bytes(), Utc::now());
        Ingest::from(&config).decide(&Webhook {
            resource,
            has_app_signature: false,
            idempotency_key: None,
            sent_at: None,
            body: &body,
            is_signature_verified: false,
            received_at,
        })
    }

    #[test]
    fn every_alert_goes_to_its_service_with_all_that_people_want_to_see() {
        for issue in ISSUES {
            let Decision::Enqueue(enqueue) = decide(None, &issue.alert(1, Utc::now())) else {
                panic!("{} is not queued", issue.title());
            };
            let EnqueueRequest::Event { envelope, .. } = *enqueue else { panic!("{} opens nothing", issue.title()) };
            assert_eq!(envelope.service_key.expose(), issue.service.key);
            assert_eq!(envelope.incident_key.as_str(), issue.id);
            assert_eq!(envelope.description, issue.title());
            let origin = SentryOrigin::of_body(&envelope.body);
            assert_eq!(origin.project.as_deref(), Some(issue.service.name));
            assert_eq!(origin.environment.as_deref(), Some("production"));
            assert_eq!(origin.level.as_deref(), Some(issue.level));
            assert!(origin.link.unwrap().contains(issue.id));
            let Decision::Enqueue(resolve) = decide(Some("issue"), &issue.resolved(Utc::now())) else { panic!() };
            assert!(matches!(*resolve, EnqueueRequest::FollowUp(_)));
        }
    }
}
