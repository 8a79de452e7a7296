//! Determines which webhook addresses are the bridge's.

use std::fmt;

use url::Url;

use crate::config::WebhookToken;

/// The last path segment that every address of the webhook has; a token may follow it.
const SEGMENT: &str = "sentry";

/// What is known about the bridge's own address.
#[derive(Clone, Debug, Default)]
pub struct Bridge {
    /// The root under which Sentry reaches it, such as `https://bridge.example.com`; `None` accepts any host.
    pub root: Option<Url>,
    /// The tokens it accepts; empty if the token does not matter or is not known here.
    pub tokens: Vec<WebhookToken>,
}

/// How an address relates to the bridge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Address {
    /// The bridge's webhook.
    Ours,
    /// The bridge's webhook, with a token that the bridge would reject.
    WrongToken,
    /// Any other address.
    Foreign,
}

impl Bridge {
    /// Classifies the address `url`.
    #[must_use]
    pub fn judge(&self, url: &str) -> Address {
        let Ok(url) = Url::parse(url) else { return Address::Foreign };
        let segments: Vec<&str> = url.path_segments().into_iter().flatten().filter(|part| !part.is_empty()).collect();
        let before: Vec<&str> = match &self.root {
            Some(root) if root.origin() != url.origin() => return Address::Foreign,
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
            _ => return Address::Foreign,
        };
        match token {
            Some(token) if !self.tokens.is_empty() => {
                let known = self.tokens.iter().any(|known| known.matches(token.as_bytes()));
                if known { Address::Ours } else { Address::WrongToken }
            }
            _ => Address::Ours,
        }
    }

    /// Whether `url` is the bridge's webhook and the bridge would accept requests to it.
    #[must_use]
    pub fn is_ours(&self, url: &str) -> bool {
        self.judge(url) == Address::Ours
    }
}

/// An address without the parts that may contain a token: user, password, query, and everything after `/sentry`.
#[derive(Clone, Copy, Debug)]
pub struct Masked<'a>(pub &'a str);

impl fmt::Display for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(url) = Url::parse(self.0) else { return f.write_str("an address that cannot be read") };
        f.write_str(&url.origin().ascii_serialization())?;
        for segment in url.path_segments().into_iter().flatten().filter(|part| !part.is_empty()) {
            write!(f, "/{segment}")?;
            if segment == SEGMENT {
                break;
            }
        }
        let path_goes_on = url.path().split_once("/sentry/").is_some_and(|(_, rest)| !rest.is_empty());
        let hidden = path_goes_on || !url.username().is_empty() || url.query().is_some();
        f.write_str(if hidden { "/…" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bridge(root: Option<&str>, token: Option<&str>) -> Bridge {
        Bridge {
            root: root.map(|root| Url::parse(root).unwrap()),
            tokens: token.map(|token| WebhookToken::parse_list(token).unwrap()).unwrap_or_default(),
        }
    }

    #[test]
    fn an_address_is_the_bridges_by_root_path_and_token() {
        let token = "b9d1c2a47f6e5d80";
        let known = bridge(Some("https://bridge.example.com/pager/"), Some(token));
        for (url, expected) in [
            ("https://bridge.example.com/pager/sentry/b9d1c2a47f6e5d80", Address::Ours),
            ("https://bridge.example.com/pager/sentry", Address::Ours),
            ("https://sentry:b9d1c2a47f6e5d80@bridge.example.com/pager/sentry", Address::Ours),
            ("https://sentry:another-token-00@bridge.example.com/pager/sentry", Address::WrongToken),
            ("https://bridge.example.com/pager/sentry/another-token-00", Address::WrongToken),
            ("https://bridge.example.com/sentry/b9d1c2a47f6e5d80", Address::Foreign),
            ("https://bridge.example.com/pager/other", Address::Foreign),
            ("https://elsewhere.example/pager/sentry/b9d1c2a47f6e5d80", Address::Foreign),
            ("no address", Address::Foreign),
        ] {
            assert_eq!(known.judge(url), expected, "{url}");
        }
        let anywhere = bridge(None, None);
        for url in ["https://a.example/sentry", "http://b.example/x/sentry/some-token"] {
            assert_eq!(anywhere.judge(url), Address::Ours, "{url}");
        }
        assert_eq!(anywhere.judge("https://hooks.example/services/1"), Address::Foreign);
    }

    #[test]
    fn a_token_is_not_shown_in_an_address() {
        let shown = |url: &str| Masked(url).to_string();
        assert_eq!(shown("https://b.example/sentry/SECRET"), "https://b.example/sentry/…");
        assert_eq!(shown("https://sentry:SECRET@b.example/sentry"), "https://b.example/sentry/…");
        assert_eq!(shown("https://b.example/sentry"), "https://b.example/sentry");
        assert_eq!(shown("https://b.example/x?token=SECRET"), "https://b.example/x/…");
        assert_eq!(shown("SECRET"), "an address that cannot be read");
    }
}
