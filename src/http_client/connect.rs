//! Connections for `awc`: plain or with TLS, and without interim responses.
//!
//! A server or a proxy may send any number of 1xx responses before the final one, whether the client expects them or not
//! (RFC 9110, 15.2), and some send `100 Continue` to any request. `awc` mistakes the first response for the final one and
//! drops whatever follows with the connection's buffer, so [`SkipInterim`] removes interim responses from the stream
//! first. `awc` would put TLS on top of a custom connector, outside of that filter, so TLS is set up here and `awc` is
//! given an `http` address.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

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

/// How many interim responses are skipped before a final response; the next one is passed on.
const MAX_INTERIM: u32 = 32;

/// The longest head of an interim response, in bytes; a longer one is passed on.
const MAX_HEAD: usize = 16 * 1024;

/// How much is read at once, in bytes, while it is not known whether a response is an interim one.
const CHUNK: usize = 4 * 1024;

/// Opens connections.
#[derive(Clone)]
pub(super) struct Connect {
    tcp: ConnectorService,
    /// `None` for plain connections.
    tls: Option<TlsConnector>,
}

impl Connect {
    /// Makes a connector with this TLS configuration, or one for plain connections.
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

/// A connection from which interim responses are removed. The client has to read the response to a request before it sends
/// the next request.
#[derive(Debug)]
pub(super) struct SkipInterim<Io> {
    io: Io,
    heads: Heads,
}

impl<Io> SkipInterim<Io> {
    pub(super) fn new(io: Io) -> Self {
        Self { io, heads: Heads::default() }
    }
}

/// The part of a response that was read and not passed on yet.
#[derive(Debug, Default)]
struct Heads {
    held: Vec<u8>,
    /// No head ends before this offset.
    searched: usize,
    /// Whether the final response has begun.
    is_final: bool,
    skipped: u32,
}

/// What the first bytes of a response are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Beginning {
    /// An interim response with this many bytes.
    Interim(usize),
    /// A final response, or something that is not a response.
    Final,
    /// More bytes are needed to decide.
    Incomplete,
}

impl Heads {
    /// Prepares for the response to a new request.
    fn restart(&mut self) {
        self.is_final = false;
        self.searched = 0;
        self.skipped = 0;
    }

    /// Removes the interim responses that are complete. Returns whether more has to be read before anything is passed on.
    fn wants_more(&mut self) -> bool {
        while !self.is_final {
            match beginning(&self.held, self.searched) {
                Beginning::Interim(length) if self.skipped < MAX_INTERIM => {
                    self.held.drain(..length);
                    self.searched = 0;
                    self.skipped += 1;
                }
                Beginning::Incomplete if self.held.len() < MAX_HEAD => {
                    self.searched = self.held.len().saturating_sub(2);
                    return true;
                }
                Beginning::Interim(_) | Beginning::Incomplete | Beginning::Final => self.is_final = true,
            }
        }
        false
    }
}

/// What `bytes` begin with; no head ends before `searched`. `101 Switching Protocols` is final: no other HTTP response
/// follows it.
fn beginning(bytes: &[u8], searched: usize) -> Beginning {
    const STATUS_LINE: &[u8; 12] = b"HTTP/1._ 1__";
    let fits = |(byte, pattern): (&u8, &u8)| if *pattern == b'_' { byte.is_ascii_digit() } else { byte == pattern };
    if !bytes.iter().zip(STATUS_LINE).all(fits) {
        return Beginning::Final;
    }
    if bytes.get(9..STATUS_LINE.len()) == Some(b"101") {
        return Beginning::Final;
    }
    // The head ends with an empty line; a bare line feed ends a line as well (RFC 9112, 2.2).
    let lines = bytes.iter().enumerate().skip(searched);
    let ends = lines.filter(|(_, byte)| **byte == b'\n').map(|(offset, _)| offset + 1);
    for end in ends {
        match &bytes[end..] {
            [b'\n', ..] => return Beginning::Interim(end + 1),
            [b'\r', b'\n', ..] => return Beginning::Interim(end + 2),
            _ => {}
        }
    }
    Beginning::Incomplete
}

impl<Io: AsyncRead + Unpin> AsyncRead for SkipInterim<Io> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { io, heads } = self.get_mut();
        while heads.wants_more() {
            let mut chunk = [0; CHUNK];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut *io).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                // The connection ended within a head: the client gets the bytes unchanged.
                heads.is_final = true;
            }
            heads.held.extend_from_slice(read.filled());
        }
        if heads.held.is_empty() {
            return Pin::new(io).poll_read(cx, buf);
        }
        let length = heads.held.len().min(buf.remaining());
        buf.put_slice(&heads.held[..length]);
        heads.held.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for SkipInterim<Io> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { io, heads } = self.get_mut();
        heads.restart();
        Pin::new(io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

impl<Io: ActixStream> ActixStream for SkipInterim<Io> {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        if self.heads.held.is_empty() { self.io.poll_read_ready(cx) } else { Poll::Ready(Ok(Ready::READABLE)) }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        self.io.poll_write_ready(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    /// What a client reads if the response arrives in pieces of this many bytes.
    async fn read(answer: &str, piece: usize) -> String {
        let (server, mut client) = tokio::io::duplex(piece);
        let mut server_side = server;
        let (mut connection, answer) = (SkipInterim::new(&mut client), answer.to_owned());
        let write = async move {
            server_side.write_all(answer.as_bytes()).await.unwrap();
            drop(server_side);
        };
        let mut text = String::new();
        let ((), read) = tokio::join!(write, connection.read_to_string(&mut text));
        read.unwrap();
        text
    }

    #[tokio::test]
    async fn interim_answers_are_taken_out_wherever_they_are_cut() {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        let bare = "HTTP/1.0 100 Continue\n\n";
        for before in ["", "HTTP/1.1 100 Continue\r\n\r\n", hints, bare, "HTTP/1.1 199\r\n\r\n"] {
            for piece in [1, 2, 3, 7, 11, 12, 13, 26, 64, 4096] {
                let answer = [before, hints, before, OK].concat();
                assert_eq!(read(&answer, piece).await, OK, "{before:?} in pieces of {piece}");
            }
        }
    }

    #[tokio::test]
    async fn all_else_passes_as_it_is() {
        let unending = format!("HTTP/1.1 100 {}", "x".repeat(2 * MAX_HEAD));
        let texts = [
            OK,
            "",
            "HTTP/1.1 1",
            "HTTP/1.1 100 Continue\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\nanything",
            "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/2 100\r\n\r\n",
            "SSH-2.0-OpenSSH\r\n\r\n",
            &unending,
        ];
        for text in texts {
            for piece in [1, 5, 4096] {
                assert_eq!(read(text, piece).await, text, "in pieces of {piece}");
            }
        }
    }

    #[tokio::test]
    async fn a_server_that_never_comes_to_the_point_is_shown_as_it_is() {
        let interim = "HTTP/1.1 100 Continue\r\n\r\n";
        let number = usize::try_from(MAX_INTERIM).unwrap();
        assert_eq!(read(&[&interim.repeat(number), OK].concat(), 4096).await, OK);
        assert_eq!(read(&interim.repeat(number + 2), 4096).await, interim.repeat(2));
    }

    #[tokio::test]
    async fn each_request_has_interim_answers_of_its_own() {
        let (mut server, client) = tokio::io::duplex(4096);
        let mut client = SkipInterim::new(client);
        for _ in 0..3 {
            client.write_all(b"request").await.unwrap();
            server.read_exact(&mut [0; 7]).await.unwrap();
            server.write_all(["HTTP/1.1 100 Continue\r\n\r\n", OK].concat().as_bytes()).await.unwrap();
            let mut answer = vec![0; OK.len()];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, OK.as_bytes());
        }
    }
}
