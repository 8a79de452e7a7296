//! Replaces secrets while the bridge runs: files of secrets are read again on SIGHUP and when they change, and webhooks
//! that were held for a new secret are admitted.
//!
//! Held webhooks are admitted before a new secret is used, so that they come before the webhooks that Sentry sends from
//! then on. An invalid value changes nothing: the bridge keeps using the old one, and reports it.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Weak;
use std::time::{Duration, Instant};

use actix_web::rt::task::spawn_blocking;
use actix_web::web::Data;
use chrono::Utc;
use log::{Level, error, info, warn};
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::config::{Config, ConfigError, Digests, SecretFiles, SigningSecret, needs_restart};
use crate::logging::log_throttled;
use crate::metrics::HeldOutcome;
use crate::queue::HeldId;
use crate::web::AppState;
use crate::web::auth::webhook::WebhookSecrets;

/// How often the files are checked. A change is used only once it was seen twice, so that no half-written file is used.
const CHECK_FILES: Duration = Duration::from_secs(2);

/// How often held webhooks are searched for those that have been held for too long.
const CHECK_EXPIRED: Duration = Duration::from_mins(1);

/// How often the queue is checked for webhooks that other bridges hold.
const CHECK_OTHERS: Duration = Duration::from_secs(10);

/// How many times, at most, webhooks that came meanwhile are admitted before a new secret is used.
const PASSES: u32 = 10;

/// A callback that takes over a new configuration.
type Follower = Box<dyn Fn(&Config)>;

/// The configuration of a running bridge, whose secrets may be replaced, and the callbacks that follow it.
pub(crate) struct LiveConfig {
    config: Config,
    followers: Vec<Follower>,
}

impl LiveConfig {
    pub(crate) fn new(config: Config) -> Self {
        Self { config, followers: Vec::new() }
    }

    /// Calls `take_over` with the configuration after each change.
    pub(crate) fn on_change(&mut self, take_over: impl Fn(&Config) + 'static) {
        self.followers.push(Box::new(take_over));
    }

    /// Returns the value that `of` derives from the configuration, now and after each change.
    pub(crate) fn follow<T: 'static>(&mut self, of: impl Fn(&Config) -> T + 'static) -> watch::Receiver<T> {
        let (sender, receiver) = watch::channel(of(&self.config));
        self.on_change(move |config| drop(sender.send_replace(of(config))));
        receiver
    }

    /// The same for a value that is not always set. A value that is set stays set: an empty file is an error.
    pub(crate) fn follow_set<T: 'static>(
        &mut self,
        of: impl Fn(&Config) -> Option<T> + 'static,
    ) -> Option<watch::Receiver<T>> {
        let (sender, receiver) = watch::channel(of(&self.config)?);
        self.on_change(move |config| {
            if let Some(value) = of(config) {
                sender.send_replace(value);
            }
        });
        Some(receiver)
    }

    fn replace(&mut self, config: Config) {
        self.config = config;
        self.followers.iter().for_each(|follower| follower(&self.config));
    }
}

/// The task that keeps the secrets of a running bridge up to date.
pub(crate) struct Reload {
    shared: Data<AppState>,
    live: LiveConfig,
    cluster: Cluster,
    files: SecretFiles,
    hangups: Option<Signal>,
    /// What the files held when the secrets in use were read.
    applied: Digests,
    /// Other contents that were seen once.
    seen: Option<Digests>,
    /// Other contents that are invalid.
    invalid: Option<Digests>,
    /// Whether held webhooks have to be checked and admitted once more.
    admits: bool,
    /// Earlier secrets, each with webhooks that it did not verify and that are about to be held.
    replaced: Vec<Weak<WebhookSecrets>>,
    /// The newest held webhook at the last check of what other bridges hold.
    newest_held: Option<HeldId>,
}

impl Reload {
    /// Keeps the secrets of `shared` up to date, which are those of `live`. Without [`Reload::with_files`] none of them
    /// changes.
    pub(crate) fn new(shared: Data<AppState>, live: LiveConfig, cluster: Cluster) -> Self {
        let (files, hangups) = (SecretFiles::default(), None);
        let (applied, seen, invalid) = (Digests::new(), None, None);
        let (admits, replaced, newest_held) = (false, Vec::new(), None);
        Self { shared, live, cluster, files, hangups, applied, seen, invalid, admits, replaced, newest_held }
    }

    /// Reads these files again when they change, and at once on a signal of `hangups`.
    pub(crate) fn with_files(self, files: SecretFiles, hangups: Signal) -> Self {
        Self { applied: files.digests().clone(), files, hangups: Some(hangups), ..self }
    }

    /// Deletes webhooks that were held for too long while no bridge ran, and admits those that the initial secrets verify.
    pub(crate) async fn begin(&mut self) {
        self.expire().await;
        self.admit_once_more().await;
    }

    async fn admit_once_more(&mut self) {
        // One more pass follows a pass that failed or admitted something, and whatever is held after this one began.
        self.replaced.retain(|secrets| secrets.strong_count() > 0);
        let verified = self.admit(&self.live.config.sentry_client_secret).await;
        self.admits = verified != Some(0) || !self.replaced.is_empty();
    }

    pub(crate) async fn run(mut self) -> Infallible {
        let (mut expired, mut checked) = (Instant::now(), Instant::now());
        loop {
            let is_asked = tokio::select! {
                () = hangup(&mut self.hangups) => true,
                () = sleep(CHECK_FILES) => false,
            };
            self.check_files(is_asked).await;
            if self.admits {
                self.admit_once_more().await;
            }
            if expired.elapsed() >= CHECK_EXPIRED {
                self.expire().await;
                expired = Instant::now();
            }
            if checked.elapsed() >= CHECK_OTHERS {
                self.check_others().await;
                checked = Instant::now();
            }
        }
    }

    async fn check_files(&mut self, is_asked: bool) {
        if self.files.is_empty() {
            if is_asked {
                info!("SIGHUP: no secret is set by a file (`BRIDGE_..._FILE`), so there is nothing to read again");
            }
            return;
        }
        let files = self.files.clone();
        // The disk, or what is mounted in its place, may be slow.
        let Ok(contents) = spawn_blocking(move || files.read()).await else { return };
        let found = contents.digests();
        if found == self.applied {
            if is_asked {
                info!("SIGHUP: the files of secrets have the same contents as before, so nothing changed");
            }
            if self.invalid.take().is_some() {
                self.shared.metrics.set_unusable_secrets(None);
                info!("the files of secrets have the secrets in use again");
            }
            self.seen = None;
            return;
        }
        if !is_asked && self.seen.as_ref() != Some(&found) {
            self.seen = Some(found);
            return;
        }
        match contents.parse(&self.live.config) {
            Ok(config) => self.apply(config, found).await,
            Err(problems) => self.report_invalid(&problems, found, is_asked),
        }
    }

    fn report_invalid(&mut self, problems: &ConfigError, found: Digests, is_asked: bool) {
        if self.invalid.as_ref() != Some(&found) || is_asked {
            let problems = problems.to_string().replace('\n', "; ");
            self.shared.metrics.set_unusable_secrets(Some(problems.clone()));
            error!("a secret was read again and cannot be used, so the old one stays in use: {problems}");
        }
        self.invalid = Some(found);
    }

    async fn apply(&mut self, config: Config, found: Digests) {
        let changed = found.iter().filter(|(name, digest)| self.applied.get(*name) != Some(digest));
        let (later, changed): (Vec<_>, Vec<_>) = changed.map(|(name, _)| *name).partition(|name| needs_restart(name));
        if !later.is_empty() {
            warn!("{} changed: restart the bridge to use it", later.join(", "));
        }
        // Webhooks that were held go where alerts go from now on: the keys may have been rotated together with the secret.
        self.shared.ingest.replace_routes(config.routes());
        // Webhooks that were sent with the new secret so far come before those that are sent from now on.
        for _ in 0..PASSES {
            if matches!(self.admit(&config.sentry_client_secret).await, None | Some(0)) {
                break;
            }
        }
        let state = &self.shared;
        let replaced = state.authentication.replace(config.webhook_token.clone(), config.sentry_client_secret.clone());
        self.replaced.push(replaced);
        if changed.contains(&"BRIDGE_ADMIN_TOKEN") {
            state.admin.replace(config.admin_token.clone(), rand::random());
        }
        let fingerprint = config.fingerprint().to_string();
        self.live.replace(config);
        self.cluster.set_fingerprint(fingerprint.clone());
        state.config_fingerprint.send_replace(Some(fingerprint.clone()));
        state.metrics.set_unusable_secrets(None);
        if !changed.is_empty() {
            let changed = changed.join(", ");
            info!(config:% = fingerprint; "{changed} changed and is in use from now on, config {fingerprint}");
        }
        (self.applied, self.seen, self.invalid) = (found, None, None);
        // A webhook that the old secrets did not verify may still be about to be held.
        self.admits = true;
    }

    /// Admits the held webhooks that `secrets` verify. Returns how many they verified; `None` if not all of them could be
    /// committed.
    async fn admit(&self, secrets: &[SigningSecret]) -> Option<u64> {
        let state = &self.shared;
        match state.queue_admin.admit_held(secrets, Utc::now()).await {
            Ok(admitted) if admitted.verified() == 0 => Some(0),
            Ok(admitted) => {
                state.metrics.count_held(HeldOutcome::Admitted, admitted.verified());
                state.metrics.record_verification(Utc::now());
                info!(
                    "{} held webhooks are verified by a secret and admitted: {} queued, {} ignored, {} rejected; {} are still held",
                    admitted.verified(),
                    admitted.queued,
                    admitted.ignored,
                    admitted.rejected,
                    admitted.held
                );
                Some(admitted.verified())
            }
            Err(error) => {
                log_throttled!(
                    Level::Warn, "held webhooks were not admitted";
                    "held webhooks cannot be admitted, and are held for now: {error}"
                );
                None
            }
        }
    }

    /// Schedules an admission if another bridge held a webhook since the last call: that bridge may have stopped before it
    /// learned the secret that this one has.
    async fn check_others(&mut self) {
        if self.cluster.is_alone() {
            return;
        }
        // If the queue cannot be read, the next call does it.
        let Ok(held) = self.shared.queue.recount_held().await else { return };
        let newest = held.last().map(|held| held.id);
        self.admits |= newest > self.newest_held;
        self.newest_held = newest.max(self.newest_held);
    }

    async fn expire(&self) {
        match self.shared.queue_admin.expire_held(Utc::now()).await {
            Ok(0) => {}
            Ok(expired) => {
                self.shared.metrics.count_held(HeldOutcome::Expired, expired);
                warn!("{expired} held webhooks were deleted: no secret verified them for 24 hours");
            }
            Err(error) => warn!("expired held webhooks could not be deleted: {error}"),
        }
    }
}

async fn hangup(hangups: &mut Option<Signal>) {
    let came = match hangups {
        Some(hangups) => hangups.recv().await,
        None => None,
    };
    if came.is_none() {
        pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use hmac::{Hmac, KeyInit, Mac};
    use sha2::Sha256;

    use super::*;
    use crate::delivery::DeliveryView;
    use crate::ingest::Ingest;
    use crate::metrics::Metrics;
    use crate::monitor::{Monitor, TroubleLimits};
    use crate::queue::{HeldSender, HeldWebhook, Queue, State};
    use crate::web::auth::webhook::Authentication;

    const OLD: &str = "the-client-secret-of-the-beginning";
    const NEW: &str = "the-client-secret-after-the-rotation";

    fn config(secret: &str) -> Config {
        let settings = [
            ("BRIDGE_PAGERDUTY_SERVICE_KEY", "00000000000000000000000000000001"),
            ("BRIDGE_SENTRY_CLIENT_SECRET", secret),
        ];
        Config::from_vars(settings).unwrap()
    }

    fn state(config: Config, queue: &Queue) -> Data<AppState> {
        let (ingest, limits, metrics) = (Ingest::from(&config), TroubleLimits::from(&config), Metrics::new());
        let (_, delivery) = watch::channel(DeliveryView::default());
        let monitor = Monitor::new(Utc::now(), queue.clone(), delivery, metrics.clone(), limits, "");
        let authentication = Authentication::new(config.webhook_token, config.sentry_client_secret);
        Data::new(AppState::new(authentication, ingest, queue.clone(), config.max_body, metrics, monitor))
    }

    #[actix_web::test]
    async fn a_webhook_that_is_held_only_after_its_secret_came_into_use_is_admitted() {
        let home = tempfile::tempdir().unwrap();
        let queue = Queue::open(&home.path().join("bridge.db")).await.unwrap();
        let state = state(config(OLD), &queue);
        let mut reload = Reload::new(state.clone(), LiveConfig::new(config(OLD)), Cluster::alone());
        let body = br#"{"action":"triggered","data":{"event":{"event_id":"1f","issue_id":"1","title":"it"}}}"#;
        let signature = Hmac::<Sha256>::new_from_slice(NEW.as_bytes()).unwrap().chain_update(body).finalize();
        let held = HeldWebhook {
            received_at: Utc::now(),
            sender: HeldSender::Network(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            signature: signature.into_bytes().into(),
            resource: Some("event_alert".to_owned()),
            idempotency_key: None,
            sent_at: None,
            body: body.to_vec(),
        };

        let did_not_verify_it = state.authentication.secrets();
        reload.apply(config(NEW), Digests::new()).await;
        reload.admit_once_more().await;
        assert!(reload.admits, "a webhook is about to be held");
        assert!(queue.hold(held).await.unwrap());
        drop(did_not_verify_it);
        reload.admit_once_more().await;
        assert_eq!(queue.recount_held().await.unwrap(), []);
        assert_eq!(queue.reader().list(State::Waiting, None, 9).await.unwrap().len(), 1);
        reload.admit_once_more().await;
        assert!(!reload.admits, "none is about to be held any more");
    }
}
