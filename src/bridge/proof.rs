//! The task that looks up delivered events in PagerDuty.

use log::info;

use super::IsLeader;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::pagerduty::KeyNames;
use crate::pagerduty_api::Client;
use crate::proof::ProofTask;
use crate::queue::Queue;
use crate::reload::LiveConfig;
use crate::tls::TlsError;

/// Returns the names that the settings give to service keys; they follow changes of the settings.
pub(super) fn names(config: &Config, live: &mut LiveConfig) -> KeyNames {
    let of = |config: &Config| -> Vec<_> {
        config.pagerduty_names.iter().map(|name| (name.key.clone(), name.name.clone())).collect()
    };
    let names = KeyNames::new(of(config));
    let followed = names.clone();
    live.on_change(move |config| followed.set(of(config)));
    names
}

/// Returns the task, if PagerDuty's REST API is configured.
pub(super) fn task(
    config: &Config,
    live: &mut LiveConfig,
    queue: &Queue,
    metrics: &Metrics,
    names: &KeyNames,
    cluster: &Cluster,
) -> Result<Option<ProofTask<Client, IsLeader>>, TlsError> {
    let Some((root, token)) = config.pagerduty_api() else {
        info!("whether events open incidents in PagerDuty is not looked up: BRIDGE_PAGERDUTY_API_TOKEN is not set");
        return Ok(None);
    };
    let mut client = Client::new(&root, token.clone(), config.pagerduty_ca_file.as_deref())?;
    if let Some(tokens) = live.follow_set(|config| config.pagerduty_api_token.clone()) {
        client = client.with_tokens(tokens);
    }
    let cluster = cluster.clone();
    let leads: IsLeader = Box::new(move || cluster.is_leader());
    Ok(Some(ProofTask::new(client, queue.clone(), metrics.clone(), names.clone(), leads)))
}
