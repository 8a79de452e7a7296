//! Connections to PagerDuty, for `awc`: plain or by TLS, and without interim answers.
//!
//! `awc` puts TLS on top of what a connector of one's own brings. What has to be taken out of the stream lies behind TLS, so
//! the TLS is made here, and `awc` is told an address with `http`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_tls::connect::{ConnectError, ConnectInfo, Connection, ConnectorService};
use actix_web::dev::Service;
use actix_web::rt::net::{ActixStream, Ready, TcpStream};
use awc::http::Uri;
use futures_util::future::LocalBoxFuture;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::interim::SkipInterim;

/// Opens connections.
#[derive(Clone)]
pub(super) struct Connect {
    tcp: ConnectorService,
    /// `None`: they stay plain.
    tls: Option<TlsConnector>,
}

impl Connect {
    /// Opens connections by TLS as `tls` says, or plain ones.
    pub(super) fn new(tls: Option<Arc<ClientConfig>>) -> Self {
        let tcp = actix_tls::connect::Connector::default().service();
        Self { tcp, tls: tls.map(TlsConnector::from) }
    }
}

impl Service<ConnectInfo<Uri>> for Connect {
    type Response = Connection<Uri, SkipInterim<Transport>>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<ConnectInfo<Uri>>::poll_ready(&self.tcp, cx)
    }

    fn call(&self, to: ConnectInfo<Uri>) -> Self::Future {
        let (connecting, tls) = (self.tcp.call(to), self.tls.clone());
        Box::pin(async move {
            let connection = connecting.await?;
            let host = connection.hostname().to_owned();
            let (stream, connection) = connection.replace_io(());
            let transport = match tls {
                None => Transport::Plain(stream),
                Some(tls) => {
                    let host = ServerName::try_from(host)
                        .map_err(|error| ConnectError::Io(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
                    Transport::Tls(Box::new(tls.connect(host, stream).await.map_err(ConnectError::Io)?))
                }
            };
            Ok(connection.replace_io(SkipInterim::new(transport)).1)
        })
    }
}

/// A connection.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl ActixStream for Transport {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_read_ready(self.tcp(), cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_write_ready(self.tcp(), cx)
    }
}
