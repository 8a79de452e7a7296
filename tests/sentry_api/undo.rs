//! What `connect --undo` removes.

use sentry_twin::{SentryGeneration, World};
use serde_json::json;

use crate::connect::{assert_done, connect, projects};

#[test]
fn undo_takes_back_all_that_was_made_and_nothing_else() {
    for generation in [SentryGeneration::Plugin, SentryGeneration::Apps, SentryGeneration::Workflows] {
        let twin = projects(generation);
        let mail = json!([{"id": "sentry.mail.actions.NotifyEmailAction"}]);
        twin.world(|world| {
            world.deletes_apps = true;
            world.project("shop").unwrap().urls = vec!["https://hooks.example/1".to_owned()];
            world.project("shop").unwrap().hook_enabled = true;
            if generation == SentryGeneration::Workflows {
                let detectors = [world.detectors[0]["id"].as_str().unwrap().to_owned()];
                world.add_workflow(
                    "Mail",
                    &detectors,
                    &[],
                    &json!([{"id": "9", "type": "email", "config": {}, "data": {}}]),
                );
            } else {
                world.add_rule("shop", "Mail", &mail);
            }
            if generation != SentryGeneration::Plugin {
                world.add_app("Somebody else's", "https://elsewhere.example/hook");
            }
        });
        let state = |world: &mut World| {
            let projects: Vec<_> =
                world.projects.iter().map(|one| (one.urls.clone(), one.hook_enabled, one.rules.clone())).collect();
            (projects, world.workflows.clone(), world.apps.clone())
        };
        let before = twin.world(state);
        for extra in [&[][..], &["--by", "legacy"]] {
            assert_done(&connect(&twin, &[&["--yes"], extra].concat()));
            assert_ne!(twin.world(state), before);
            let planned = connect(&twin, &["--undo"]);
            assert!(planned.stdout.contains("nothing was changed; --yes does it"), "{planned:?}");
            assert_done(&connect(&twin, &["--undo", "--yes"]));
            let (mut after, mut expected) = (twin.world(state), before.clone());
            if generation == SentryGeneration::Workflows {
                // A URL that was the only one stays in the list, which is disabled.
                (after.0[1].0, expected.0[1].0) = (Vec::new(), Vec::new());
            }
            assert_eq!(after, expected, "{generation:?} {extra:?}");
            let again = connect(&twin, &["--undo", "--yes"]);
            assert_done(&again);
        }
    }
}

#[test]
fn undo_takes_the_action_out_of_an_alert_that_was_extended() {
    let twin = projects(SentryGeneration::Apps);
    let mail = json!([{"id": "sentry.mail.actions.NotifyEmailAction"}]);
    twin.world(|world| world.add_rule("shop", "On call", &mail));
    let before = twin.world(|world| world.project("shop").unwrap().rules.clone());
    twin.world(|world| world.deletes_apps = true);
    assert_done(&connect(&twin, &["--project", "shop", "--rule", "On call", "--yes"]));
    assert_done(&connect(&twin, &["--undo", "--yes"]));
    let after = twin.world(|world| world.project("shop").unwrap().rules.clone());
    assert_eq!((&after[0]["actions"], after.len()), (&before[0]["actions"], 1));
}

#[test]
fn where_no_token_may_delete_an_integration_undo_says_what_is_left_to_do() {
    let twin = projects(SentryGeneration::Apps);
    assert_done(&connect(&twin, &["--yes"]));
    let run = connect(&twin, &["--undo", "--yes"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("delete it in Settings > Developer Settings; no alert calls it any more"), "{run:?}");
    assert!(twin.world(|world| world.projects.iter().all(|project| project.rules.is_empty())));
}
