//! The description of `/api` names what is served, and nothing else.

use std::collections::BTreeSet;

use serde_json::Value;

use super::OPENAPI;
use super::operation::{Operation, methods, paths};

#[test]
fn the_description_has_every_operation_and_no_other() {
    let described: Value = serde_json::from_str(OPENAPI).unwrap();
    let described: BTreeSet<(String, String)> = described["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| (path.clone(), method.to_uppercase()))
        })
        .filter(|(_, method)| method != "PARAMETERS")
        .collect();
    let served: BTreeSet<_> =
        Operation::ALL.iter().map(|served| (served.path().to_owned(), served.method().to_string())).collect();
    assert_eq!(served, described);
    assert_eq!(served.len(), Operation::ALL.len(), "one is listed twice");
}

#[test]
fn the_description_is_of_this_version() {
    let described: Value = serde_json::from_str(OPENAPI).unwrap();
    assert_eq!(described["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_path_stands_once_with_all_of_its_methods() {
    let paths = paths();
    assert_eq!(paths.iter().collect::<BTreeSet<_>>().len(), paths.len(), "{paths:?}");
    assert_eq!(methods("/api/events/{id}"), "GET, DELETE");
}
