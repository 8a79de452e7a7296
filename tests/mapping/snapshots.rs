//! The event of every fixture, to be looked at by people.

use serde_json::Value;

use crate::fixtures;
use crate::prepared;

#[test]
fn the_event_of_every_fixture_is_the_one_that_was_looked_at() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for fixture in fixtures::all() {
            let event: Value = serde_json::from_slice(&prepared(&fixture.webhook).rendered.bytes).unwrap();
            insta::assert_json_snapshot!(fixture.name.replace('/', "-"), event);
        }
    });
}
