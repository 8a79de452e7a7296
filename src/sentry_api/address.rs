//! The webhooks by which Sentry calls the bridge: their kinds, and which addresses are the bridge's.

use url::Url;

use crate::config::AccessToken;

/// The last path segment that every address of the webhook has; a token may follow it.
const SEGMENT: &str = "sentry";

/// The two kinds of webhooks by which an alert calls the bridge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WebhookKind {
    /// The legacy webhooks of the project. They never report that an issue is resolved.
    Legacy,
    /// An internal integration of the organization.
    Integration,
}

/// What is known about the bridge's own address.
#[derive(Clone, Debug, Default)]
pub struct BridgeAddress {
    /// The root under which Sentry reaches it, such as `https://bridge.example.com`; `None` accepts any host.
    pub root: Option<Url>,
    /// The tokens it accepts; empty if the token does not matter or is not known here.
    pub tokens: Vec<AccessToken>,
}

/// How an address relates to the bridge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AddressMatch {
    /// The bridge's webhook.
    Bridge,
    /// The bridge's webhook, with a token that the bridge would reject.
    WrongToken,
    /// Any other address.
    Other,
}

impl BridgeAddress {
    /// Classifies the address `url`.
    #[must_use]
    pub fn classify(&self, url: &str) -> AddressMatch {
        let Ok(url) = Url::parse(url) else { return AddressMatch::Other };
        let segments: Vec<&str> = url.path_segments().into_iter().flatten().filter(|part| !part.is_empty()).collect();
        let before: Vec<&str> = match &self.root {
            Some(root) if root.origin() != url.origin() => return AddressMatch::Other,
            Some(root) => root.path_segments().into_iter().flatten().filter(|part| !part.is_empty()).collect(),
            None => Vec::new(),
        };
        // Without a root, any path may precede the webhook's.
        let rest = match &self.root {
            Some(_) => segments.strip_prefix(before.as_slice()),
            None => segments.iter().rposition(|part| *part == SEGMENT).map(|place| &segments[place..]),
        };
        let token = match rest {
            Some([SEGMENT]) => url.password(),
            Some([SEGMENT, token]) => Some(*token),
            _ => return AddressMatch::Other,
        };
        match token {
            Some(token) if !self.tokens.is_empty() => {
                let known = self.tokens.iter().any(|known| known.matches(token.as_bytes()));
                if known { AddressMatch::Bridge } else { AddressMatch::WrongToken }
            }
            _ => AddressMatch::Bridge,
        }
    }

    /// Whether `url` is the bridge's webhook and the bridge would accept requests to it.
    #[must_use]
    pub fn matches(&self, url: &str) -> bool {
        self.classify(url) == AddressMatch::Bridge
    }
}

/// Returns an address without the parts that may contain a token: user, password, query, and everything after `/sentry`.
#[must_use]
pub fn masked(address: &str) -> String {
    let Ok(url) = Url::parse(address) else { return "an address that cannot be read".to_owned() };
    let mut shown = url.origin().ascii_serialization();
    for segment in url.path_segments().into_iter().flatten().filter(|part| !part.is_empty()) {
        shown.push('/');
        shown.push_str(segment);
        if segment == SEGMENT {
            break;
        }
    }
    let path_goes_on = url.path().split_once("/sentry/").is_some_and(|(_, rest)| !rest.is_empty());
    if path_goes_on || !url.username().is_empty() || url.query().is_some() {
        shown.push_str("/…");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bridge(root: Option<&str>, token: Option<&str>) -> BridgeAddress {
        BridgeAddress {
            root: root.map(|root| Url::parse(root).unwrap()),
            tokens: token.map(|token| AccessToken::parse_list(token).unwrap()).unwrap_or_default(),
        }
    }

    #[test]
    fn an_address_is_the_bridges_by_root_path_and_token() {
        let token = "b9d1c2a47f6e5d80";
        let known = bridge(Some("https://bridge.example.com/pager/"), Some(token));
        for (url, expected) in [
            ("https://bridge.example.com/pager/sentry/b9d1c2a47f6e5d80", AddressMatch::Bridge),
            ("https://bridge.example.com/pager/sentry", AddressMatch::Bridge),
            ("https://sentry:b9d1c2a47f6e5d80@bridge.example.com/pager/sentry", AddressMatch::Bridge),
            ("https://sentry:another-token-00@bridge.example.com/pager/sentry", AddressMatch::WrongToken),
            ("https://bridge.example.com/pager/sentry/another-token-00", AddressMatch::WrongToken),
            ("https://bridge.example.com/sentry/b9d1c2a47f6e5d80", AddressMatch::Other),
            ("https://bridge.example.com/pager/other", AddressMatch::Other),
            ("https://elsewhere.example/pager/sentry/b9d1c2a47f6e5d80", AddressMatch::Other),
            ("no address", AddressMatch::Other),
        ] {
            assert_eq!(known.classify(url), expected, "{url}");
        }
        let anywhere = bridge(None, None);
        for url in ["https://a.example/sentry", "http://b.example/x/sentry/some-token"] {
            assert_eq!(anywhere.classify(url), AddressMatch::Bridge, "{url}");
        }
        assert_eq!(anywhere.classify("https://hooks.example/services/1"), AddressMatch::Other);
    }

    #[test]
    fn a_token_is_not_shown_in_an_address() {
        assert_eq!(masked("https://b.example/sentry/SECRET"), "https://b.example/sentry/…");
        assert_eq!(masked("https://sentry:SECRET@b.example/sentry"), "https://b.example/sentry/…");
        assert_eq!(masked("https://b.example/sentry"), "https://b.example/sentry");
        assert_eq!(masked("https://b.example/x?token=SECRET"), "https://b.example/x/…");
        assert_eq!(masked("SECRET"), "an address that cannot be read");
    }
}
