//! Rejected webhooks: kept within their bounds.

use sqlx::SqliteConnection;

use crate::queue::rejected::{MAX_REJECTED, MAX_REJECTED_BYTES};
use crate::queue::{Rejected, RejectedId};

/// Keeps webhooks and lets the oldest go until the bounds hold again.
pub(super) async fn keep(connection: &mut SqliteConnection, webhooks: Vec<Rejected>) -> sqlx::Result<Vec<RejectedId>> {
    let mut ids = Vec::with_capacity(webhooks.len());
    for webhook in webhooks {
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO rejected \
             (received_at, resource, idempotency_key, sent_at, from_sentrys_pages, is_signed, reason, size, body) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        )
        .bind(webhook.received_at.timestamp_millis())
        .bind(webhook.resource)
        .bind(webhook.idempotency_key)
        .bind(webhook.sent_at.map(|at| at.timestamp_millis()))
        .bind(webhook.from_sentrys_pages)
        .bind(webhook.is_signed)
        .bind(webhook.reason)
        .bind(i64::try_from(webhook.body.len()).unwrap_or(i64::MAX))
        .bind(webhook.body)
        .fetch_one(&mut *connection)
        .await?;
        ids.push(RejectedId::new(id));
    }
    sqlx::query(
        "DELETE FROM rejected WHERE id IN (
            SELECT id FROM (
                SELECT id, ROW_NUMBER() OVER newer AS place, SUM(size) OVER newer AS bytes
                FROM rejected WINDOW newer AS (ORDER BY id DESC)
            ) WHERE place > ? OR bytes > ?
        )",
    )
    .bind(MAX_REJECTED)
    .bind(MAX_REJECTED_BYTES)
    .execute(connection)
    .await?;
    Ok(ids)
}
