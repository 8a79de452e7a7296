//! Derives the issue's page, its id and the root of its Sentry from the web addresses in a body.
//!
//! The forms that an issue's address has had:
//!
//! - `<root>/<organization>/<project>/issues/<id>/` up to Sentry 9.0, and still in 9.1
//! - `<root>/organizations/<organization>/issues/<id>/` from 9.1 on
//! - `https://<organization>.sentry.io/issues/<id>/` on sentry.io since 2023
//!
//! In bodies of the integration platform the page of an event is below that of its issue, a metric alert's page is
//! `<root>/organizations/<organization>/alerts/…`, and where there is no page, there is often an address of Sentry's API:
//!
//! - `<root>/api/0/issues/<id>/`, since about 2024 `<root>/api/0/organizations/<organization>/issues/<id>/`
//! - `<root>/api/0/projects/<organization>/<project>/events/<event_id>/`

use url::Url;

use crate::alert::{IssueLink, SentryId};

/// The parameter that the `WebHooks` plugin adds to the link, so that Sentry can count where visitors come from.
const WEBHOOKS_REFERRER: &str = "referrer=webhooks_plugin";

/// The parameter that Sentry's PagerDuty plugin added in the same place.
const PAGERDUTY_REFERRER: &str = "referrer=pagerduty_plugin";

/// Returns the link `url`, with the referrer of Sentry's PagerDuty plugin in place of the `WebHooks` plugin's, so that
/// the incidents of both have the same link; nothing else in it is changed. `None` for anything but an absolute `http` or
/// `https` address.
pub(super) fn issue_link(url: &str) -> Option<IssueLink> {
    let (href, parsed) = web_address(url)?;
    Some(IssueLink { href: with_our_referrer(&href), root: root_of(&parsed) })
}

/// Returns the id after `/issues/` in an issue's address, which need not be absolute.
pub(super) fn issue_id(url: &str) -> Option<SentryId> {
    let path = url.split(['?', '#']).next()?;
    let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let id = segments.get(issues_at(&segments)? + 1)?;
    SentryId::new(id).filter(|_| id.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// The parts of an address of Sentry's API that are needed to find a page.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct ApiAddress {
    /// The Sentry's root, without a trailing slash.
    pub(super) root: String,
    /// The slug of the organization.
    pub(super) organization: Option<String>,
    /// The slug of the project.
    pub(super) project: Option<String>,
    /// The issue.
    pub(super) issue: Option<SentryId>,
}

impl ApiAddress {
    /// Parses an address of version 0 of the API, which is the only one; `None` for any other address.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let (_, parsed) = web_address(url)?;
        let segments = segments(&parsed);
        let api = segments.windows(2).position(|pair| pair == ["api", "0"])?;
        let mut address = Self { root: joined(&parsed, &segments[..api]), issue: issue_id(url), ..Self::default() };
        match &segments[api + 2..] {
            ["organizations", organization, ..] => address.organization = Some((*organization).to_owned()),
            ["projects", organization, project, ..] => {
                address.organization = Some((*organization).to_owned());
                address.project = Some((*project).to_owned());
            }
            _ => {}
        }
        Some(address)
    }

    /// The page of `issue`; `None` when the organization is unknown, because the address needs it.
    pub(super) fn page_of(&self, issue: &SentryId) -> Option<IssueLink> {
        let organization = self.organization.as_ref()?;
        let href = format!("{}/organizations/{organization}/issues/{}/", self.root, issue.as_str());
        issue_link(&href)
    }
}

/// Returns the address as written, or as a browser would correct it if it contains whitespace or control characters.
fn web_address(text: &str) -> Option<(String, Url)> {
    let text = text.trim();
    let parsed = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())?;
    let is_written_well = (text.starts_with("http://") || text.starts_with("https://"))
        && !text.contains(|character: char| character.is_whitespace() || character.is_control());
    let href = if is_written_well { text.to_owned() } else { parsed.to_string() };
    Some((href, parsed))
}

fn with_our_referrer(href: &str) -> String {
    let (before, fragment) = href.split_at(href.find('#').unwrap_or(href.len()));
    let Some((address, query)) = before.split_once('?') else {
        return href.to_owned();
    };
    let query: Vec<&str> = query
        .split('&')
        .map(|parameter| if parameter == WEBHOOKS_REFERRER { PAGERDUTY_REFERRER } else { parameter })
        .collect();
    format!("{address}?{}{fragment}", query.join("&"))
}

/// Everything before the organization, without a trailing slash; the origin when the address has no organization.
fn root_of(url: &Url) -> String {
    let segments = segments(url);
    let folders = match issues_at(&segments) {
        // The organization is in the two segments before `issues`, or in the host, where there are none.
        Some(issues) => issues.saturating_sub(2),
        None => segments.iter().position(|segment| *segment == "organizations").unwrap_or(0),
    };
    joined(url, &segments[..folders])
}

fn joined(url: &Url, folders: &[&str]) -> String {
    let origin = url.origin().ascii_serialization();
    [origin.as_str()].iter().chain(folders).copied().collect::<Vec<_>>().join("/")
}

fn segments(url: &Url) -> Vec<&str> {
    url.path_segments().into_iter().flatten().filter(|segment| !segment.is_empty()).collect()
}

/// The index of the `issues` that is followed by an id: the last one, because a project may be called `issues` too.
fn issues_at(segments: &[&str]) -> Option<usize> {
    segments.windows(2).rposition(|pair| pair[0] == "issues")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_issue(url: &str, id: &str, root: &str) {
        assert_eq!(issue_id(url).as_ref().map(SentryId::as_str), Some(id));
        assert_eq!(issue_link(url).unwrap().root, root);
    }

    #[test]
    fn each_form_of_an_issues_address_tells_the_issue_and_the_root() {
        assert_issue("https://sentry.io/acme/shop/issues/253873647/", "253873647", "https://sentry.io");
        assert_issue(
            "https://sentry.io/organizations/acme/issues/5/?referrer=webhooks_plugin",
            "5",
            "https://sentry.io",
        );
        assert_issue("https://acme.sentry.io/issues/5/?referrer=webhooks_plugin", "5", "https://acme.sentry.io");
        assert_issue("http://sentry.example.test:9000/sentry/misc/issues/5/", "5", "http://sentry.example.test:9000");
        assert_issue("http://[::1]:9000/organizations/acme/issues/5/events/0a/", "5", "http://[::1]:9000");
    }

    #[test]
    fn a_sentry_in_a_folder_keeps_its_folder() {
        let root = "https://host.example.test/sentry-ui";
        assert_issue("https://host.example.test/sentry-ui/organizations/acme/issues/5/", "5", root);
        assert_issue("https://host.example.test/sentry-ui/acme/shop/issues/5", "5", root);
        assert_issue("https://host.example.test/a/b/acme/shop/issues/5/", "5", "https://host.example.test/a/b");
    }

    #[test]
    fn a_metric_alerts_page_tells_the_root_too() {
        let root = |url| issue_link(url).unwrap().root;
        assert_eq!(root("https://sentry.io/organizations/acme/alerts/rules/details/7/"), "https://sentry.io");
        assert_eq!(root("https://acme.sentry.io/alerts/rules/details/7/"), "https://acme.sentry.io");
        assert_eq!(root("http://h.test:9000/sentry-ui/organizations/o/alerts/1/"), "http://h.test:9000/sentry-ui");
    }

    #[test]
    fn an_address_of_the_api_tells_where_the_page_is() {
        let page = |url: &str| {
            let address = ApiAddress::parse(url).unwrap();
            address.page_of(&SentryId::new("5").unwrap()).map(|link| (link.href, link.root))
        };
        let expected = |href: &str, root: &str| Some((href.to_owned(), root.to_owned()));
        assert_eq!(
            page("https://sentry.io/api/0/organizations/acme/issues/5/"),
            expected("https://sentry.io/organizations/acme/issues/5/", "https://sentry.io")
        );
        assert_eq!(
            page("https://h.test/ui/api/0/projects/acme/shop/events/0a/"),
            expected("https://h.test/ui/organizations/acme/issues/5/", "https://h.test/ui")
        );
        assert_eq!(page("https://sentry.io/api/0/issues/5/"), None, "the organization is unknown");
        let address = ApiAddress::parse("https://sentry.io/api/0/projects/acme/shop/events/0a/").unwrap();
        assert_eq!((address.project.as_deref(), address.issue), (Some("shop"), None));
        assert_eq!(ApiAddress::parse("https://sentry.io/api/0/issues/5/").unwrap().issue, SentryId::new("5"));
        assert_eq!(ApiAddress::parse("https://sentry.io/organizations/acme/issues/5/"), None);
    }

    #[test]
    fn projects_called_issues_do_not_confuse_it() {
        assert_issue("https://sentry.io/issues/issues/issues/5/", "5", "https://sentry.io");
        assert_issue("https://sentry.io/organizations/issues/issues/5/", "5", "https://sentry.io");
    }

    #[test]
    fn only_the_referrer_of_the_webhooks_plugin_is_changed() {
        let href = |url| issue_link(url).unwrap().href;
        assert_eq!(
            href("http://s.example.test/organizations/o/issues/118/?project=2&referrer=webhooks_plugin#x"),
            "http://s.example.test/organizations/o/issues/118/?project=2&referrer=pagerduty_plugin#x"
        );
        for same in [
            "https://s.example.test/o/p/issues/1/",
            "https://s.example.test/o/p/issues/1/?referrer=slack",
            "https://s.example.test/o/p/issues/1/?referrer=webhooks_plugins&xreferrer=webhooks_plugin",
            "https://s.example.test/o/p/issues/1/#?referrer=webhooks_plugin",
            "https://s.example.test/referrer=webhooks_plugin/ünï?q=%zz",
        ] {
            assert_eq!(href(same), same);
        }
    }

    #[test]
    fn only_absolute_web_addresses_are_links() {
        for no_link in
            ["", "/o/p/issues/1/", "issues/1", "ftp://s.example.test/", "javascript:alert(1)", "http://", "mailto:a@b"]
        {
            assert_eq!(issue_link(no_link), None, "{no_link}");
        }
        assert_eq!(issue_link("HTTPS://s.example.test/a b").unwrap().href, "https://s.example.test/a%20b");
        assert_eq!(issue_link("https://s.example.test/a b\nc").unwrap().href, "https://s.example.test/a%20bc");
        assert_eq!(issue_link("https://s.example.test/start").unwrap().root, "https://s.example.test");
    }

    #[test]
    fn an_id_is_found_without_a_host_too_but_only_where_one_stands() {
        assert_eq!(issue_id("/organizations/o/issues/5/?a=/issues/6/"), SentryId::new("5"));
        for no_issue in
            ["", "https://s.example.test/o/p/issues/", "https://s.example.test/issues/?query=a", "/o/p/issues/%20/"]
        {
            assert_eq!(issue_id(no_issue), None, "{no_issue}");
        }
    }
}
