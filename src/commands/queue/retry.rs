//! `queue retry`: dead letters go back to their places in line, rejected webhooks are mapped by this version.

use std::collections::HashSet;
use std::io::{Write, stdout};

use super::numbers;
use crate::cli::{QueueRetryArgs, Standing};
use crate::commands::{Misuse, say, settings_or_stand_ins};
use crate::exit::Exit;
use crate::intake::{Intake, Verdict, Webhook};
use crate::pagerduty::IncidentKey;
use crate::queue::{Editor, EventId, Incoming, ItemId, Reception, RejectedId};
use crate::settings::Settings;

/// The settings without which a rejected webhook could not be given to anybody.
const KEY: &str = "BRIDGE_PAGERDUTY_SERVICE_KEY";

pub(super) async fn run(args: &QueueRetryArgs) -> anyhow::Result<Exit> {
    let (settings, missing) = settings_or_stand_ins()?;
    let mut editor = Editor::open(settings.database.sqlite_path()).await?;
    let ids = if args.all {
        let mut ids = numbers(editor.reader(), Standing::Dead, u64::MAX).await?;
        ids.append(&mut numbers(editor.reader(), Standing::Rejected, u64::MAX).await?);
        ids
    } else {
        args.ids.clone()
    };
    let (events, webhooks) = sorted(&ids);
    if !webhooks.is_empty() && missing.contains(&KEY) {
        return Err(Misuse(format!(
            "{KEY} is not set, so rejected webhooks cannot be mapped: set what the bridge has"
        ))
        .into());
    }

    let mut out = stdout().lock();
    let mut well = revive(&mut editor, &events, &mut out).await?;
    let intake = intake(&settings);
    for id in webhooks {
        well &= remap(&mut editor, &intake, id, &mut out).await?;
    }
    if ids.is_empty() {
        say("nothing is dead and nothing was rejected");
    }
    editor.close().await?;
    Ok(Exit::of(well))
}

fn intake(settings: &Settings) -> Intake {
    Intake::of(settings)
}

/// Each number once, events apart from rejected webhooks.
pub(super) fn sorted(ids: &[ItemId]) -> (Vec<EventId>, Vec<RejectedId>) {
    let mut seen = HashSet::new();
    let (mut events, mut webhooks) = (Vec::new(), Vec::new());
    for id in ids.iter().filter(|id| seen.insert(**id)) {
        match id {
            ItemId::Event(id) => events.push(*id),
            ItemId::Rejected(id) => webhooks.push(*id),
        }
    }
    (events, webhooks)
}

async fn revive(editor: &mut Editor, events: &[EventId], out: &mut impl Write) -> anyhow::Result<bool> {
    let revived: HashSet<_> = editor.revive(events).await?.into_iter().collect();
    for id in events {
        if revived.contains(id) {
            writeln!(out, "{id}: waits again")?;
        } else if let Some(event) = editor.reader().summaries(&[*id]).await?.first() {
            say(&format!("{id}: is no dead letter, but {}", event.state));
        } else {
            say(&format!("{id}: the queue has no such event"));
        }
    }
    Ok(revived.len() == events.len())
}

/// Judges a rejected webhook by this version and these settings.
async fn remap(editor: &mut Editor, intake: &Intake, id: RejectedId, out: &mut impl Write) -> anyhow::Result<bool> {
    let Some(webhook) = editor.reader().rejected(id).await? else {
        say(&format!("{id}: the queue has no such rejected webhook"));
        return Ok(false);
    };
    let received_at = webhook.received_at;
    let resource = webhook.resource.as_deref();
    match intake.judge(&Webhook { resource, ..Webhook::of_body(&webhook.body, received_at) }) {
        Verdict::Queue(prepared) => {
            let incident_key = prepared.event.incident_key().clone();
            readmit(editor, id, Incoming::trigger(*prepared, received_at), &incident_key, out).await
        }
        Verdict::Follow(follow_up) => {
            let incident_key = follow_up.incident_key.clone();
            readmit(editor, id, Incoming::follow_up(*follow_up, received_at), &incident_key, out).await
        }
        Verdict::Ignored(reason) => {
            editor.discard_rejected(id).await?;
            writeln!(out, "{id}: is ignored, and gone: {reason}")?;
            Ok(true)
        }
        Verdict::Rejected(rejection) => {
            editor.reject_again(id, rejection.to_string()).await?;
            say(&format!("{id}: is rejected still: {rejection}"));
            Ok(false)
        }
    }
}

async fn readmit(
    editor: &mut Editor,
    id: RejectedId,
    incoming: Incoming,
    incident_key: &IncidentKey,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    match editor.readmit(id, incoming).await? {
        Some(Reception::Queued(events)) => {
            for event in events {
                writeln!(out, "{id}: waits as event {} of incident {incident_key}", event.id)?;
            }
        }
        Some(Reception::Repeated | Reception::NothingOpen) => {
            writeln!(out, "{id}: is ignored, and gone: nothing is open for incident {incident_key}")?;
        }
        None => say(&format!("{id}: somebody else was faster")),
    }
    Ok(true)
}
