//! Log lines: for people on a terminal, JSON for everything else. Where one cause repeats, [`repeats`] counts lines
//! instead of writing them.

pub mod limiter;
pub mod repeats;

use std::io::{self, IsTerminal, Write};

use chrono::{SecondsFormat, Utc};
use env_logger::Builder;
use log::kv::{Error, Key, Value, VisitSource};
use log::{LevelFilter, Record};
use serde_json::{Map, Value as Json};

use crate::settings::LogFormat;

/// Starts logging to standard error what `filter` lets through, in the syntax of `RUST_LOG`.
pub fn start(format: LogFormat, filter: &str) {
    let json = match format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let mut builder = Builder::new();
    // The web server tells of each of its threads. Whoever wants that can ask for it by the same name.
    builder.filter_module("actix_server", LevelFilter::Warn).parse_filters(filter);
    if json {
        builder.format(|out, record| writeln!(out, "{}", Json::Object(members(record))));
    }
    // A second call, as tests that run several commands make, keeps the first logger.
    let _ = builder.try_init();
}

fn members(record: &Record<'_>) -> Map<String, Json> {
    let mut members = Map::new();
    members.insert("time".to_owned(), Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true).into());
    members.insert("level".to_owned(), record.level().as_str().to_ascii_lowercase().into());
    members.insert("message".to_owned(), record.args().to_string().into());
    members.insert("target".to_owned(), record.target().into());
    // Collecting cannot fail: the visitor below takes every value.
    let _ = record.key_values().visit(&mut Pairs(&mut members));
    members
}

struct Pairs<'a>(&'a mut Map<String, Json>);

impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let json = value.to_i64().map_or_else(|| value.to_string().into(), Json::from);
        self.0.insert(key.as_str().to_owned(), json);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_message_and_pairs() {
        let pairs = [("event", Value::from(7)), ("incident_key", Value::from("42"))];
        let members = members(
            &Record::builder().args(format_args!("queued \"x\"\n")).level(log::Level::Info).key_values(&pairs).build(),
        );
        assert_eq!(members["level"], "info");
        assert_eq!(members["message"], "queued \"x\"\n");
        assert_eq!(members["event"], 7);
        assert_eq!(members["incident_key"], "42");
    }
}
