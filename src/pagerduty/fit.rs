//! Makes a trigger small enough for PagerDuty, and reports what was cut.

use std::borrow::Cow;
use std::mem;

use super::event::{Detail, Details, Trigger};
use super::events_api::{Cut, MAX_ADDRESS, MAX_BYTES, MAX_COUNTS, Rendered};

/// The largest trigger that is rendered, in bytes: [`with_counts`](super::with_counts) may add to it later.
const MAX_TRIGGER: usize = MAX_BYTES - MAX_COUNTS;

/// The lengths, in characters, to which long texts are cut: each is tried in turn until the event fits.
const TEXT_LIMITS: [usize; 8] = [32_768, 16_384, 8_192, 4_096, 2_048, 1_024, 512, SHORTEST_TEXT];

const SHORTEST_TEXT: usize = 256;

/// How many entries of each list are kept, tried in turn when short texts are still too large. With the last limits the
/// details are at most 32 tags, 32 measurements and 32 rules of 256 characters and about thirty single texts, and no
/// character takes more than six bytes: less than 300,000 bytes.
const ENTRY_LIMITS: [usize; 8] = [4_096, 2_048, 1_024, 512, 256, 128, 64, 32];

/// The names that an API has for the fields that may be cut.
#[derive(Clone, Copy)]
pub(super) struct FieldNames {
    pub(super) description: &'static str,
    pub(super) details: &'static str,
    pub(super) links: &'static str,
}

/// Renders the trigger. If the result is too large, the trigger is rendered again without its least useful parts: the
/// outermost frames are dropped first, then the longest texts are cut, then the last tags and rules are dropped.
pub(super) fn fit(names: FieldNames, trigger: &Trigger, render: impl Fn(&Trigger) -> Rendered) -> Rendered {
    let mut trigger = Cow::Borrowed(trigger);
    let mut cuts = Vec::from_iter(Cut::line(names.description, &trigger.description));
    drop_long_addresses(names, &mut trigger, &mut cuts);

    let mut rendered = render(&trigger);
    let length = rendered.bytes.len();
    if length > MAX_TRIGGER {
        rendered = shrink(names.details, trigger.into_owned(), length - MAX_TRIGGER, render, &mut cuts);
    }
    Rendered { cuts, ..rendered }
}

fn shrink(
    details_name: &'static str,
    mut trigger: Trigger,
    excess: usize,
    render: impl Fn(&Trigger) -> Rendered,
    cuts: &mut Vec<Cut>,
) -> Rendered {
    cuts.extend(drop_frames(details_name, &mut trigger.details, excess));
    let whole = mem::take(&mut trigger.details);
    let longest = whole.values().map(longest_text).max().unwrap_or(0);
    let shorter_texts = TEXT_LIMITS.into_iter().filter(|&limit| limit < longest).map(|limit| (limit, usize::MAX));
    let fewer_entries = ENTRY_LIMITS.map(|limit| (SHORTEST_TEXT, limit));
    let mut rendered = Rendered::default();
    for (text_limit, entry_limit) in [(usize::MAX, usize::MAX)].into_iter().chain(shorter_texts).chain(fewer_entries) {
        let (details, shortened) = shortened(details_name, &whole, text_limit, entry_limit);
        trigger.details = details;
        rendered = render(&trigger);
        if rendered.bytes.len() <= MAX_TRIGGER {
            cuts.extend(shortened);
            break;
        }
    }
    rendered
}

fn drop_long_addresses(names: FieldNames, trigger: &mut Cow<'_, Trigger>, cuts: &mut Vec<Cut>) {
    if let Some(length) = trigger.client_url.as_deref().and_then(too_long) {
        cuts.push(Cut::Address { member: "client_url".to_owned(), length });
        trigger.to_mut().client_url = None;
    }
    let links: Vec<_> = trigger.links.iter().filter_map(|link| too_long(&link.href)).collect();
    if !links.is_empty() {
        cuts.extend(links.into_iter().map(|length| Cut::Address { member: names.links.to_owned(), length }));
        trigger.to_mut().links.retain(|link| too_long(&link.href).is_none());
    }
    let urls: Vec<_> = trigger
        .details
        .iter()
        .filter_map(|(name, detail)| match detail {
            Detail::Url(url) => Some((*name, too_long(url)?)),
            _ => None,
        })
        .collect();
    for (name, length) in urls {
        cuts.push(Cut::Address { member: format!("{}.{name}", names.details), length });
        trigger.to_mut().details.insert(name, Detail::Unknown);
    }
}

/// Returns the length of an address if it is too long to be sent.
fn too_long(address: &str) -> Option<usize> {
    (address.len() > MAX_ADDRESS).then_some(address.len())
}

/// Drops the outermost frames until `excess` bytes are gone or no frame is left.
fn drop_frames(details_name: &'static str, details: &mut Details, excess: usize) -> Option<Cut> {
    let mut cut = None;
    details.retain(|_, detail| {
        let Detail::Frames(frames) = detail else { return true };
        let of = frames.len();
        let mut gone = 0;
        while gone < excess
            && let Some(frame) = frames.pop()
        {
            // The comma before it goes as well.
            gone += serde_json::to_string(&frame).map_or(0, |json| json.len() + 1);
        }
        let kept = frames.len();
        cut = (kept < of).then_some(Cut::Frames { details: details_name, kept, of });
        kept > 0
    });
    cut
}

/// A copy of the details with every text cut to `text_limit` characters and every list to `entry_limit` entries.
fn shortened(
    details_name: &'static str,
    details: &Details,
    text_limit: usize,
    entry_limit: usize,
) -> (Details, Vec<Cut>) {
    let mut cuts = Vec::new();
    let copy = |(name, detail): (&&'static str, &Detail)| {
        let mut count = 0;
        let of = entries(detail);
        let detail = shortened_detail(detail, text_limit, entry_limit, &mut count);
        if count > 0 {
            cuts.push(Cut::Texts { details: details_name, member: name, count, limit: text_limit });
        }
        if entries(&detail) < of {
            cuts.push(Cut::Entries { details: details_name, member: name, kept: entries(&detail), of });
        }
        (*name, detail)
    };
    let details = details.iter().map(copy).collect();
    (details, cuts)
}

fn shortened_detail(detail: &Detail, text_limit: usize, entry_limit: usize, count: &mut usize) -> Detail {
    let mut short = |text: &String| short_text(text, text_limit, count);
    match detail {
        Detail::Text(text) => Detail::Text(short(text)),
        Detail::List(texts) => Detail::List(texts.iter().take(entry_limit).map(short).collect()),
        Detail::Frames(frames) => Detail::Frames(frames.iter().take(entry_limit).map(short).collect()),
        Detail::Fields(fields) => {
            Detail::Fields(fields.iter().take(entry_limit).map(|(name, text)| (short(name), short(text))).collect())
        }
        Detail::Unknown | Detail::Number(_) | Detail::Time(_) | Detail::Url(_) => detail.clone(),
    }
}

fn entries(detail: &Detail) -> usize {
    match detail {
        Detail::List(texts) | Detail::Frames(texts) => texts.len(),
        Detail::Fields(fields) => fields.len(),
        _ => 0,
    }
}

fn short_text(text: &str, limit: usize, count: &mut usize) -> String {
    // Counting characters is slow, and no text has more characters than bytes.
    if text.len() <= limit || text.chars().count() <= limit {
        return text.to_owned();
    }
    *count += 1;
    text.chars().take(limit - 1).chain(['…']).collect()
}

fn longest_text(detail: &Detail) -> usize {
    match detail {
        Detail::Text(text) => text.len(),
        Detail::List(texts) | Detail::Frames(texts) => texts.iter().map(String::len).max().unwrap_or(0),
        Detail::Fields(fields) => fields.iter().map(|(name, text)| name.len().max(text.len())).max().unwrap_or(0),
        Detail::Unknown | Detail::Number(_) | Detail::Time(_) | Detail::Url(_) => 0,
    }
}
