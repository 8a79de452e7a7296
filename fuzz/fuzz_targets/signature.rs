//! A signature is accepted if, and only if, it was made from the body with a known secret. The input is the value of a
//! header, a line feed, and a body.

#![no_main]

use std::sync::LazyLock;

use chrono::DateTime;
use libfuzzer_sys::fuzz_target;
use sentry_pagerduty_bridge::config::SigningSecret;
use sentry_pagerduty_bridge::sentry::signature::Signature;
use sentry_pagerduty_bridge::two_way::webhook::{TwoWaySettings, is_signed, requested_update};

const KNOWN: &str = "an-old-secret-of-the-integration-123,a-new-secret-of-the-integration-4567";
const UNKNOWN: &str = "a-secret-that-nobody-knows-890123456";

static SECRETS: LazyLock<Vec<SigningSecret>> = LazyLock::new(|| secrets(KNOWN));
static OTHERS: LazyLock<Vec<SigningSecret>> = LazyLock::new(|| secrets(UNKNOWN));
static PAGERDUTYS: LazyLock<Vec<SigningSecret>> =
    LazyLock::new(|| SigningSecret::parse_pagerduty_list(KNOWN).unwrap_or_else(|error| panic!("{error}")));

fn secrets(text: &str) -> Vec<SigningSecret> {
    SigningSecret::parse_sentry_list(text).unwrap_or_else(|error| panic!("{error}"))
}

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (header, body) = (&input[..end], input.get(end + 1..).unwrap_or_default());
    let right: Vec<Signature> = SECRETS.iter().map(|secret| Signature::of(body, secret)).collect();

    if let Some(signature) = Signature::parse(header) {
        assert_eq!(signature.to_string().as_bytes(), header.trim_ascii());
        assert_eq!(signature, Signature::from_bytes(signature.bytes()));
        assert_eq!(signature.is_by(&SECRETS, body), right.contains(&signature));
    }
    for signature in &right {
        assert_eq!(Signature::parse(signature.to_string().as_bytes()), Some(*signature));
        assert!(signature.is_by(&SECRETS, body) && !signature.is_by(&OTHERS, body));
        assert!(!signature.is_by(&SECRETS, &[body, b" "].concat()));
    }

    // PagerDuty sends several signatures, and those before the right one do not matter.
    let header = String::from_utf8_lossy(header);
    let is_right = |text: &str| right.iter().any(|signature| text.eq_ignore_ascii_case(&format!("v1={signature}")));
    let has_right = header.split(',').any(|part| is_right(part.trim()));
    assert!(!is_signed(&header, &PAGERDUTYS, body) || has_right);
    if header.matches(',').count() < 6 {
        assert!(is_signed(&format!("{header},v1={}", right[0]), &PAGERDUTYS, body));
    }
    assert!(!is_signed(&format!("v1={}", Signature::of(body, &OTHERS[0])), &PAGERDUTYS, body));

    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default();
    let settings = TwoWaySettings { prefix: String::new(), reopens: true };
    match requested_update(body, Some(&header), now, &settings) {
        Ok(update) => assert!(update.webhook_id.chars().count() <= 200),
        Err(reason) => assert!(!reason.to_string().is_empty()),
    }
});
