//! `queue show`: all about an event or a rejected webhook.

use std::io::Write;

use anyhow::bail;
use serde_json::Value;

use super::reader;
use crate::cli::QueueShowArgs;
use crate::commands::out;
use crate::exit::Exit;
use crate::printable;
use crate::queue::{ItemId, QueueError, Reader};
use crate::row::{Body, Keys, Rest, Whole};

pub(super) async fn run(args: &QueueShowArgs) -> anyhow::Result<Exit> {
    let reader = reader().await?;
    let keys = if args.show_keys { Keys::Whole } else { Keys::Masked };
    let Some(whole) = whole(&reader, args.id, keys).await? else {
        bail!("the queue has nothing with the number {}", args.id)
    };
    reader.close().await;
    let mut out = out();
    if args.json {
        writeln!(out, "{}", printable::json(&serde_json::to_string_pretty(&whole)?))?;
    } else {
        print(&mut out, &whole)?;
    }
    Ok(Exit::Done)
}

/// All about it; `None` when the queue has nothing with that number.
pub(super) async fn whole(reader: &Reader, id: ItemId, keys: Keys) -> Result<Option<Whole>, QueueError> {
    Ok(match id {
        ItemId::Event(id) => reader.get(id).await?.map(|record| Whole::of_event(record, keys)),
        ItemId::Rejected(id) => reader.rejected(id).await?.map(|webhook| Whole::of_rejected(id, webhook, &[])),
    })
}

/// A line for every member that says something, then the event or the body.
fn print(out: &mut impl Write, whole: &Whole) -> anyhow::Result<()> {
    let Value::Object(mut members) = serde_json::to_value(whole)? else { bail!("the entry is no JSON object") };
    let last = ["event", "body", "body_base64"].into_iter().find_map(|name| members.shift_remove_entry(name));
    for (name, value) in members {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => printable::line(&text).into_owned(),
            value => value.to_string(),
        };
        if !text.is_empty() {
            writeln!(out, "{:<16} {text}", name.replace('_', " "))?;
        }
    }
    match (&whole.rest, last) {
        (Rest::Event { .. }, Some((_, event))) => {
            writeln!(out, "event\n{}", printable::json(&serde_json::to_string_pretty(&event)?))?;
        }
        (Rest::Webhook { body: Body::Text(text), .. }, _) => {
            writeln!(out, "body")?;
            for line in text.lines() {
                writeln!(out, "{}", printable::block(line))?;
            }
        }
        (Rest::Webhook { body: Body::Base64(text), .. }, _) => writeln!(out, "body, in Base64\n{text}")?,
        (Rest::Event { .. }, None) => {}
    }
    Ok(())
}
