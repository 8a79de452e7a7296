//! `GET /metrics` of the real binary: the values after a known series of events, and what Prometheus makes of them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, helpers of tests included")]
#![allow(clippy::float_cmp, reason = "what is counted are whole numbers, and times are compared with themselves")]

mod database_failures;
mod deliveries;
mod deploy;
mod exposition;
mod restart;
#[path = "../bridge/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with tests/bridge, which needs more of it")]
mod support;
mod webhooks;
mod wrong_signatures;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use self::support::{Answer, Bridge, PATIENCE, post};

/// The Client Secret of the integration.
const SECRET: &str = "client-secret-of-the-integration-for-tests";

/// The samples of one scrape: `name{label="value"}` and the value.
#[derive(Debug)]
struct Samples(BTreeMap<String, f64>);

impl Samples {
    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        });
        Self(samples.collect())
    }

    #[track_caller]
    fn get(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("there is no {series}: {self:#?}"))
    }

    /// Whether a series is there and has this value: what the queue has is left out of a scrape that did not get it in time.
    fn is(&self, series: &str, value: f64) -> bool {
        self.0.get(series) == Some(&value)
    }

    /// The non-zero samples of one metric, by their labels.
    fn of(&self, name: &str) -> BTreeMap<&str, f64> {
        let start = format!("{name}{{");
        let of = self.0.iter().filter_map(|(series, value)| {
            Some((series.strip_prefix(&start)?.strip_suffix('}')?, *value)).filter(|(_, value)| *value != 0.0)
        });
        of.collect()
    }
}

/// The text of one scrape.
#[track_caller]
fn scrape(bridge: &Bridge) -> String {
    let answer = bridge.get("/metrics");
    assert_eq!(answer.status, 200, "{answer:?}");
    String::from_utf8(answer.body).unwrap()
}

#[track_caller]
fn samples(bridge: &Bridge) -> Samples {
    Samples::parse(&scrape(bridge))
}

/// Scrapes until `condition` holds.
#[track_caller]
fn wait_for(bridge: &Bridge, what: &str, condition: impl Fn(&Samples) -> bool) -> Samples {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let samples = samples(bridge);
        if condition(&samples) {
            return samples;
        }
        assert!(Instant::now() < deadline, "{what} did not come: {samples:#?}");
        // No event announces the change of a number, so it is polled.
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signature(secret: &str, body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(body).finalize();
    mac.into_bytes().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Posts a webhook of the integration platform about `resource`, signed with `secret`.
#[track_caller]
fn post_signed(bridge: &Bridge, secret: &str, resource: &str, body: &[u8]) -> Answer {
    let signature = signature(secret, body);
    let headers = [("Sentry-Hook-Resource", resource), ("Sentry-Hook-Signature", signature.as_str())];
    post(bridge.address, "/sentry", &headers, body)
}

/// Runs promtool and asserts that it finds no problem.
#[track_caller]
fn promtool(arguments: &[&str], input: &str) -> String {
    let tool = Command::new("promtool")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut tool = tool.expect("promtool has to be there: `make setup` installs it (Debian's package prometheus)");
    tool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {}: {said}\n{input}", arguments.join(" "));
    said
}
