//! The tables of the queue and their columns, which both engines have alike: what moves when a queue moves to another
//! database.

use serde::{Deserialize, Serialize};

use super::rows::TypedRow;

/// What a column holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ColumnKind {
    Integer,
    Text,
    Flag,
    Bytes,
}

/// A table and its columns; those of its key come first.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [(&'static str, ColumnKind)],
    /// How many of the columns are the key, by which the table is read page by page; 0: the table is small and read at
    /// once.
    pub(super) key: usize,
}

use ColumnKind::{Bytes, Flag, Integer, Text};

impl Table {
    /// The statement that reads rows in the order of their key; `after` are the placeholders of the key to read after, for
    /// all pages but the first.
    pub(super) fn select(&self, after: Option<String>, limit: usize) -> String {
        let columns: Vec<_> = self.columns.iter().map(|(name, _)| *name).collect();
        let (columns, key, name) = (columns.join(", "), columns[..self.key].join(", "), self.name);
        if self.key == 0 {
            return format!("SELECT {columns} FROM {name} ORDER BY {columns}");
        }
        let condition = after.map_or_else(String::new, |after| format!("WHERE ({key}) > ({after})"));
        format!("SELECT {columns} FROM {name} {condition} ORDER BY {key} LIMIT {limit}")
    }

    /// The values of a row that [`select`](Self::select) reads.
    pub(super) fn cells(&self, row: &impl TypedRow) -> sqlx::Result<Vec<Cell>> {
        let cell = |(column, kind): &(&'static str, ColumnKind)| {
            let cell = match kind {
                Integer => row.decode_integer(column)?.map(Cell::Integer),
                Flag => row.decode_flag(column)?.map(|flag| Cell::Integer(flag.into())),
                Text => row.decode_text(column)?.map(|text| Cell::Text(text.into_owned())),
                Bytes => row.decode_bytes(column)?.map(Cell::Bytes),
            };
            Ok(cell.unwrap_or(Cell::Null))
        };
        self.columns.iter().map(cell).collect()
    }
}

/// All tables that are moved. Tallies follow from the events; the dedup keys of the last minutes are not moved.
///
/// Most columns have the names of the fields that they hold. The others, column → field:
///
/// - `events.revived_at` → [`FirstWaiting::is_requeued`](super::FirstWaiting::is_requeued), if there is a time
/// - `resolves.happened_at` → [`Resolve::sentry_at`](super::store::Resolve::sentry_at)
/// - `rejected.from_sentrys_pages`, `rejected.is_signed` →
///   [`RejectedWebhook`](super::RejectedWebhook)`::{has_app_signature, is_signature_verified}`
/// - `held.network` → [`HeldWebhook::sender`](super::HeldWebhook::sender)
/// - `wrong_signatures.more` → [`Senders::has_more`](crate::metrics::signatures::Senders::has_more)
/// - `leases.name` `periodic` (PostgreSQL only, not moved) → [`LeaseName::Leader`](super::leases::LeaseName::Leader)
pub(super) const TABLES: &[Table] = &[
    Table {
        name: "events",
        columns: &[
            ("id", Integer),
            ("state", Text),
            ("service_key", Text),
            ("incident_key", Text),
            ("event_type", Text),
            ("count", Integer),
            ("received_at", Integer),
            ("first_seen", Integer),
            ("attempts", Integer),
            ("last_attempt_at", Integer),
            ("next_attempt_at", Integer),
            ("blamed_ms", Integer),
            ("finished_at", Integer),
            ("sentry_at", Integer),
            ("resolved_at", Integer),
            ("revived_at", Integer),
            ("reason", Text),
            ("description", Text),
            ("api", Integer),
        ],
        key: 1,
    },
    Table { name: "bodies", columns: &[("id", Integer), ("body", Bytes), ("counts_at", Integer)], key: 1 },
    Table {
        name: "incidents",
        columns: &[
            ("incident_key", Text),
            ("service_key", Text),
            ("is_open", Flag),
            ("changed_at", Integer),
            ("event_id", Integer),
            ("sentry_at", Integer),
            ("apis", Integer),
        ],
        key: 2,
    },
    Table {
        name: "incident_issues",
        columns: &[
            ("issue_key", Text),
            ("incident_key", Text),
            ("service_key", Text),
            ("is_open", Flag),
            ("received_at", Integer),
            ("sentry_at", Integer),
        ],
        key: 3,
    },
    Table {
        name: "resolves",
        columns: &[("incident_key", Text), ("happened_at", Integer), ("received_at", Integer)],
        key: 1,
    },
    Table {
        name: "seen_webhooks",
        columns: &[("id", Integer), ("digest", Bytes), ("incident_key", Text), ("event_type", Text)],
        key: 1,
    },
    Table {
        name: "rejected",
        columns: &[
            ("id", Integer),
            ("received_at", Integer),
            ("resource", Text),
            ("reason", Text),
            ("size", Integer),
            ("body", Bytes),
            ("idempotency_key", Text),
            ("sent_at", Integer),
            ("from_sentrys_pages", Flag),
            ("is_signed", Flag),
        ],
        key: 1,
    },
    Table {
        name: "held",
        columns: &[
            ("id", Integer),
            ("received_at", Integer),
            ("network", Text),
            ("signature", Bytes),
            ("resource", Text),
            ("idempotency_key", Text),
            ("sent_at", Integer),
            ("size", Integer),
            ("body", Bytes),
        ],
        key: 1,
    },
    Table {
        name: "discarded",
        columns: &[("last_attempt_at", Integer), ("service_key", Text), ("attempts", Integer)],
        key: 0,
    },
    Table {
        name: "activity",
        columns: &[
            ("began_at", Integer),
            ("received", Integer),
            ("delivered", Integer),
            ("throttled", Integer),
            ("failed", Integer),
        ],
        key: 0,
    },
    Table {
        name: "lately",
        columns: &[("id", Integer), ("last_webhook_at", Integer), ("last_delivered_at", Integer), ("untrusted", Text)],
        key: 0,
    },
    Table {
        name: "canaries",
        columns: &[
            ("event_id", Text),
            ("sent_at", Integer),
            ("taken", Flag),
            ("failure", Text),
            ("returned_at", Integer),
        ],
        key: 0,
    },
    Table {
        name: "issue_updates",
        columns: &[
            ("webhook_id", Text),
            ("incident_key", Text),
            ("change", Text),
            ("state", Text),
            ("happened_at", Integer),
            ("received_at", Integer),
            ("attempts", Integer),
            ("next_attempt_at", Integer),
            ("finished_at", Integer),
            ("reason", Text),
        ],
        key: 1,
    },
    Table { name: "fallback", columns: &[("id", Integer), ("told_at", Integer), ("outage_since", Integer)], key: 0 },
    Table {
        name: "proofs",
        columns: &[
            ("event_id", Integer),
            ("service_key", Text),
            ("state", Text),
            ("delivered_at", Integer),
            ("judged_at", Integer),
            ("incident_number", Integer),
            ("incident_url", Text),
            ("reason", Text),
        ],
        key: 1,
    },
    Table {
        name: "sentry_issues",
        columns: &[("incident_key", Text), ("fired_at", Integer), ("seen_at", Integer), ("noted_at", Integer)],
        key: 1,
    },
    Table {
        name: "catch_up",
        columns: &[
            ("id", Integer),
            ("until", Integer),
            ("ran_at", Integer),
            ("found", Integer),
            ("enqueued", Integer),
            ("reported", Integer),
            ("summarized", Integer),
        ],
        key: 0,
    },
    Table {
        name: "wrong_signatures",
        columns: &[
            ("id", Integer),
            ("number", Integer),
            ("first_at", Integer),
            ("lasted_ms", Integer),
            ("senders", Text),
            ("more", Flag),
        ],
        key: 0,
    },
    Table { name: "failing_keys", columns: &[("service_key", Text), ("kind", Text), ("since", Integer)], key: 0 },
    Table { name: "lately_delivered", columns: &[("service_key", Text), ("at", Integer)], key: 0 },
];

/// A value of a column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// The last numbers that were assigned to the rows of the tables whose numbers are never used twice.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LastNumbers {
    events: i64,
    rejected: i64,
    seen_webhooks: i64,
    held: i64,
}

impl LastNumbers {
    /// Each table with its number.
    pub(super) fn by_table(&mut self) -> [(&'static str, &mut i64); 4] {
        let Self { events, rejected, seen_webhooks, held } = self;
        [("events", events), ("rejected", rejected), ("seen_webhooks", seen_webhooks), ("held", held)]
    }
}
