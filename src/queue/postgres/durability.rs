//! What a commit survives on this server.

use sqlx::PgConnection;

use crate::queue::durability::{Durability, Survives};

/// Reads the settings of the server. `synchronous_commit` is what the bridge's transactions use, which is never weaker
/// than `on`.
pub(super) async fn durability(connection: &mut PgConnection) -> sqlx::Result<Durability> {
    let (fsync, full_page_writes, session, standbys, is_standby): (String, String, String, String, bool) = sqlx::query_as(
        "SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'), \
         current_setting('synchronous_standby_names'), pg_is_in_recovery()",
    )
    .fetch_one(connection)
    .await?;
    let synchronous_commit = if session == "remote_apply" { session } else { "on".to_owned() };
    Ok(Durability {
        survives: judge(&fsync, &full_page_writes, &standbys),
        settings: vec![
            ("fsync", fsync),
            ("full_page_writes", full_page_writes),
            ("synchronous_commit", synchronous_commit),
            ("synchronous_standby_names", standbys),
            ("pg_is_in_recovery", if is_standby { "on" } else { "off" }.to_owned()),
        ],
    })
}

/// Judges the settings. Source: PostgreSQL's manual, chapters "Write Ahead Log" and "Log-Shipping Standby Servers".
fn judge(fsync: &str, full_page_writes: &str, standbys: &str) -> Survives {
    match (fsync, full_page_writes, standbys.trim()) {
        ("on", "on", "") => Survives::Crash,
        ("on", "on", _) => Survives::Loss,
        _ => Survives::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_synchronous_standby_survives_the_loss_of_the_primary() {
        for (fsync, pages, standbys, expected) in [
            ("on", "on", "", Survives::Crash),
            ("on", "on", "ANY 1 (a, b)", Survives::Loss),
            ("off", "on", "ANY 1 (a, b)", Survives::Nothing),
            ("on", "off", "", Survives::Nothing),
        ] {
            assert_eq!(judge(fsync, pages, standbys), expected, "{fsync} {pages} {standbys}");
        }
    }
}
