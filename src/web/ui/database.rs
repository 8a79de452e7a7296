//! What an alert survives in the database once it is answered with 202.

use maud::{Markup, html};

use super::text::{harmless, sentence};
use crate::monitor::Snapshot;
use crate::queue::Survives;

/// The sentence, and the settings from which it follows; nothing when the database cannot be read.
pub(super) fn section(snapshot: &Snapshot) -> Markup {
    let Some(durability) = &snapshot.durability else { return html! {} };
    let is_unsafe = durability.survives == Survives::Nothing;
    html! {
        section #database aria-labelledby="database-title" {
            h2 #database-title { "Database" }
            p .empty .slow[is_unsafe] { (sentence(&durability.survives.to_string())) }
            p .more {
                @for (place, (name, value)) in durability.settings.iter().enumerate() {
                    @if place > 0 { ", " }
                    code { (name) "=" @if value.is_empty() { "''" } @else { (harmless(value)) } }
                }
            }
        }
    }
}
