//! Makes an event small enough for PagerDuty, losing what helps least first.

use std::mem;

use serde::Serialize;
use serde_json::{Map, Value};

use super::api::{MAX_COUNTS, Rendered};
use super::cut::Cut;
use super::event::{Context, Event, EventAction, Trigger};
use super::{Description, WireEvent};

/// To how many characters the longest texts are cut, in turn, until the event fits.
const TEXT_LIMITS: [usize; 8] = [32_768, 16_384, 8_192, 4_096, 2_048, 1_024, 512, 256];

/// How many entries of each list and object are kept, in turn, when short texts are still too much. With the last of
/// each the details are at most 32 tags, 32 measurements and 32 rules of 256 characters and some thirty single texts,
/// and no character takes more than six bytes: less than 300,000 bytes.
const ENTRY_LIMITS: [usize; 8] = [4_096, 2_048, 1_024, 512, 256, 128, 64, 32];

/// How long a trigger may be: the two details that tell how many alerts it stands for are inserted later.
const MAX_TRIGGER: usize = WireEvent::MAX_BYTES - MAX_COUNTS;

/// The event as JSON of at most [`WireEvent::MAX_BYTES`], and all that had to go for it. A trigger is shorter by what
/// [`with_counts`](super::with_counts) may add.
pub(super) fn fit(event: &mut Event) -> (Rendered, Vec<Cut>) {
    let mut cuts = Vec::new();
    cuts.extend(event.description().and_then(Description::cut).map(Cut::Description));
    let Some(trigger) = event.trigger_mut() else { return (json(event), cuts) };
    drop_long_addresses(trigger, &mut cuts);

    let rendered = json(event);
    let length = rendered.bytes.len();
    let Some(trigger) = event.trigger_mut().filter(|_| length > MAX_TRIGGER) else { return (rendered, cuts) };
    let details = mem::take(&mut trigger.details);
    let (rendered, lost) = shrink(details, length, |details| {
        if let Some(trigger) = event.trigger_mut() {
            trigger.details = details;
        }
        json(event)
    });
    cuts.extend(lost);
    (rendered, cuts)
}

/// Takes away from `details`, which make a body of `length` bytes, what helps least, until the body that `render`
/// makes with them is at most [`MAX_TRIGGER`] long; returns that body and what is gone.
pub(super) fn shrink(
    mut details: Map<String, Value>,
    length: usize,
    mut render: impl FnMut(Map<String, Value>) -> Rendered,
) -> (Rendered, Vec<Cut>) {
    let mut cuts = Vec::from_iter(drop_frames(&mut details, length.saturating_sub(MAX_TRIGGER)));
    let longest = details.iter().map(|(_, value)| longest_text(value)).max().unwrap_or(0);
    let texts_only = TEXT_LIMITS.into_iter().filter(|&limit| limit < longest).map(|limit| (limit, usize::MAX));
    let shortest = TEXT_LIMITS[TEXT_LIMITS.len() - 1];
    let steps = [(usize::MAX, usize::MAX)].into_iter().chain(texts_only);
    let mut rendered = Rendered { bytes: Vec::new(), counts_at: None };
    for (text_limit, entry_limit) in steps.chain(ENTRY_LIMITS.map(|entries| (shortest, entries))) {
        let (short, shortened) = shortened(&details, text_limit, entry_limit);
        rendered = render(short);
        if rendered.bytes.len() <= MAX_TRIGGER {
            cuts.extend(shortened);
            break;
        }
    }
    (rendered, cuts)
}

/// The detail behind which the counts are inserted, so that all times are found together.
const COUNTS_BEHIND: &str = "datetime";

fn json(event: &Event) -> Rendered {
    let mut bytes = b"{".to_vec();
    member(&mut bytes, "service_key", &event.service_key);
    member(&mut bytes, "incident_key", &event.incident_key);
    member(&mut bytes, "event_type", event.event_type().as_str());
    if let Some(description) = event.description() {
        member(&mut bytes, "description", description);
    }
    let mut counts_at = None;
    if let EventAction::Trigger(trigger) = &event.action {
        member(&mut bytes, "client", trigger.client);
        if let Some(root) = &trigger.client_url {
            member(&mut bytes, "client_url", root);
        }
        bytes.extend_from_slice(br#","details":{"#);
        for (name, value) in &trigger.details {
            member(&mut bytes, name, value);
            if name == COUNTS_BEHIND {
                counts_at = Some(bytes.len());
            }
        }
        counts_at = counts_at.or(Some(bytes.len()));
        bytes.push(b'}');
        if !trigger.contexts.is_empty() {
            member(&mut bytes, "contexts", &trigger.contexts);
        }
    }
    bytes.push(b'}');
    Rendered { bytes, counts_at }
}

/// Adds a member to the JSON object that `bytes` begin.
fn member(bytes: &mut Vec<u8>, name: &str, value: &(impl Serialize + ?Sized)) {
    if bytes.last() != Some(&b'{') {
        bytes.push(b',');
    }
    // Writing to memory cannot fail, and neither can serialising: every key of an event is a text.
    let _ = serde_json::to_writer(&mut *bytes, name);
    bytes.push(b':');
    let _ = serde_json::to_writer(&mut *bytes, value);
}

fn drop_long_addresses(trigger: &mut Trigger, cuts: &mut Vec<Cut>) {
    let is_long = |address: &str| address.len() > WireEvent::MAX_ADDRESS;
    if let Some(root) = trigger.client_url.take_if(|root| is_long(root)) {
        cuts.push(Cut::Address { member: "client_url", length: root.len() });
    }
    trigger.contexts.retain(|Context::Link { href, .. }| {
        if is_long(href) {
            cuts.push(Cut::Address { member: "contexts", length: href.len() });
        }
        !is_long(href)
    });
    if let Some(url) = trigger.details.get_mut(URL)
        && let Some(length) = url.as_str().filter(|url| is_long(url)).map(str::len)
    {
        cuts.push(Cut::Address { member: "details.url", length });
        *url = Value::Null;
    }
}

/// The detail that is an address; it is never shortened.
const URL: &str = "url";

/// The detail that goes first.
const FRAMES: &str = "frames";

/// Takes the outermost calls off until `excess` bytes are gone or no call is left.
fn drop_frames(details: &mut Map<String, Value>, excess: usize) -> Option<Cut> {
    let frames = details.get_mut(FRAMES)?.as_array_mut()?;
    let of = frames.len();
    let mut gone = 0;
    while gone < excess
        && let Some(frame) = frames.pop()
    {
        // The comma before it goes as well.
        gone += frame.to_string().len() + 1;
    }
    let kept = frames.len();
    if kept == 0 {
        details.shift_remove(FRAMES);
    }
    (kept < of).then_some(Cut::Frames { kept, of })
}

/// A copy of the details with every text cut to `text_limit` characters and every list and object to `entry_limit`
/// entries.
fn shortened(details: &Map<String, Value>, text_limit: usize, entry_limit: usize) -> (Map<String, Value>, Vec<Cut>) {
    let mut cuts = Vec::new();
    let copy = |(member, value): (&String, &Value)| {
        if member == URL {
            return (member.clone(), value.clone());
        }
        let mut count = 0;
        let of = entries(value);
        let value = short_value(value, text_limit, entry_limit, &mut count);
        if count > 0 {
            cuts.push(Cut::Texts { member: member.clone(), count, limit: text_limit });
        }
        if entries(&value) < of {
            cuts.push(Cut::Entries { member: member.clone(), kept: entries(&value), of });
        }
        (member.clone(), value)
    };
    let details = details.iter().map(copy).collect();
    (details, cuts)
}

fn entries(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.len(),
        Value::Object(object) => object.len(),
        _ => 0,
    }
}

fn short_value(value: &Value, text_limit: usize, entry_limit: usize, count: &mut usize) -> Value {
    match value {
        Value::String(text) => Value::String(short_text(text, text_limit, count)),
        Value::Array(list) => {
            let kept = list.iter().take(entry_limit);
            Value::Array(kept.map(|value| short_value(value, text_limit, entry_limit, count)).collect())
        }
        Value::Object(object) => {
            let kept = object.iter().take(entry_limit);
            let short = kept.map(|(name, value)| {
                (short_text(name, text_limit, count), short_value(value, text_limit, entry_limit, count))
            });
            Value::Object(short.collect())
        }
        other => other.clone(),
    }
}

fn short_text(text: &str, limit: usize, count: &mut usize) -> String {
    // Counting characters is for texts that may be too long only.
    if text.len() <= limit || text.chars().count() <= limit {
        return text.to_owned();
    }
    *count += 1;
    text.chars().take(limit - 1).chain(['…']).collect()
}

fn longest_text(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(longest_text).max().unwrap_or(0),
        Value::Object(object) => {
            object.iter().map(|(name, value)| name.len().max(longest_text(value))).max().unwrap_or(0)
        }
        _ => 0,
    }
}
