//! The body that is posted: a recorded one, made as large as Sentry's usually are, with a new issue each time.

use std::io::Write;

const RECORDED: &str = include_str!("../../fixtures/legacy-9.1/node-exception.json");

/// The size of the body that the project's first sketch was measured with, in bytes.
const SIZE: usize = 13_000;

/// The request up to the issue's number, and from there on.
pub(crate) struct Sample {
    before: Vec<u8>,
    after: Vec<u8>,
    length: usize,
}

impl Sample {
    /// The recorded body with its stack repeated until it is large enough.
    pub(crate) fn new() -> Self {
        let mut body: serde_json::Value = serde_json::from_str(RECORDED).unwrap();
        let frames = body["event"]["exception"]["values"][0]["stacktrace"]["frames"].as_array_mut().unwrap();
        let recorded = frames.clone();
        let missing = SIZE.saturating_sub(RECORDED.len());
        let mut added = 0;
        for frame in recorded.iter().cycle() {
            if added >= missing {
                break;
            }
            added += serde_json::to_string(frame).unwrap().len();
            frames.push(frame.clone());
        }
        body["id"] = "0000000000".into();
        let body = serde_json::to_string(&body).unwrap();
        let issue = body.find("0000000000").unwrap();
        let head = format!(
            "POST /sentry/{} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            crate::server::TOKEN,
            body.len()
        );
        let before = [head.as_bytes(), &body.as_bytes()[..issue]].concat();
        Self { before, after: body.as_bytes()[issue + 10..].to_vec(), length: body.len() }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Writes a whole request for this issue into `request`.
    pub(crate) fn write(&self, issue: u64, request: &mut Vec<u8>) {
        request.clear();
        request.extend_from_slice(&self.before);
        write!(request, "{issue:010}").unwrap();
        request.extend_from_slice(&self.after);
    }
}
