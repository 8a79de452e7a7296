//! The members of an event, under the names they have had since Sentry 8.0, and the webhooks `event_alert` and `error`,
//! which carry an event with its issue.
//!
//! Up to 9.0 Sentry wrote interfaces under their full names (`sentry.interfaces.Exception`), later under short ones
//! (`exception`).

use chrono::{DateTime, Utc};

use super::lenient::{members, non_blank};
use super::link::{self, ApiAddress};
use super::stack::{Frames, Stacktrace};
use super::tags::{ActionSettings, Tags};
use super::title::{Contexts, Metadata, Occurrence, PolicyReport, titled};
use crate::alert::{
    Alert, Exception, IncidentAction, IssueLink, Project, SentryId, StackFrame, Subject, TriggerKind, User,
};

/// How many exceptions of a chain are kept. No runtime chains a tenth of that.
const MAX_EXCEPTIONS: usize = 200;

/// An event as a body has it; `None` where there is no usable value.
#[derive(Debug, Default)]
pub(super) struct SentryEvent {
    /// 32 hexadecimal digits.
    pub(super) id: Option<String>,
    /// Sentry's title; not before 9.1.
    pub(super) title: Option<String>,
    /// The log message, often `""`.
    pub(super) message: Option<String>,
    /// What Sentry made the title from; up to 9.0 the only source of a title.
    pub(super) metadata: Option<Metadata>,
    /// Where it happened.
    pub(super) culprit: Option<String>,
    /// The level's name.
    pub(super) level: Option<String>,
    /// The logger's name.
    pub(super) logger: Option<String>,
    /// The SDK's platform.
    pub(super) platform: Option<String>,
    /// The release that was running.
    pub(super) release: Option<String>,
    /// The environment.
    pub(super) environment: Option<String>,
    /// The host's name; in most versions only a tag.
    pub(super) server_name: Option<String>,
    /// The route or task.
    pub(super) transaction: Option<String>,
    /// When it happened; not before 9.1.
    pub(super) timestamp: Option<DateTime<Utc>>,
    /// The same, only in bodies of the integration platform.
    pub(super) datetime: Option<DateTime<Utc>>,
    /// When Sentry received it.
    pub(super) received: Option<DateTime<Utc>>,
    /// The tags, names as stored.
    pub(super) tags: Option<Tags>,
    /// The user that it happened to.
    pub(super) user: Option<User>,
    /// The log message.
    pub(super) logentry: Option<Interface>,
    /// The exceptions; the one raised last is last.
    pub(super) exception: Option<Vec<Raised>>,
    /// The stack of an event without an exception.
    pub(super) stacktrace: Option<Stacktrace>,
    /// The contexts, of which only a cron monitor is read.
    pub(super) contexts: Option<Contexts>,
    /// A browser's report that it did not load something.
    pub(super) csp: Option<PolicyReport>,
    /// The message, the exceptions and the stack as Sentry's API shows them; only in bodies of a service hook.
    pub(super) entries: Option<Vec<Entry>>,
    /// What created an issue that is not an error. This and all members below are only in bodies of the integration
    /// platform, unless noted.
    pub(super) occurrence: Option<Occurrence>,
    /// The issue's id; absent up to Sentry 20, and `groupID` in bodies of a service hook.
    pub(super) issue_id: Option<SentryId>,
    /// The issue in Sentry's API.
    pub(super) issue_url: Option<String>,
    /// The event's page.
    pub(super) web_url: Option<String>,
    /// The event in Sentry's API.
    pub(super) url: Option<String>,
}

members!(SentryEvent {
    "event_id" | "eventID" => id,
    "title" => title,
    "message" => message,
    "metadata" => metadata,
    "culprit" => culprit,
    "level" => level,
    "logger" => logger,
    "platform" => platform,
    "release" => release,
    "environment" => environment,
    "server_name" => server_name,
    "transaction" => transaction,
    "timestamp" => timestamp,
    "datetime" | "dateCreated" => datetime,
    "received" | "dateReceived" => received,
    "tags" => tags,
    "user" | "sentry.interfaces.User" => user,
    "logentry" | "sentry.interfaces.Message" => logentry,
    "exception" | "sentry.interfaces.Exception" => exception,
    "stacktrace" | "sentry.interfaces.Stacktrace" => stacktrace,
    "contexts" | "sentry.interfaces.Contexts" => contexts,
    "csp" | "sentry.interfaces.Csp" => csp,
    "entries" => entries,
    "occurrence" => occurrence,
    "issue_id" | "groupID" => issue_id,
    "issue_url" => issue_url,
    "web_url" => web_url,
    "url" => url,
});

members!(User { "id" => id, "username" => username, "email" => email, "ip_address" => ip_address });

/// A member of an event that Sentry calls an interface, as far as it is read: a log message, with and without its parameters
/// filled in; exceptions, in `values`; a stack, in `frames`. The name of the member or the type of the entry says which it is.
#[derive(Debug, Default)]
pub(super) struct Interface {
    formatted: Option<String>,
    message: Option<String>,
    values: Option<Vec<Raised>>,
    frames: Option<Frames>,
}

members!(Interface { "formatted" => formatted, "message" => message, "values" => values, "frames" => frames });

/// One exception of a chain.
#[derive(Debug, Default)]
pub(super) struct Raised {
    kind: Option<String>,
    value: Option<String>,
    stacktrace: Option<Stacktrace>,
}

members!(Raised { "type" => kind, "value" => value, "stacktrace" => stacktrace }, at most MAX_EXCEPTIONS);

/// One interface of an event as Sentry's API shows it. Only message, exceptions and stack are read.
#[derive(Debug, Default)]
pub(super) struct Entry {
    kind: Option<String>,
    data: Option<Interface>,
}

members!(Entry { "type" => kind, "data" => data });

impl SentryEvent {
    /// Makes the alert from the event alone: without project, link and rules, which are not in the event.
    ///
    /// `fallback_time` is used when the event has no time.
    pub(super) fn into_alert(
        mut self,
        subject: Subject,
        action: IncidentAction,
        fallback_time: DateTime<Utc>,
    ) -> Alert {
        let (exceptions, frames) = self.take_exceptions();
        let occurrence = self.occurrence.take().unwrap_or_default();
        let message = non_blank(self.message.clone()).or_else(|| self.take_message());
        let title = self.take_title().or_else(|| occurrence.title());
        // An exception makes a better description than the context or a report.
        let title = title.or_else(|| if exceptions.is_empty() { self.take_substitute_title() } else { None });
        let level = self.level.take();
        let logger = self.logger.take();
        let release = self.release.take();
        let environment = self.environment.take();
        let server_name = self.server_name.take();
        let transaction = self.transaction.take();
        let occurred_at = self.timestamp.or(self.datetime).or(self.received).unwrap_or(fallback_time);
        Alert {
            message: message.or_else(|| self.message.take()),
            title,
            culprit: self.culprit.take(),
            level: self.or_tag(level, "level").or_else(|| occurrence.level()),
            event_id: non_blank(self.id.take()),
            received_by_sentry_at: self.received,
            // The integration platform strips the prefix `sentry:`.
            release: self.or_tag(release, "sentry:release").or_else(|| self.or_tag(None, "release")),
            platform: non_blank(self.platform.take()),
            environment: self.or_tag(environment, "environment"),
            logger: self.or_tag(logger, "logger"),
            server_name: self.or_tag(server_name, "server_name"),
            transaction: self.or_tag(transaction, "transaction"),
            user: self.take_user(),
            exceptions,
            frames,
            tags: self.tags.take().map_or_else(Vec::new, |tags| tags.0),
            facts: occurrence.facts(),
            evidence: occurrence.into_evidence(),
            ..Alert::new(subject, action, occurred_at)
        }
    }

    /// Moves message, exceptions and stack from the entries of Sentry's API to where other bodies have them.
    pub(super) fn unpack_entries(&mut self) {
        let entries = self.entries.take().unwrap_or_default();
        for entry in entries {
            let data = entry.data.unwrap_or_default();
            match entry.kind.as_deref() {
                Some("message") => self.logentry = Some(data),
                Some("exception") => self.exception = data.values,
                Some("stacktrace") => self.stacktrace = Some(Stacktrace::new(data.frames)),
                _ => {}
            }
        }
        // Without a log message, Sentry's API returns its search text as the message.
        if self.title.is_some() || self.logentry.is_some() {
            self.message = None;
        }
    }

    /// Returns the member, or the tag if the member is missing or blank.
    fn or_tag(&self, member: Option<String>, tag: &str) -> Option<String> {
        non_blank(member).or_else(|| self.tags.as_ref()?.get(tag).map(str::to_owned))
    }

    /// Takes the title, made from the metadata where it is missing.
    fn take_title(&mut self) -> Option<String> {
        titled(self.title.take()).or_else(|| self.metadata.take()?.into_title())
    }

    /// Takes a title for an event that has neither title nor exception.
    fn take_substitute_title(&mut self) -> Option<String> {
        let monitor = self.contexts.take().and_then(Contexts::into_title);
        monitor.or_else(|| self.csp.take()?.into_title())
    }

    /// Takes the log message.
    fn take_message(&mut self) -> Option<String> {
        let entry = self.logentry.take()?;
        non_blank(entry.formatted).or_else(|| non_blank(entry.message))
    }

    /// Takes the exceptions, and the stack of the last exception that has one, innermost frame first.
    fn take_exceptions(&mut self) -> (Vec<Exception>, Vec<StackFrame>) {
        let mut stack = self.stacktrace.take().and_then(Stacktrace::into_frames);
        let mut exceptions = Vec::new();
        for raised in self.exception.take().unwrap_or_default() {
            stack = raised.stacktrace.and_then(Stacktrace::into_frames).or(stack);
            let exception = Exception { kind: non_blank(raised.kind), value: non_blank(raised.value) };
            if exception != Exception::default() {
                exceptions.push(exception);
            }
        }
        (exceptions, stack.unwrap_or_default())
    }

    /// Takes the user, if the body says anything about them.
    fn take_user(&mut self) -> Option<User> {
        let user = self.user.take()?;
        let user = User {
            id: non_blank(user.id),
            username: non_blank(user.username),
            email: non_blank(user.email),
            ip_address: non_blank(user.ip_address),
        };
        (user != User::default()).then_some(user)
    }
}

/// `event_alert`: an alert rule fired for an issue.
#[derive(Debug, Default)]
pub(super) struct EventAlert {
    event: Option<SentryEvent>,
    triggered_rule: Option<String>,
    issue_alert: Option<ActionSettings>,
}

members!(EventAlert { "event" => event, "triggered_rule" => triggered_rule, "issue_alert" => issue_alert });

impl EventAlert {
    pub(super) fn is_present(&self) -> bool {
        self.event.is_some()
    }

    /// The alert; `None` when the event does not name its issue.
    pub(super) fn into_alert(self, sent_at: DateTime<Utc>) -> Option<Alert> {
        // A test notification has no rule.
        let action = self.issue_alert.unwrap_or_default();
        let rule = non_blank(self.triggered_rule).or_else(|| non_blank(action.title));
        let action_settings = action.settings.map_or_else(Vec::new, |Tags(settings)| settings);
        let alert = alert_with_issue(self.event?, TriggerKind::Alert, sent_at)?;
        Some(Alert { rules: rule.into_iter().collect(), action_settings, ..alert })
    }
}

/// The alert of an event that names its issue; `None` when it does not.
pub(super) fn alert_with_issue(
    mut event: SentryEvent,
    trigger_kind: TriggerKind,
    sent_at: DateTime<Utc>,
) -> Option<Alert> {
    let [page, issue_url, event_url] = [event.web_url.take(), event.issue_url.take(), event.url.take()].map(non_blank);
    let named = event.issue_id.take();
    let issue = named.or_else(|| [&issue_url, &page].into_iter().flatten().find_map(|url| link::issue_id(url)))?;
    let mut event_address = event_url.as_deref().and_then(ApiAddress::parse).unwrap_or_default();
    let project = event_address.project.take();
    let page_by_api = || -> Option<IssueLink> {
        // Older addresses of an issue do not name the organization.
        let by_issue = issue_url.as_deref().and_then(ApiAddress::parse).and_then(|address| address.page_of(&issue));
        by_issue.or_else(|| event_address.page_of(&issue))
    };
    let link = page.as_deref().and_then(link::issue_link).or_else(page_by_api);
    Some(Alert {
        project: Project { slug: project, ..Project::default() },
        link,
        ..event.into_alert(Subject::Issue(issue), IncidentAction::Trigger(trigger_kind), sent_at)
    })
}
