//! Bodies that others have published. They are not part of this repository and are read where they lie, if they do.

use std::fs;
use std::path::Path;

use sentry_pagerduty_bridge::intake::{Ignored, Verdict, Webhook};
use serde_json::Value;

use crate::{intake, judge, received_at};

#[test]
fn published_legacy_bodies_page_and_those_of_the_platform_do_not() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/payloads/public");
    let Ok(entries) = fs::read_dir(folder) else { return };
    let bodies =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
    for path in bodies {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let body = fs::read(&path).unwrap();
        let parsed: Value = serde_json::from_slice(&body).unwrap();
        let verdict = judge(&intake("", "", None), &body);
        if parsed["event"].is_object() && parsed["project"].is_string() {
            let Verdict::Queue(prepared) = verdict else { panic!("{name}: {verdict:?}") };
            let event: Value = serde_json::from_slice(prepared.event.body()).unwrap();
            assert_eq!(event["incident_key"], parsed["id"], "{name}");
            assert_eq!(prepared.cuts, [], "{name}");
        } else if parsed["action"].is_string() {
            assert_eq!(verdict, Verdict::Ignored(Ignored::Platform), "{name}");
        } else {
            assert!(matches!(verdict, Verdict::Rejected(_)), "{name}: {verdict:?}");
            let webhook = Webhook { resource: Some("issue"), body: &body, received_at: received_at() };
            assert_eq!(intake("", "", None).judge(&webhook), Verdict::Ignored(Ignored::Platform), "{name}");
        }
    }
}
