//! A TLS proxy in front of the sandbox, with valid or invalid certificates and protocol versions.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// How it answers new connections.
#[derive(Clone)]
pub(crate) enum TlsBehaviour {
    /// With this certificate.
    Certificate(Arc<ServerConfig>),
    /// It supports TLS 1.1 at most.
    OldTls,
    /// It does not speak TLS.
    Plain,
}

/// A server that terminates TLS and forwards connections; dropping it stops it.
pub(crate) struct TlsProxy {
    address: SocketAddr,
    behaviour: Arc<Mutex<TlsBehaviour>>,
    _end: oneshot::Sender<()>,
}

impl TlsProxy {
    /// Starts a proxy in front of `behind`.
    pub(crate) fn start(behind: SocketAddr, behaviour: TlsBehaviour) -> Self {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let behaviour = Arc::new(Mutex::new(behaviour));
        let (end, ended) = oneshot::channel();
        let current = Arc::clone(&behaviour);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let serve = serve(TcpListener::from_std(listener).unwrap(), current, behind);
                tokio::select! {
                    () = serve => {}
                    _ = ended => {}
                }
            });
        });
        Self { address, behaviour, _end: end }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Changes how it answers, from the next connection on.
    pub(crate) fn set_behaviour(&self, behaviour: TlsBehaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }
}

async fn serve(listener: TcpListener, current: Arc<Mutex<TlsBehaviour>>, behind: SocketAddr) {
    while let Ok((stream, _)) = listener.accept().await {
        let behaviour = current.lock().unwrap().clone();
        tokio::spawn(async move {
            // This fails only if the client closes the connection, which is what the tests provoke.
            let _ = pass_on(stream, behaviour, behind).await;
        });
    }
}

async fn pass_on(mut stream: TcpStream, behaviour: TlsBehaviour, behind: SocketAddr) -> std::io::Result<()> {
    match behaviour {
        TlsBehaviour::Certificate(config) => {
            let mut stream = TlsAcceptor::from(config).accept(stream).await?;
            let mut behind = TcpStream::connect(behind).await?;
            copy_bidirectional(&mut stream, &mut behind).await?;
        }
        TlsBehaviour::OldTls => {
            stream.read_exact(&mut [0; 5]).await?;
            stream.write_all(&server_hello_of_tls_1_1()).await?;
            stream.read_to_end(&mut Vec::new()).await?;
        }
        TlsBehaviour::Plain => {
            let mut behind = TcpStream::connect(behind).await?;
            copy_bidirectional(&mut stream, &mut behind).await?;
        }
    }
    Ok(())
}

/// The response of a server that supports nothing newer than TLS 1.1 (RFC 4346, 7.4.1.3).
fn server_hello_of_tls_1_1() -> Vec<u8> {
    let (version, random, no_session) = ([3, 2], [7; 32], [0]);
    let (cipher_suite, no_compression) = ([0, 0x2f], [0]);
    let hello = [&version[..], &random, &no_session, &cipher_suite, &no_compression].concat();
    let length = u8::try_from(hello.len()).unwrap();
    let (handshake, server_hello) = (22, 2);
    [&[handshake, 3, 2, 0, length + 4, server_hello, 0, 0, length], &hello[..]].concat()
}

/// A certificate authority that the bridge can be told to trust, and that issues certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    home: TempDir,
}

impl Authority {
    pub(crate) fn named(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem, home: tempfile::tempdir().unwrap() }
    }

    /// The file with its certificate and a comment, as such files have.
    pub(crate) fn file(&self) -> PathBuf {
        let path = self.home.path().join("authority.pem");
        let mut text = String::from("# The authority of the tests\n");
        writeln!(text, "{}", self.pem).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A certificate for `host` that is valid until the end of `year`.
    pub(crate) fn issue(&self, host: &str, year: i32) -> TlsBehaviour {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2015, 1, 1);
        params.not_after = date_time_ymd(year, 12, 31);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        TlsBehaviour::Certificate(Arc::new(config))
    }
}
