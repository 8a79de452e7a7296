//! A server written on plain sockets, for responses that no HTTP server would send.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use socket2::SockRef;

use super::support::PATIENCE;

/// Accepts the next connection, reads one request, and returns both.
#[track_caller]
pub(crate) fn take_request(listener: &TcpListener) -> (TcpStream, String) {
    // This timeout applies to `accept` as well.
    SockRef::from(listener).set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let request = read_request(&mut stream);
    (stream, request)
}

#[track_caller]
pub(crate) fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        request.push(byte[0]);
    }
    let mut request = String::from_utf8(request).unwrap();
    let length = request.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap()];
    stream.read_exact(&mut body).unwrap();
    request.push_str(&String::from_utf8(body).unwrap());
    request
}

/// Answers as PagerDuty does when it accepts an event.
pub(crate) fn answer_success(stream: &mut TcpStream) {
    let body = r#"{"status":"success","message":"Event processed","incident_key":"1"}"#;
    let length = body.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .unwrap();
}
