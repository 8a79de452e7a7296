//! The specification of `/api`, against which the tests validate every response.

use jsonschema::{Draft, Validator};
use serde_json::{Value, json};

/// `docs/openapi.json`.
pub(super) struct Spec(Value);

impl Spec {
    pub(super) fn read() -> Self {
        Self(serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap())
    }

    /// Every method and path in it.
    pub(super) fn operations(&self) -> Vec<(String, String)> {
        let paths = self.0["paths"].as_object().unwrap();
        let methods = |item: &Value| -> Vec<String> {
            item.as_object().unwrap().keys().filter(|key| *key != "parameters").map(|key| key.to_uppercase()).collect()
        };
        paths.iter().flat_map(|(path, item)| methods(item).into_iter().map(|method| (method, path.clone()))).collect()
    }

    /// The path template in it that matches an address.
    pub(super) fn path(&self, address: &str) -> Option<String> {
        let address: Vec<_> = address.split('?').next().unwrap().split('/').collect();
        let fits = |path: &&String| {
            let parts: Vec<_> = path.split('/').collect();
            parts.len() == address.len()
                && parts.iter().zip(&address).all(|(part, given)| part.starts_with('{') || part == given)
        };
        self.0["paths"].as_object().unwrap().keys().find(fits).cloned()
    }

    /// Asserts that a response conforms to it.
    #[track_caller]
    pub(super) fn holds(&self, method: &str, address: &str, status: u16, body: &Value) {
        let path = self.path(address).unwrap();
        let response = &self.0["paths"][&path][method.to_lowercase()]["responses"][status.to_string()];
        assert!(response.is_object(), "{method} {path} may not answer {status}: {body}");
        let response = match response["$ref"].as_str() {
            Some(name) => &self.0["components"]["responses"][name.rsplit('/').next().unwrap()],
            None => response,
        };
        let mut schema = response["content"]["application/json"]["schema"].clone();
        schema["components"] = json!({"schemas": self.0["components"]["schemas"]});
        let errors: Vec<_> = validator(&schema).iter_errors(body).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{method} {path} {status}: {errors:#?} in {body:#}");
    }
}

fn validator(schema: &Value) -> Validator {
    jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true).build(schema).unwrap()
}

#[test]
fn the_description_tells_right_answers_from_wrong_ones() {
    let spec = Spec::read();
    let mut page = json!({"events": [], "next": null});
    spec.holds("GET", "/api/events?limit=1", 200, &page);
    let wrong = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        page["more"] = json!(1);
        spec.holds("GET", "/api/events", 200, &page);
    }));
    assert!(wrong.is_err());
}
