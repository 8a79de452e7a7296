//! The findings of an audit, and their remedies.

use serde::Serialize;
use strum::{IntoStaticStr, VariantArray};

/// A reason why alerts would page nobody, or page less than expected.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Kind {
    /// A project with no alert that reaches the bridge.
    ProjectWithoutPage,
    /// A workflow that is connected to no detector.
    FiresForNothing,
    /// An alert, its action or its detectors are switched off.
    Disabled,
    /// An action of a kind that Sentry does not run any more.
    DeadAction,
    /// An alert that calls legacy webhooks, none of which is the bridge's.
    NothingBehindWebhook,
    /// The bridge's address with a token that the bridge would refuse.
    WrongToken,
    /// An integration that Sentry has disabled, or that is not installed, is not an alert action, or posts elsewhere.
    AppTrouble,
    /// An alert that is limited to an environment that no route names.
    OneEnvironment,
    /// Alerts open incidents, and nothing tells the bridge to resolve them.
    NeverResolves,
    /// An alert that is quiet about an issue for more than an hour after it fired for it.
    Quiet,
    /// A workflow that never fired although its project has new issues.
    NeverFired,
    /// A rule that was never migrated to a workflow.
    UnmigratedRule,
    /// An alert that paged when the audit was saved, but does not page now.
    LostSinceSaved,
    /// A project that was there when the audit was saved, but is not seen now.
    ProjectGone,
    /// Something the token may not see.
    NotSeen,
}

impl Kind {
    /// Its name, such as `project-without-page`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The remedy, in one or two sentences.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::ProjectWithoutPage => {
                "run `connect --project` with its slug, or give one of its alerts the bridge as an action"
            }
            Self::FiresForNothing => "connect it to monitors of the projects that are to page, or run `connect`",
            Self::Disabled => "switch it on again in Sentry",
            Self::DeadAction => {
                "replace the action by the bridge's integration; Sentry does not run plugins' actions for new alerts"
            }
            Self::NothingBehindWebhook => {
                "enable the project's WebHooks with the bridge's address, or run `connect --project`"
            }
            Self::WrongToken => "put a token of BRIDGE_WEBHOOK_TOKEN into the address",
            Self::AppTrouble => {
                "in Settings > Developer Settings enable the integration's Alert Rule Action, set its Webhook URL to the \
                 bridge's, and install it"
            }
            Self::OneEnvironment => "let it cover all environments, or add a route `environment,NAME,KEY`",
            Self::NeverResolves => {
                "subscribe the integration to `issue`, or add the trigger \"issue is resolved\" to the alert"
            }
            Self::Quiet => "set the interval of the alert to an hour or less",
            Self::NeverFired => {
                "check whether its triggers and filters can ever match; `connect` makes an alert whose can"
            }
            Self::UnmigratedRule => "open the rule in Sentry and save it, which migrates it, or run `connect`",
            Self::LostSinceSaved => {
                "switch it on, or create it again; after an upgrade to 26.7 or later open it in Sentry and save it"
            }
            Self::ProjectGone => {
                "look whether it was deleted or renamed, or whether the token's owner lost access to it"
            }
            Self::NotSeen => "give the token the scope, or its owner the access, and audit again",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// Its kind.
    pub kind: Kind,
    /// The project it is about, by slug.
    pub project: Option<String>,
    /// The alert or integration it is about, by name.
    pub alert: Option<String>,
    /// What is wrong, in one sentence.
    pub problem: String,
    /// The remedy.
    pub remedy: &'static str,
}

impl Finding {
    pub(super) fn new(kind: Kind, project: Option<&str>, alert: Option<&str>, problem: impl Into<String>) -> Self {
        Self {
            kind,
            project: project.map(str::to_owned),
            alert: alert.map(str::to_owned),
            problem: problem.into(),
            remedy: kind.remedy(),
        }
    }
}
