//! The body that is posted: a recorded one, changed to the wanted size, with a new issue each time.

use std::io::{IoSlice, Write};

use serde_json::{Value, json};

const RECORDED: &str = include_str!("../../fixtures/legacy-9.1/node-exception.json");

/// The fields that a small body can do without, the largest first.
const OPTIONAL: [&str; 10] =
    ["exception", "sdk", "breadcrumbs", "errors", "hashes", "tags", "fingerprint", "user", "grouping_config", "extra"];

/// The maximum number of frames of a stack that Sentry keeps.
const MAX_FRAMES: usize = 250;

/// The placeholder for the number of the issue.
const ISSUE: &str = "0000000000";

/// The size of the body in most measurements, in bytes: that of the project's first sketch.
pub(crate) const USUAL: usize = 13_000;

/// A request, split at the issue's number.
pub(crate) struct Sample {
    before: Vec<u8>,
    after: Vec<u8>,
    head: usize,
}

impl Sample {
    /// The recorded body at about `size` bytes: a small one without the optional fields, a large one with repeated stack
    /// frames, and from 250 frames on with log lines of the client.
    pub(crate) fn new(size: usize) -> Self {
        let mut body: Value = serde_json::from_str(RECORDED).unwrap();
        for name in OPTIONAL {
            if length(&body) > size {
                body["event"].as_object_mut().unwrap().remove(name);
            }
        }
        grow(&mut body, size);
        Self::of(body)
    }

    /// The recorded body at the usual size, for another project.
    pub(crate) fn of_project(project: &str) -> Self {
        let mut body: Value = serde_json::from_str(RECORDED).unwrap();
        for name in ["project", "project_slug", "project_name"] {
            body[name] = project.into();
        }
        grow(&mut body, USUAL);
        Self::of(body)
    }

    fn of(mut body: Value) -> Self {
        body["id"] = ISSUE.into();
        let body = serde_json::to_string(&body).unwrap();
        let issue = body.find(ISSUE).unwrap();
        let head = format!(
            "POST /sentry/{} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            crate::server::TOKEN,
            body.len()
        );
        let before = [head.as_bytes(), &body.as_bytes()[..issue]].concat();
        Self { before, after: body.as_bytes()[issue + ISSUE.len()..].to_vec(), head: head.len() }
    }

    /// The length of the body.
    pub(crate) fn len(&self) -> usize {
        self.before.len() - self.head + ISSUE.len() + self.after.len()
    }

    /// The body for this issue, without the head of the request.
    pub(crate) fn body(&self, issue: u64) -> Vec<u8> {
        [&self.before[self.head..], number(issue).as_slice(), &self.after].concat()
    }

    /// The parts of the request for the issue with this number, see [`number`].
    pub(crate) fn parts<'a>(&'a self, number: &'a [u8; 10]) -> [IoSlice<'a>; 3] {
        [IoSlice::new(&self.before), IoSlice::new(number), IoSlice::new(&self.after)]
    }
}

/// An issue's number as it is written in a body.
pub(crate) fn number(issue: u64) -> [u8; 10] {
    let mut digits = [0; 10];
    write!(digits.as_mut_slice(), "{issue:010}").unwrap();
    digits
}

fn length(body: &Value) -> usize {
    serde_json::to_string(body).unwrap().len()
}

/// Enlarges a body to about `size` bytes.
fn grow(body: &mut Value, size: usize) {
    let mut missing = size.saturating_sub(length(body));
    if let Some(Value::Array(frames)) = body.pointer_mut("/event/exception/values/0/stacktrace/frames") {
        for frame in frames.clone().iter().cycle() {
            let length = serde_json::to_string(frame).unwrap().len();
            if frames.len() >= MAX_FRAMES || missing < length {
                break;
            }
            missing -= length + 1;
            frames.push(frame.clone());
        }
    }
    let line = json!({"at": 1_764_152_000.125, "level": "info", "message": "GET /cart \"200\" 12 ms", "rows": [1, 2, 3], "cached": null});
    let length = serde_json::to_string(&line).unwrap().len() + 1;
    if missing > length {
        body["event"]["extra"] = json!({"log": vec![line; missing / length]});
    }
}
