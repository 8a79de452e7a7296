//! The last 24 hours as small charts, in SVG with a text for screen readers.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::text::{count, counted, time_of_day};
use crate::metrics::Bucket;

/// How many buckets make one bar: half an hour, so that a bar is wide enough for a phone.
const PER_BAR: usize = 3;

/// The height of the tallest bar, in the chart's own units.
const HEIGHT: u64 = 40;

/// The width of a bar and of the gap after it.
const WIDTH: usize = 4;
const GAP: usize = 1;

/// One chart.
struct Series {
    /// Also the CSS class that colours the chart.
    name: &'static str,
    title: &'static str,
    one: &'static str,
    more: &'static str,
    of: fn(&Bucket) -> u64,
}

const SERIES: [Series; 4] = [
    Series { name: "received", title: "Received", one: "webhook", more: "webhooks", of: |bucket| bucket.received },
    Series { name: "delivered", title: "Delivered", one: "event", more: "events", of: |bucket| bucket.delivered },
    Series { name: "throttled", title: "Throttled", one: "attempt", more: "attempts", of: |bucket| bucket.throttled },
    Series { name: "failed", title: "Failed", one: "attempt", more: "attempts", of: |bucket| bucket.failed },
];

/// All charts.
pub(super) fn section(buckets: &[Bucket]) -> Markup {
    html! {
        section #day aria-labelledby="day-title" {
            h2 #day-title { "Last 24 hours" }
            div .charts {
                @for series in &SERIES { (chart(series, buckets)) }
            }
        }
    }
}

fn chart(series: &Series, buckets: &[Bucket]) -> Markup {
    let bars = bars(series, buckets);
    let total = bars.iter().map(|(_, height)| height).sum();
    let peak = bars.iter().copied().filter(|(_, height)| *height > 0).max_by_key(|(_, height)| *height);
    let width = bars.len() * (WIDTH + GAP);
    let name = series.name;
    html! {
        figure .chart .(name) {
            figcaption {
                span .label { (series.title) }
                span .total { (count(total)) }
            }
            svg viewBox={ "0 0 " (width) " " (HEIGHT) } preserveAspectRatio="none" role="img"
                aria-labelledby={ (name) "-title " (name) "-desc" } {
                title id={ (name) "-title" } { (series.title) " in the last 24 hours" }
                desc id={ (name) "-desc" } { (description(series, total, peak)) }
                path d=(path(&bars, peak.map_or(0, |(_, height)| height))) {}
            }
            p .axis aria-hidden="true" {
                span { "24 h ago" }
                @if let Some((at, height)) = peak {
                    span { "peak " (count(height)) " at " (time_of_day(at)) }
                }
                span { "now" }
            }
        }
    }
}

/// Bars of [`PER_BAR`] buckets each: when each begins, and how high it is. The newest ends with the newest bucket.
fn bars(series: &Series, buckets: &[Bucket]) -> Vec<(DateTime<Utc>, u64)> {
    let mut bars: Vec<_> = buckets
        .rchunks(PER_BAR)
        .filter_map(|chunk| Some((chunk.first()?.from, chunk.iter().map(series.of).sum())))
        .collect();
    bars.reverse();
    bars
}

fn description(series: &Series, total: u64, peak: Option<(DateTime<Utc>, u64)>) -> String {
    let Some((at, most)) = peak else { return format!("No {}.", series.more) };
    let total = counted(total, series.one, series.more);
    format!("{total}; at most {} within half an hour, from {} UTC.", count(most), at.format("%H:%M"))
}

/// Returns one SVG path for all bars. A bar that is not zero stays visible, however high the peak is.
fn path(bars: &[(DateTime<Utc>, u64)], peak: u64) -> String {
    let mut path = String::new();
    for (place, (_, height)) in bars.iter().enumerate().filter(|(_, (_, height))| *height > 0) {
        let height = (height.saturating_mul(HEIGHT) / peak.max(1)).clamp(2, HEIGHT);
        // Writing to a String cannot fail.
        let _ = write!(path, "M{} {HEIGHT}v-{height}h{WIDTH}v{height}z", place * (WIDTH + GAP));
    }
    path
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn day(delivered: impl Fn(usize) -> u64) -> Vec<Bucket> {
        let begin = DateTime::from_timestamp(1_795_353_600, 0).unwrap();
        let minutes = |place: usize| TimeDelta::minutes(10 * i64::try_from(place).unwrap());
        let bucket = |place| Bucket {
            from: begin + minutes(place),
            received: 0,
            delivered: delivered(place),
            throttled: 0,
            failed: 0,
        };
        (0..144).map(bucket).collect()
    }

    #[test]
    fn a_chart_counts_everything_and_shows_also_what_is_small_beside_the_peak() {
        let day = day(|place| match place {
            0 => 1,
            141..144 => 4_000,
            _ => 0,
        });
        let bars = bars(&SERIES[1], &day);
        assert_eq!((bars.len(), bars[0].1, bars[47].1), (48, 1, 12_000));
        assert_eq!(path(&bars, 12_000), "M0 40v-2h4v2zM235 40v-40h4v40z");
        let markup = chart(&SERIES[1], &day).into_string();
        assert!(markup.contains("12,001 events; at most 12,000 within half an hour, from 12:50 UTC."), "{markup}");
    }

    #[test]
    fn a_day_without_anything_is_told_as_such() {
        let markup = section(&day(|_| 0)).into_string();
        assert!(markup.contains("No webhooks.") && markup.contains("No attempts.") && !markup.contains("peak"));
        // A bridge that knows nothing yet has no buckets at all.
        assert!(section(&[]).into_string().contains("No events."));
    }
}
