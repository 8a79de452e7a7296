//! A call of another service's JSON API, before it is sent.

use awc::http::Method;
use serde_json::Value;
use url::Url;

/// The most characters of a service's own words that an error shows.
const MAX_REASON: usize = 300;

/// One request: what is asked for, without the server and the token.
#[derive(Clone, Debug)]
pub(crate) struct ApiCall {
    pub(crate) method: Method,
    /// The segments of the path below the root. A `/` within a segment is percent-encoded.
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    pub(crate) body: Option<Value>,
    /// What the token needs for it, for error messages.
    pub(crate) needs: &'static str,
}

impl ApiCall {
    pub(crate) fn new<'a>(method: Method, path: impl IntoIterator<Item = &'a str>, needs: &'static str) -> Self {
        Self { method, path: path.into_iter().map(str::to_owned).collect(), query: Vec::new(), body: None, needs }
    }

    #[must_use]
    pub(crate) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    #[must_use]
    pub(crate) fn body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    /// Method and path, for error messages.
    pub(crate) fn shown(&self) -> String {
        format!("{} /{}", self.method, self.path.join("/"))
    }

    /// The address at the service with this root.
    pub(crate) fn url(&self, root: &Url) -> Url {
        let mut url = root.clone();
        // A root has a host, so it has path segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(&self.path);
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(self.query.iter().map(|(name, value)| (*name, value.as_str())));
        }
        url
    }
}

/// Makes the words with which a service explains an error printable: one line, truncated, and without the token.
pub(crate) fn printable_reason(text: &str, token: &str) -> String {
    let text = text.replace(token, "…");
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).take(MAX_REASON).collect()
}
