//! A visitor who looks at the bridge with a browser.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::server::ADMIN_TOKEN;

/// The pages that are requested. A page that the bridge does not serve is left out.
const PATHS: [&str; 2] = ["/metrics", "/"];

/// A browser that is logged in, if the bridge has a login.
pub(crate) struct Visitor {
    address: SocketAddr,
    cookie: String,
}

impl Visitor {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let form = format!("token={ADMIN_TOKEN}");
        let request = format!(
            "POST /login HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
        let answer = exchange(address, &request);
        let cookies = answer.lines().filter_map(|line| line.split_once(": "));
        let cookie = cookies.filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")).map(|(_, value)| value).next();
        let cookie = cookie.and_then(|cookie| cookie.split(';').next()).unwrap_or_default().to_owned();
        Self { address, cookie }
    }

    /// The pages that the bridge serves.
    pub(crate) fn paths(&self) -> Vec<&'static str> {
        PATHS.into_iter().filter(|path| self.get(path)).collect()
    }

    /// Requests this page, and returns whether the bridge serves it.
    pub(crate) fn get(&self, path: &str) -> bool {
        let Self { address, cookie } = self;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
        exchange(*address, &request).starts_with("HTTP/1.1 200")
    }
}

fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
