//! A server with TLS, and bridges that require it.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sentry_pagerduty_bridge::config::{DatabaseConfig, DatabaseUrl};
use sentry_pagerduty_bridge::queue::{Queue, QueueError};
use tempfile::TempDir;
use temporary_postgres::PostgresCluster;

use crate::several_bridges::trigger;

/// A certificate authority and its file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    home: TempDir,
}

impl Authority {
    fn new() -> Self {
        let (key, home) = (KeyPair::generate().unwrap(), tempfile::tempdir().unwrap());
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        std::fs::write(home.path().join("authority.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), home }
    }

    /// The parameters of a database URL that make the bridge trust it.
    fn parameter(&self) -> String {
        format!("sslrootcert={}", self.home.path().join("authority.pem").display())
    }

    /// A server with a certificate for this host.
    fn server(&self, host: &str) -> PostgresCluster {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        PostgresCluster::start_with_tls(&certificate.pem(), &key.serialize_pem()).unwrap()
    }
}

async fn open(cluster: &PostgresCluster, parameters: &str) -> Result<Queue, QueueError> {
    let url = format!("{}?{parameters}", cluster.url("postgres"));
    Queue::open(DatabaseConfig::from(DatabaseUrl::parse(&url).unwrap())).await
}

#[track_caller]
fn assert_refused(opened: Result<Queue, QueueError>, reason: &str) {
    let error = opened.expect_err("it was opened").to_string();
    assert!(error.contains(reason), "{error}");
    assert!(error.contains("sslmode and sslrootcert in BRIDGE_DATABASE_URL"), "{error}");
}

#[tokio::test]
async fn a_server_is_used_by_tls_where_its_certificate_is_that_of_the_address_and_of_a_known_authority() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let cluster = authority.server("127.0.0.1");
    for parameters in ["sslmode=require".to_owned(), format!("sslmode=verify-full&{}", authority.parameter())] {
        let queue = open(&cluster, &parameters).await.unwrap();
        queue.enqueue_event(trigger("1")).await.unwrap();
        let plain = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
            WHERE application_name = 'sentry-pagerduty-bridge' AND NOT ssl";
        assert_eq!(cluster.psql("postgres", plain).unwrap(), "0", "{parameters}");
        queue.close().await.unwrap();
    }
    for parameters in ["sslmode=verify-full".to_owned(), format!("sslmode=verify-full&{}", stranger.parameter())] {
        assert_refused(open(&cluster, &parameters).await, "invalid peer certificate");
    }
    let other_host = authority.server("db.example.com");
    let parameters = |mode: &str| format!("sslmode={mode}&{}", authority.parameter());
    assert_refused(open(&other_host, &parameters("verify-full")).await, "not valid for name");
    open(&other_host, &parameters("verify-ca")).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_the_address_insists_on_it() {
    assert_refused(open(PostgresCluster::shared(), "sslmode=require").await, "does not support TLS");
}
